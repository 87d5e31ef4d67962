#include "trainers/process_group.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <functional>
#include <utility>

#include <torch/torch.h>
#ifdef ZOO_DISTRIBUTED
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>
#endif

#include "core/error.h"
#include "core/text.h"

namespace zoo {

namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

/// A whole number of the environment in low…high.
int64_t number(const char* name, int64_t low, int64_t high) {
  const std::string text = variable(name);
  int64_t value = 0;
  if (parse_int(text, value) && value >= low && value <= high) return value;
  throw UsageError(name + (text.empty() ? " is not set" : "=" + text) +
                   format(", expected a whole number in %lld..%lld", static_cast<long long>(low),
                          static_cast<long long>(high)));
}

torch::Tensor bytes_of(const std::string& text, int64_t size) {
  torch::Tensor bytes = torch::zeros({1, size}, torch::kByte);
  std::copy(text.begin(), text.end(), bytes.data_ptr<uint8_t>());
  return bytes;
}

std::string text_of(const torch::Tensor& bytes, int64_t size) {
  const auto* begin = bytes.data_ptr<uint8_t>();
  return {begin, begin + size};
}

}  // namespace

ProcessOptions process_options() {
  constexpr int64_t kMostRanks = 1 << 16, kMostPorts = 65535;
  ProcessOptions options;
  if (variable("WORLD_SIZE").empty()) return options;
  options.ranks = number("WORLD_SIZE", 1, kMostRanks);
  if (options.ranks == 1) return options;
  options.rank = number("RANK", 0, options.ranks - 1);
  options.address = variable("MASTER_ADDR");
  if (options.address.empty()) {
    throw UsageError("MASTER_ADDR is not set, expected the host that rank 0 runs on");
  }
  options.port = number("MASTER_PORT", 1, kMostPorts);
  options.interface = variable("GLOO_SOCKET_IFNAME");
  options.launcher_store = lower(variable("TORCHELASTIC_USE_AGENT_STORE")) == "true";
  if (options.launcher_store) options.attempt = number("TORCHELASTIC_RESTART_COUNT", 0, kMostRanks);
  return options;
}

std::vector<std::string> gather_texts(Ranks& ranks, const std::string& text) {
  const torch::Tensor sizes = ranks.gather(torch::full({1}, static_cast<int64_t>(text.size()), torch::kLong));
  const torch::Tensor bytes = ranks.gather(bytes_of(text, sizes.max().item<int64_t>() + 1));
  std::vector<std::string> texts;
  for (int64_t rank = 0; rank < ranks.count(); ++rank) {
    texts.push_back(text_of(bytes[rank], sizes[rank].item<int64_t>()));
  }
  return texts;
}

std::string broadcast_text(Ranks& ranks, const std::string& text) {
  const torch::Tensor size = torch::full({1}, static_cast<int64_t>(text.size()), torch::kLong);
  ranks.broadcast(size);
  const auto length = size.item<int64_t>();
  torch::Tensor bytes = ranks.rank() == 0 ? bytes_of(text, length + 1) : bytes_of("", length + 1);
  ranks.broadcast(bytes);
  return text_of(bytes, length);
}

#ifdef ZOO_DISTRIBUTED

