#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <torch/types.h>

namespace zoo {

/// `auto` (the first CUDA device where there is one, else the CPU), `cpu`, `cuda` or `cuda:N`. Throws
/// UsageError for any other text, Error where the device is not there.
torch::Device resolve_device(const std::string& name);

/// Seeds the generators of all devices.
void seed_torch(uint64_t seed);

/// States of the generators that training on a device draws from: "cpu", and the device's own.
using RandomStates = std::vector<std::pair<std::string, torch::Tensor>>;
RandomStates random_states(torch::Device device);
void restore_random_states(torch::Device device, const RandomStates& states);

/// Puts the generators back at its end as they were at its beginning: what happens between (a validation)
/// leaves the numbers of training alone.
class RandomStateGuard {
 public:
  explicit RandomStateGuard(torch::Device device) : device_(device), states_(random_states(device)) {}
  ~RandomStateGuard() { restore_random_states(device_, states_); }
  RandomStateGuard(const RandomStateGuard&) = delete;
  RandomStateGuard& operator=(const RandomStateGuard&) = delete;

 private:
  torch::Device device_;
  RandomStates states_;
};

/// Resident memory of the process in bytes, now and at its peak; 0 where the system does not tell.
int64_t resident_memory();
int64_t peak_resident_memory();

}  // namespace zoo
