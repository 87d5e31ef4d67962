#include "models/export/torchscript.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <torch/csrc/jit/frontend/tracer.h>
#include <torch/csrc/jit/serialization/import.h>
#include <torch/torch.h>

#include "core/error.h"
#include "core/files.h"
#include "core/numbers.h"
#include "core/text.h"
#include "models/export/traced_graph.h"

namespace zoo {

namespace {

using torch::jit::Module;

constexpr double kTolerance = 1e-4;

/// A script module of the same tree of names that shares the parameters and buffers. A name may begin with a
/// digit, a class may not.
Module mirror(const torch::nn::Module& module, const std::string& class_name,
              const std::shared_ptr<torch::jit::CompilationUnit>& unit) {
  Module script(c10::QualifiedName(class_name), unit);
  for (const auto& item : module.named_parameters(/*recurse=*/false)) {
    script.register_parameter(item.key(), item.value(), /*is_buffer=*/false);
  }
  for (const auto& item : module.named_buffers(/*recurse=*/false)) {
    script.register_buffer(item.key(), item.value());
  }
  for (const auto& item : module.named_children()) {
    script.register_module(item.key(), mirror(*item.value(), class_name + ".m_" + item.key(), unit));
  }
  return script;
}

std::vector<torch::Tensor> as_tensors(const torch::jit::IValue& value) {
  if (value.isTensor()) return {value.toTensor()};
  std::vector<torch::Tensor> tensors;
  for (const auto& element : value.toTupleRef().elements()) tensors.push_back(element.toTensor());
  return tensors;
}

torch::jit::Stack call_spec(const TraceSpec& spec, const torch::jit::Stack& stack) {
  std::vector<torch::Tensor> tensors;
  for (const auto& value : stack) tensors.push_back(value.toTensor());
  const auto outputs = spec.forward(tensors);
  if (outputs.size() == 1) return {outputs[0]};
  return {c10::ivalue::Tuple::create(std::vector<torch::jit::IValue>(outputs.begin(), outputs.end()))};
}

/// While it lives the module is in eval mode with its floating-point tensors in float32 on the CPU;
/// afterwards it is as it was.
class OnCpuInEval {
 public:
  explicit OnCpuInEval(torch::nn::Module& module) : module_(module), training_(module.is_training()) {
    module_.eval();
    for (const torch::Tensor& tensor : module_.parameters()) move(tensor);
    for (const torch::Tensor& tensor : module_.buffers()) move(tensor);
  }
  ~OnCpuInEval() {
    for (auto& [tensor, data] : moved_) tensor.set_data(data);
    module_.train(training_);
  }
  OnCpuInEval(const OnCpuInEval&) = delete;
  OnCpuInEval& operator=(const OnCpuInEval&) = delete;

 private:
  void move(const torch::Tensor& tensor) {
    const torch::ScalarType type = tensor.is_floating_point() ? torch::kFloat : tensor.scalar_type();
    if (tensor.is_cpu() && tensor.scalar_type() == type) return;
    moved_.emplace_back(tensor, tensor.detach());
    tensor.set_data(tensor.detach().to(torch::kCPU, type));
  }