namespace {

// The longest wait for a process that computes its share of a step.
constexpr std::chrono::minutes kPatience{30};
// For rank 0, which alone validates and writes; one that has ended is noticed at once in any case.
constexpr std::chrono::hours kEndlessly{24 * 365};

/// What failed, without the place in gloo's sources before it and the advice behind it.
std::string cause(const std::exception& error) {
  const std::string text = error.what();
  const std::string line = text.substr(0, text.find('\n'));
  const size_t place = starts_with(line, "[") ? line.find("] ") : std::string::npos;
  const size_t begin = place == std::string::npos ? 0 : place + 2;
  return line.substr(begin, line.find(". This is typically", begin) - begin);
}

[[noreturn]] void lost(const std::exception& error) {
  throw Error("another process of this training has ended or cannot be reached: " + cause(error),
              "the first error of all processes tells why");
}

bool is_loopback(const std::string& address) {
  return address == "localhost" || address == "::1" || starts_with(address, "127.");
}

std::string own_name() {
  char name[256] = "";
  ::gethostname(name, sizeof name - 1);
  return name;
}

/// Drops the reducer's own warnings: that it looks for unused parameters where there are none, which only a
/// walk over the graph can tell, and that 1x1 kernels have two strides that mean the same.
class WithoutReducerWarnings : public c10::WarningHandler {
 public:
  void process(const c10::Warning& warning) override {
    const std::string file = warning.source_location().file;
    if (!ends_with(file, "reducer.cpp")) c10::WarningHandler::process(warning);
  }
};

/// Averages by c10d's reducer: buckets of gradients are on their way while the backward pass goes on.
class ReducedGradients : public GradientAverage {
 public:
  ReducedGradients(const std::vector<torch::Tensor>& parameters,
                   const c10::intrusive_ptr<c10d::ProcessGroup>& group) {
    const std::vector<bool> sparse(parameters.size(), false);
    std::vector<std::vector<size_t>> buckets = std::get<0>(c10d::compute_bucket_assignment_by_size(
        parameters, {c10d::kDefaultFirstBucketBytes, c10d::kDefaultBucketBytesCap}, sparse));
    std::reverse(buckets.begin(), buckets.end());  // gradients come from the last layer on
    reducer_ = std::make_unique<c10d::Reducer>(
        parameters, std::move(buckets), group, sparse, c10d::kDefaultBucketBytesCap,
        /*find_unused_parameters=*/true, /*gradient_as_bucket_view=*/false,
        std::unordered_map<size_t, std::string>(), c10d::kDefaultFirstBucketBytes,
        /*skip_all_reduce_unused_params=*/false, /*use_python_reducer=*/false, std::vector<int64_t>());
  }
  ~ReducedGradients() override { reducer_->remove_autograd_hooks(); }

  void backward(const torch::Tensor& loss) override {
    WithoutReducerWarnings handler;
    const c10::WarningUtils::WarningHandlerGuard guard(&handler);
    try {
      reducer_->prepare_for_backward({loss});
      loss.backward();
    } catch (const Error&) {
      throw;
    } catch (const std::exception& error) {
      if (std::string(error.what()).find("gloo") != std::string::npos) lost(error);
      throw;
    }
  }

 private:
  std::unique_ptr<c10d::Reducer> reducer_;
};

class GlooGroup : public ProcessGroup {
 public:
  explicit GlooGroup(const ProcessOptions& options) : rank_(options.rank), count_(options.ranks) {
    c10d::TCPStoreOptions store_options;
    store_options.port = static_cast<uint16_t>(options.port);
    store_options.isServer = options.rank == 0 && !options.launcher_store;
    store_options.numWorkers = static_cast<size_t>(options.ranks);
    const auto store = c10::make_intrusive<c10d::PrefixStore>(
        "zoo/attempt_" + std::to_string(options.attempt),
        c10::make_intrusive<c10d::TCPStore>(options.address, store_options));
    const auto rank = static_cast<int>(rank_), count = static_cast<int>(count_);
    auto gloo_options = c10d::ProcessGroupGloo::Options::create(kPatience);
    gloo_options->devices.push_back(
        options.interface.empty() ? c10d::ProcessGroupGloo::createDeviceForHostname(
                                        is_loopback(options.address) ? options.address : own_name())
                                  : c10d::ProcessGroupGloo::createDeviceForInterface(options.interface));
    gloo_ = c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, count, gloo_options);
    group_ = c10::make_intrusive<c10d::ProcessGroup>(store, rank, count);
    group_->setBackend(torch::kCPU, c10d::ProcessGroup::BackendType::GLOO, gloo_);
    group_->setDefaultBackend(c10d::ProcessGroup::BackendType::GLOO);
  }

