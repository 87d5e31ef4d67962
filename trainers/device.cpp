#include "trainers/device.h"

#include <ATen/Context.h>
#include <torch/cuda.h>
#include <torch/utils.h>

#include <fstream>
#include <mutex>

#include "core/error.h"
#include "core/text.h"

namespace zoo {

namespace {

at::Generator generator_of(const torch::Device& device) {
  return at::globalContext().defaultGenerator(device);
}

torch::Tensor state_of(const torch::Device& device) {
  at::Generator generator = generator_of(device);
  const std::lock_guard<std::mutex> lock(generator.mutex());
  return generator.get_state();
}

/// A line of /proc/self/status in bytes: "VmRSS:      123456 kB".
int64_t process_status(const std::string& key) {
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line)) {
    if (starts_with(line, key)) return std::stoll(line.substr(key.size())) * 1024;
  }
  return 0;
}

}  // namespace

torch::Device resolve_device(const std::string& name) {
  const std::string expected = ", expected auto, cpu, cuda or cuda:N";
  if (name == "cpu") return torch::kCPU;
  if (name == "auto")
    return torch::cuda::is_available() ? torch::Device(torch::kCUDA, 0) : torch::Device(torch::kCPU);
  int64_t index = 0;
  const bool numbered =
      starts_with(name, "cuda:") && parse_int(name.substr(5), index) && index >= 0 && index < 128;
  if (name != "cuda" && !numbered) throw UsageError("trainer.device: '" + name + "' is no device" + expected);
  const auto count = static_cast<int64_t>(torch::cuda::device_count());
  if (count == 0) {
    throw Error("trainer.device: " + name +
                " is not there: this build of torch finds no CUDA device, expected cpu");
  }
  if (index >= count) {
    throw Error(format("trainer.device: %s is not there, the last of %lld CUDA devices is cuda:%lld",
                       name.c_str(), static_cast<long long>(count), static_cast<long long>(count - 1)));
  }
  return {torch::kCUDA, static_cast<c10::DeviceIndex>(index)};
}

void seed_torch(uint64_t seed) {
  torch::manual_seed(seed);
}

RandomStates random_states(torch::Device device) {
  RandomStates states = {{"cpu", state_of(torch::kCPU)}};
  if (!device.is_cpu()) states.emplace_back("device", state_of(device));
  return states;
}

void restore_random_states(torch::Device device, const RandomStates& states) {
  for (const auto& [name, state] : states) {
    if (name == "device" && device.is_cpu()) continue;
    at::Generator generator = generator_of(name == "cpu" ? torch::Device(torch::kCPU) : device);
    const std::lock_guard<std::mutex> lock(generator.mutex());
    generator.set_state(state);
  }
}

int64_t resident_memory() {
  return process_status("VmRSS:");
}
int64_t peak_resident_memory() {
  return process_status("VmHWM:");
}

}  // namespace zoo
