// One engine of bench/ldm.py: a part of Stable Diffusion 1.5 with random weights, as zoo runs it.
//
//   ldm PART PRECISION STEPS THREADS     PART: text_encoder | unet | vae_decoder, PRECISION: fp32 | bf16
//
// Prints {"seconds": [...], "peak_bytes", "base_bytes", "precision", "fallback"}: seconds of each run after the
// first two, peak memory of the process, its memory with the weights made, what ran in the end and why not what was
// asked for.
#include <sys/resource.h>

#include <chrono>
#include <iostream>
#include <string>

#include <ATen/Parallel.h>
#include <torch/torch.h>

#include "core/error.h"
#include "core/options.h"
#include "models/ldm/traces.h"
#include "models/runtime/runtime.h"

namespace zoo {
namespace {

int64_t peak_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

/// A prompt and the empty one; latents of a picture of 512x512.
std::vector<torch::Tensor> part_inputs(const std::string& part) {
  if (part == "text_encoder") return {torch::randint(49408, {2, 77}, torch::kLong)};
  if (part == "vae_decoder") return {torch::randn({1, 4, 64, 64})};
  return {torch::randn({2, 4, 64, 64}), torch::full({2}, 500.0), torch::randn({2, 77, 768})};
}

/// The tensors of the other parts need no memory.
LdmOptions only_part(const std::string& part) {
  LdmOptions options = sd15();
  if (part != "unet") options.unet.block_out_channels = {32, 32, 32, 32};
  if (part != "vae_decoder") options.autoencoder.block_out_channels = {32};
  return options;
}

Json measure(const std::string& part, const std::string& precision, int steps) {
  const torch::NoGradGuard no_grad;
  torch::manual_seed(0);
  Ldm ldm(only_part(part));
  // Some layers start at 0, which arithmetic may be faster with.
  for (torch::Tensor& parameter : ldm->unet->parameters()) {
    if (parameter.dim() > 1) parameter.normal_(0, 1 / std::sqrt(static_cast<double>(parameter[0].numel())));
  }
  ldm->eval();
  RuntimeOptions options;
  options.precision = precision;
  for (auto& [name, spec] : ldm_trace_specs(ldm)) {
    if (name != part) continue;
    options.probe = spec.example(0);
    const int64_t base = peak_bytes();
    Runtime runtime(spec, options);
    const std::vector<torch::Tensor> inputs = part_inputs(part);
    Json seconds = Json::array();
    for (int step = 0; step < steps + 2; ++step) {
      const auto start = std::chrono::steady_clock::now();
      runtime.run(inputs);
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
      if (step >= 2) seconds.push_back(took.count());
    }
    return {{"seconds", seconds},
            {"peak_bytes", peak_bytes()},
            {"base_bytes", base},
            {"precision", runtime.precision()},
            {"fallback", runtime.fallback()}};
  }
  throw UsageError("no part '" + part + "', expected text_encoder, unet or vae_decoder");
}

}  // namespace
}  // namespace zoo

int main(int count, char** arguments) {
  if (count != 5) {
    std::cerr << "error: expected PART PRECISION STEPS THREADS\n";
    return 2;
  }
  try {
    at::set_num_threads(std::stoi(arguments[4]));
    std::cout << zoo::measure(arguments[1], arguments[2], std::stoi(arguments[3])) << "\n";
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
  }
  return 0;
}
