#pragma once
#include <string>
#include <vector>

#include "models/export/trace.h"

namespace zoo {

struct RuntimeOptions {
  std::string precision = "fp32";  ///< fp32 | bf16
};

class Runtime {
 public:
  Runtime(TraceSpec spec, RuntimeOptions options);
  std::vector<torch::Tensor> run(const std::vector<torch::Tensor>& inputs);
  const std::string& precision() const { return precision_; }
  const std::string& fallback() const { return fallback_; }

 private:
  TraceSpec spec_;
  std::string precision_, fallback_;
};

}  // namespace zoo