  int64_t rank() const override { return rank_; }
  int64_t count() const override { return count_; }

  void sum(torch::Tensor values) override { reduce(values, c10d::ReduceOp::SUM); }
  void maximum(torch::Tensor values) override { reduce(values, c10d::ReduceOp::MAX); }

  void broadcast(torch::Tensor values) override {
    c10d::BroadcastOptions options;
    options.timeout = kEndlessly;
    in_place(values, [&](std::vector<torch::Tensor>& tensors) { return gloo_->broadcast(tensors, options); });
  }

  torch::Tensor gather(const torch::Tensor& rows) override {
    std::vector<torch::Tensor> mine = {rows.contiguous()};
    std::vector<std::vector<torch::Tensor>> all = {places(rows)};
    wait([&] { return gloo_->allgather(all, mine); });
    return torch::cat(all[0]);
  }

  torch::Tensor collect(const torch::Tensor& rows) override {
    std::vector<torch::Tensor> mine = {rows.contiguous()};
    std::vector<std::vector<torch::Tensor>> all;
    if (rank_ == 0) all = {places(rows)};
    wait([&] { return gloo_->gather(all, mine); });
    return rank_ == 0 ? torch::cat(all[0]) : torch::Tensor();
  }

  std::unique_ptr<GradientAverage> average_gradients(const std::vector<torch::Tensor>& parameters) override {
    return std::make_unique<ReducedGradients>(parameters, group_);
  }

 private:
  using Start = std::function<c10::intrusive_ptr<c10d::Work>()>;

  static void wait(const Start& start) {
    try {
      start()->wait();
    } catch (const std::exception& error) {
      lost(error);
    }
  }

  /// Runs a collective on values that it needs contiguous.
  static void in_place(
      const torch::Tensor& values,
      const std::function<c10::intrusive_ptr<c10d::Work>(std::vector<torch::Tensor>& tensors)>& start) {
    const torch::NoGradGuard no_grad;
    std::vector<torch::Tensor> tensors = {values.detach().contiguous()};
    wait([&] { return start(tensors); });
    if (!values.is_contiguous()) values.detach().copy_(tensors[0]);
  }

  void reduce(const torch::Tensor& values, c10d::ReduceOp::RedOpType what) {
    c10d::AllreduceOptions options;
    options.reduceOp = what;
    in_place(values, [&](std::vector<torch::Tensor>& tensors) { return gloo_->allreduce(tensors, options); });
  }

  std::vector<torch::Tensor> places(const torch::Tensor& rows) const {
    std::vector<torch::Tensor> list;
    for (int64_t i = 0; i < count_; ++i)
      list.push_back(torch::empty_like(rows, torch::MemoryFormat::Contiguous));
    return list;
  }

  int64_t rank_, count_;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> gloo_;
  c10::intrusive_ptr<c10d::ProcessGroup> group_;
};

}  // namespace

bool has_process_groups() {
  return true;
}

std::shared_ptr<ProcessGroup> join_processes(const ProcessOptions& options) {
  if (options.ranks == 1) return nullptr;
  try {
    return std::make_shared<GlooGroup>(options);
  } catch (const std::exception& error) {
    throw Error(format("rank %lld cannot join the processes of this training at %s:%lld: ",
                       static_cast<long long>(options.rank), options.address.c_str(),
                       static_cast<long long>(options.port)) +
                    cause(error),
                "MASTER_ADDR and MASTER_PORT must be the same in all, and the port free at rank 0; "
                "GLOO_SOCKET_IFNAME names this machine's network interface");
  }
}

#else

bool has_process_groups() {
  return false;
}

std::shared_ptr<ProcessGroup> join_processes(const ProcessOptions& options) {
  if (options.ranks == 1) return nullptr;
  throw Error("WORLD_SIZE=" + std::to_string(options.ranks) +
              ": zoo was built without gloo's headers, expected a build with libgloo-dev installed and "
              "-DZOO_DISTRIBUTED=ON");
}

#endif

}  // namespace zoo
