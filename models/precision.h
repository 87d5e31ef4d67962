#pragma once
#include <string>

#include <ATen/autocast_mode.h>
#include <torch/types.h>

namespace zoo {

/// The element type of a `precision` option: fp32 or bf16.
inline torch::ScalarType precision_type(const std::string& precision) {
  return precision == "bf16" ? torch::kBFloat16 : torch::kFloat;
}

/// Autocast of this thread to `type` while it lives, where `type` is not fp32. One scope a forward pass: the
/// cache of cast weights ends with it, and neither the backward pass nor the optimiser belongs inside.
class AutocastGuard {
 public:
  AutocastGuard(torch::Device device, torch::ScalarType type)
      : device_(device.type()), active_(type != torch::kFloat) {
    if (!active_) return;
    was_enabled_ = at::autocast::is_autocast_enabled(device_);
    old_type_ = at::autocast::get_autocast_dtype(device_);
    at::autocast::set_autocast_dtype(device_, type);
    at::autocast::set_autocast_enabled(device_, true);
    at::autocast::increment_nesting();
  }
  ~AutocastGuard() {
    if (!active_) return;
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(device_, was_enabled_);
    at::autocast::set_autocast_dtype(device_, old_type_);
  }
  AutocastGuard(const AutocastGuard&) = delete;
  AutocastGuard& operator=(const AutocastGuard&) = delete;

 private:
  torch::DeviceType device_;
  bool active_, was_enabled_ = false;
  torch::ScalarType old_type_ = torch::kFloat;
};

}  // namespace zoo
