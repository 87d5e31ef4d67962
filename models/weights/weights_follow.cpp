#include "models/weights/weights_follow.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/library.h>

namespace zoo {

namespace {

using Generator = std::optional<at::Generator>;

/// The dispatcher's key for modes that see every call of their thread first, which nothing in torch itself
/// uses.
constexpr auto kMode = c10::DispatchKey::TESTING_ONLY_GenericMode;

}  // namespace

struct WeightsFollowScope::State {
  std::vector<std::pair<torch::Tensor, c10::Storage>>
      undrawn;  // with the memory that should have been filled
  const c10::impl::IncludeDispatchKeyGuard mode{kMode};

  static thread_local State* current;

  static torch::Tensor& leave_out(torch::Tensor& tensor) {
    current->undrawn.emplace_back(tensor, tensor.storage());
    return tensor;
  }
  static torch::Tensor& uniform(torch::Tensor& tensor, double, double, Generator) {
    return leave_out(tensor);
  }
  static torch::Tensor& normal(torch::Tensor& tensor, double, double, Generator) { return leave_out(tensor); }

  /// Tells the dispatcher of the mode, once, and not at the start of programs that never need it.
  static void install() {
    static torch::Library others(torch::Library::IMPL, "_", kMode, __FILE__, __LINE__);
    static torch::Library drawing(torch::Library::IMPL, "aten", kMode, __FILE__, __LINE__);
    static const bool installed = [] {
      others.fallback(torch::CppFunction::makeFallthrough());
      drawing.impl("uniform_", uniform);
      drawing.impl("normal_", normal);
      return true;
    }();
    static_cast<void>(installed);
  }
};

thread_local WeightsFollowScope::State* WeightsFollowScope::State::current = nullptr;

WeightsFollowScope::WeightsFollowScope() : outer_(State::current) {
  State::install();
  state_ = std::make_unique<State>();
  State::current = state_.get();
}

WeightsFollowScope::~WeightsFollowScope() {
  State::current = outer_;
}

bool WeightsFollowScope::incomplete() const {
  return std::any_of(state_->undrawn.begin(), state_->undrawn.end(), [](const auto& one) {
    const auto& [tensor, memory] = one;
    return tensor.storage().is_alias_of(memory);
  });
}

bool WeightsFollowScope::active() {
  return State::current != nullptr;
}

}  // namespace zoo
