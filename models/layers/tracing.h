#pragma once
#include <torch/types.h>

namespace zoo {

/// What a forward pass needs so that a TorchScript trace of it holds for every size and batch: in C++
/// `x.size(i)` is a plain number, which a trace keeps for good.

/// Whether a trace is being recorded: then no value of a tensor may choose a branch.
bool is_tracing();

/// `x` [B,C,H,W] at the height and width of `like` [..,h,w] by nearest neighbour: source row floor(i·H/h), as
/// PyTorch's `nearest` (not `nearest-exact`) has it.
torch::Tensor upsample_nearest_like(const torch::Tensor& x, const torch::Tensor& like);

/// Zeros [B,1,1] of the batch size of `x` [B,N,D]: adding them repeats a tensor for every image, where
/// `expand` would keep the traced batch.
torch::Tensor zeros_per_image(const torch::Tensor& x);

}  // namespace zoo
