#include "models/layers/recurrent.h"

#include <cmath>
#include <utility>
#include <vector>

#include <ATen/autocast_mode.h>
#include <torch/torch.h>

namespace zoo {

namespace {

/// Inputs and gradients of the uses that the backward pass has seen.
struct WeightUses : torch::CustomClassHolder {
  std::vector<torch::Tensor> inputs, gradients;  // [R,I], [R,O]
};

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;
using UsesPointer = c10::intrusive_ptr<torch::CustomClassHolder>;

void keep_uses(AutogradContext* context, const UsesPointer& uses) {
  context->saved_data["uses"] = c10::IValue::make_capsule(uses);
}

WeightUses& kept_uses(AutogradContext* context) {
  return static_cast<WeightUses&>(*context->saved_data["uses"].toCapsule());
}

/// Weight -> token. Its backward pass comes after those of all uses of the token.
class ShareWeight : public Function<ShareWeight> {
 public:
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& weight,
                               const UsesPointer& uses) {
    keep_uses(context, uses);
    return torch::zeros({}, weight.options());
  }

  static variable_list backward(AutogradContext* context, const variable_list&) {
    WeightUses& uses = kept_uses(context);
    const auto inputs = std::exchange(uses.inputs, {}), gradients = std::exchange(uses.gradients, {});
    return {torch::mm(torch::cat(gradients).t(), torch::cat(inputs)), torch::Tensor()};
  }
};

/// x·Wᵀ; to the token goes a zero, to the record what the gradient of W is made of.
class UseWeight : public Function<UseWeight> {
 public:
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& x, const torch::Tensor& token,
                               const torch::Tensor& weight, const UsesPointer& uses) {
    context->save_for_backward({x, weight, token});
    keep_uses(context, uses);
    return torch::linear(x, weight);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const torch::Tensor &x = saved[0], &weight = saved[1], &gradient = gradients[0];
    if (context->needs_input_grad(1)) {
      WeightUses& uses = kept_uses(context);
      uses.inputs.push_back(x.reshape({-1, x.size(-1)}));
      uses.gradients.push_back(gradient.reshape({-1, gradient.size(-1)}));
    }
    const torch::Tensor of_x = context->needs_input_grad(0) ? gradient.matmul(weight) : torch::Tensor();
    return {of_x, torch::zeros_like(saved[2]), torch::Tensor(), torch::Tensor()};
  }
};

torch::Tensor as_autocast(const torch::Tensor& x) {
  const auto device = x.device().type();
  return at::autocast::is_autocast_enabled(device) ? x.to(at::autocast::get_autocast_dtype(device)) : x;
}

}  // namespace

SharedLinear::SharedLinear(const torch::Tensor& weight, const torch::Tensor& bias)
    : weight_(as_autocast(weight)), bias_(bias.defined() ? as_autocast(bias) : bias) {
  if (!torch::GradMode::is_enabled() || !weight_.requires_grad()) return;
  uses_ = c10::make_intrusive<WeightUses>();
  token_ = ShareWeight::apply(weight_, uses_);
}

torch::Tensor SharedLinear::operator()(const torch::Tensor& x) const {
  if (!token_.defined()) return torch::linear(x, weight_, bias_);
  const torch::Tensor y = UseWeight::apply(x.to(weight_.scalar_type()), token_, weight_.detach(), uses_);
  return bias_.defined() ? y + bias_ : y;
}

LstmCellImpl::LstmCellImpl(int64_t input, int64_t hidden) {
  const double bound = 1 / std::sqrt(static_cast<double>(hidden));
  const auto uniform = [&](const char* name, torch::IntArrayRef shape) {
    return register_parameter(name, torch::nn::init::uniform_(torch::empty(shape), -bound, bound));
  };
  weight_ih = uniform("weight_ih", {4 * hidden, input});
  weight_hh = uniform("weight_hh", {4 * hidden, hidden});
  bias_ih = uniform("bias_ih", {4 * hidden});
  bias_hh = uniform("bias_hh", {4 * hidden});
}

LstmState lstm_update(const torch::Tensor& gates, const torch::Tensor& cell) {
  const auto parts = gates.chunk(4, -1);  // i, f, g, o
  const torch::Tensor next = parts[1].sigmoid() * cell + parts[0].sigmoid() * parts[2].tanh();
  return {parts[3].sigmoid() * next.tanh(), next};
}

}  // namespace zoo
