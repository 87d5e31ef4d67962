#include "models/export/torchscript.h"

#include <torch/csrc/jit/frontend/tracer.h>
#include <torch/csrc/jit/serialization/export.h>
#include <torch/csrc/jit/serialization/import.h>
#include <torch/torch.h>

#include "core/error.h"
#include "core/files.h"
#include "core/text.h"

namespace zoo {

namespace {

using torch::jit::Module;

/// A script module of the same tree of names that shares the parameters and buffers.
Module mirror(const torch::nn::Module& module, const std::string& class_name,
              const std::shared_ptr<torch::jit::CompilationUnit>& unit) {
  Module script(c10::QualifiedName(class_name), unit);
  for (const auto& item : module.named_parameters(false)) script.register_parameter(item.key(), item.value(), false);
  for (const auto& item : module.named_buffers(false)) script.register_buffer(item.key(), item.value());
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

Module trace(const TraceSpec& spec) {
  auto unit = std::make_shared<torch::jit::CompilationUnit>();
  Module self = mirror(*spec.module, "__torch__.Model", unit);
  torch::jit::Stack inputs;
  for (const torch::Tensor& input : spec.example(0)) inputs.emplace_back(input);
  const auto run = [&](torch::jit::Stack stack) -> torch::jit::Stack {
    std::vector<torch::Tensor> tensors;
    for (const auto& value : stack) tensors.push_back(value.toTensor());
    const auto outputs = spec.forward(tensors);
    if (outputs.size() == 1) return {outputs[0]};
    return {c10::ivalue::Tuple::create(std::vector<torch::jit::IValue>(outputs.begin(), outputs.end()))};
  };
  auto traced = torch::jit::tracer::trace(inputs, run, [](const torch::autograd::Variable&) { return ""; }, true, false, &self);
  auto* function = unit->create_function(c10::QualifiedName(*self.type()->name(), "forward"), traced.first->graph);
  self.type()->addMethod(function);
  return self;
}

double difference(const std::vector<torch::Tensor>& a, const std::vector<torch::Tensor>& b) {
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i].sizes() != b[i].sizes()) return std::numeric_limits<double>::infinity();
    const double scale = std::max(1.0, b[i].abs().max().item().toDouble());
    most = std::max(most, (a[i] - b[i]).abs().max().item().toDouble() / scale);
  }
  return most;
}

}  // namespace

double export_torchscript(const TraceSpec& spec, const std::string& path, const std::string& zoo_json) {
  constexpr double kTolerance = 1e-4;
  const torch::NoGradGuard no_grad;
  spec.module->eval();
  AtomicFile file(path);
  torch::jit::ExtraFilesMap extra{{"zoo.json", zoo_json}};
  trace(spec).save(file.temporary_path(), extra);
  Module loaded = torch::jit::load(file.temporary_path());
  double most = 0;
  for (int variant = 0; variant < spec.variants; ++variant) {
    const auto inputs = spec.example(variant);
    torch::jit::Stack stack(inputs.begin(), inputs.end());
    const double found = difference(as_tensors(loaded.forward(stack)), spec.forward(inputs));
    if (!(found <= kTolerance)) {
      throw Error(format("%s: the traced model differs from the live one by %g on example %d, expected at most %g",
                         path.c_str(), found, variant, kTolerance));
    }
    most = std::max(most, found);
  }
  file.commit();
  return most;
}

}  // namespace zoo