  torch::nn::Module& module_;
  bool training_;
  std::vector<std::pair<torch::Tensor, torch::Tensor>> moved_;  // a tensor and what it held
};

/// Largest difference in parts of the largest value of `expected`; infinite for another shape or type, or
/// NaN.
double difference(const torch::Tensor& found, const torch::Tensor& expected) {
  if (found.sizes() != expected.sizes() || found.scalar_type() != expected.scalar_type()) return kInfinity;
  if (expected.numel() == 0) return 0;
  const torch::Tensor a = found.to(torch::kDouble), b = expected.to(torch::kDouble);
  const double scale = std::max(b.abs().max().item<double>(), 1e-12);
  const double most = (a - b).abs().max().item<double>() / scale;
  return std::isnan(most) ? kInfinity : most;
}

std::string shapes_of(const std::vector<torch::Tensor>& tensors) {
  std::vector<std::string> shapes;
  for (const torch::Tensor& tensor : tensors) {
    std::vector<std::string> sizes;
    for (const int64_t size : tensor.sizes()) sizes.push_back(std::to_string(size));
    shapes.push_back(join(sizes, "x"));
  }
  return join(shapes, ", ");
}

/// What torch tells, without its stack trace.
std::string reason(const c10::Error& error) {
  const std::string text = error.what_without_backtrace();
  return text.substr(0, text.find('\n'));
}

std::vector<torch::Tensor> run(Module& loaded, const std::string& method,
                               const std::vector<torch::Tensor>& inputs, const std::string& path) {
  try {
    return as_tensors(loaded.get_method(method)({inputs.begin(), inputs.end()}));
  } catch (const std::exception&) {  // of torch's interpreter, with a stack trace for message
    throw Error(path + ": the traced model fails on inputs of " + shapes_of(inputs) +
                ", expected one that holds for every size");
  }
}

/// Runs a method of the saved file on every example against the live module; the largest difference.
double check(const TraceSpec& spec, Module& loaded, const std::string& path) {
  double most = 0;
  for (int variant = 0; variant < spec.variants; ++variant) {
    const auto inputs = spec.example(variant);
    const auto expected = spec.forward(inputs);
    const auto found = run(loaded, spec.method, inputs, path);
    for (size_t i = 0; i < expected.size(); ++i) {
      const double far = i < found.size() ? difference(found[i], expected[i]) : kInfinity;
      most = std::max(most, far);
      if (far <= kTolerance) continue;
      throw Error(
          format("%s: on inputs of %s output %zu of the traced model differs from the live one by %g of its "
                 "scale, expected at most %g",
                 path.c_str(), shapes_of(inputs).c_str(), i, far, kTolerance));
    }
  }
  return most;
}

std::shared_ptr<torch::jit::Graph> record(const TraceSpec& spec, const std::vector<torch::Tensor>& inputs,
                                          bool outplace, Module* self) {
  const auto forward = [&](const torch::jit::Stack& stack) { return call_spec(spec, stack); };
  const auto name = [](const torch::Tensor&) { return ""; };
  return torch::jit::tracer::trace({inputs.begin(), inputs.end()}, forward, name, /*strict=*/true, outplace,
                                   self)
      .first->graph;
}

/// A script module with the methods of the specs.
Module trace_module(const std::vector<TraceSpec>& methods) {
  auto unit = std::make_shared<torch::jit::CompilationUnit>();
  Module self = mirror(*methods.front().module, "__torch__.Model", unit);
  for (const TraceSpec& spec : methods) {
    const auto graph = record(spec, spec.example(0), /*outplace=*/false, &self);
    const c10::QualifiedName name(*self.type()->name(), spec.method);
    self.type()->addMethod(unit->create_function(name, graph));
  }
  return self;
}

/// No parameter asks for gradients while it lives: only then the tracer takes them for constants.
class WithoutGradients {
 public:
  explicit WithoutGradients(torch::nn::Module& module) {
    for (torch::Tensor& parameter : module.parameters()) {
      if (parameter.requires_grad()) parameters_.push_back(parameter.set_requires_grad(false));
    }
  }
  ~WithoutGradients() {
    for (torch::Tensor& parameter : parameters_) parameter.set_requires_grad(true);
  }
  WithoutGradients(const WithoutGradients&) = delete;
  WithoutGradients& operator=(const WithoutGradients&) = delete;

 private:
  std::vector<torch::Tensor> parameters_;
};

}  // namespace

std::shared_ptr<torch::jit::Graph> trace_graph(const TraceSpec& spec,
                                               const std::vector<torch::Tensor>& inputs) {
  const WithoutGradients constants(*spec.module);
  return record(spec, inputs, /*outplace=*/true, nullptr);
}

double export_torchscript(const TraceSpec& spec, const std::string& path, const std::string& zoo_json) {
  return export_torchscript(std::vector<TraceSpec>{spec}, path, zoo_json);
}

double export_torchscript(const std::vector<TraceSpec>& methods, const std::string& path,
                          const std::string& zoo_json) {
  const torch::NoGradGuard no_grad;
  const OnCpuInEval ready(*methods.front().module);
  AtomicFile file(path);
  try {
    trace_module(methods).save(file.temporary_path(), {{"zoo.json", zoo_json}});
  } catch (const c10::Error& error) {
    throw Error("cannot write " + path + ": " + reason(error));
  }
  Module loaded = torch::jit::load(file.temporary_path());
  double most = 0;
  for (const TraceSpec& spec : methods) most = std::max(most, check(spec, loaded, path));
  file.commit();
  return most;
}

}  // namespace zoo
