#pragma once
#include <ATen/core/ivalue.h>
#include <torch/nn/module.h>
#include <torch/nn/modules/linear.h>
#include <torch/types.h>

namespace zoo {

/// x·Wᵀ + b for weights that one pass uses again and again, as a recurrent network does: the gradient of W is one
/// product over the rows of all uses, at the end of the backward pass, where autograd makes and adds a matrix for each.
/// Rounds as autocast does where it is on when this is made. To be made anew for every forward pass.
class SharedLinear {
 public:
  /// weight [O,I], bias [O] or undefined.
  explicit SharedLinear(const torch::Tensor& weight, const torch::Tensor& bias = {});
  explicit SharedLinear(const torch::nn::Linear& linear) : SharedLinear(linear->weight, linear->bias) {}

  torch::Tensor operator()(const torch::Tensor& x) const;  ///< [..,I] -> [..,O]

 private:
  torch::Tensor weight_, bias_;
  torch::Tensor token_;  ///< [] stands for the weight in the graph; undefined where no gradient is wanted
  c10::intrusive_ptr<torch::CustomClassHolder> uses_;
};

/// Weights of an LSTM cell (Hochreiter and Schmidhuber 1997) under the names of PyTorch's: weight_ih [4H,I], weight_hh
/// [4H,H], bias_ih, bias_hh; gates in the order input, forget, cell, output. Starts as PyTorch's: uniform in ±1/√H.
class LstmCellImpl : public torch::nn::Module {
 public:
  LstmCellImpl(int64_t input, int64_t hidden);

  torch::Tensor bias() const { return bias_ih + bias_hh; }  ///< [4H]

  torch::Tensor weight_ih, weight_hh, bias_ih, bias_hh;
};
TORCH_MODULE(LstmCell);

struct LstmState {
  torch::Tensor hidden, cell;  ///< [B,H]
};

/// The state that follows: gates [B,4H] before their activations, cell [B,H].
LstmState lstm_update(const torch::Tensor& gates, const torch::Tensor& cell);

}  // namespace zoo
