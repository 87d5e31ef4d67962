#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <torch/types.h>

#include "models/weights/state_dict.h"

namespace zoo {

/// One convolution of Inception, and where its padding keeps the map's size.
struct InceptionConvShape {
  std::string name;
  int64_t out = 0, height = 1, width = 1;
  int64_t stride = 1;
  bool padded = true;
};

/// Convolution without a bias, batch norm (eps 0.001), ReLU.
class InceptionConvImpl : public torch::nn::Module {
 public:
  InceptionConvImpl(int64_t in, const InceptionConvShape& shape);

  torch::Tensor forward(const torch::Tensor& x);  ///< [B,C,H,W] -> [B,out,H',W']

  torch::nn::Conv2d conv{nullptr};
  torch::nn::BatchNorm2d bn{nullptr};
};
TORCH_MODULE(InceptionConv);

/// A path through a block: a pool over 3x3 places, then convolutions one after the other.
struct InceptionBranch {
  /// mean: of the places that there are, as TensorFlow pools; thinned: the maximum at every second place.
  enum class Pool { none, mean, maximum, thinned } pool = Pool::none;
  std::vector<InceptionConvShape> convs;
  bool forked = false;  ///< the last two convolutions see the same map, and both are outputs
};

/// Branches beside each other, Szegedy et al. 2015 (arXiv 1512.00567), figures 5 to 7 and 10.
class InceptionBlockImpl : public torch::nn::Module {
 public:
  InceptionBlockImpl(int64_t in, std::vector<InceptionBranch> branches);

  torch::Tensor forward(const torch::Tensor& x);  ///< [B,C,H,W] -> [B,out(),H',W']
  int64_t out() const { return out_; }

 private:
  torch::Tensor follow(const InceptionBranch& branch, const std::vector<InceptionConv>& convs,
                       const torch::Tensor& x);

  std::vector<InceptionBranch> branches_;
  std::vector<std::vector<InceptionConv>> convs_;  // of each branch
  int64_t out_ = 0;
};
TORCH_MODULE(InceptionBlock);

/// What it says of pictures.
struct InceptionRows {
  torch::Tensor features;  ///< [B,2048], the means of the last maps: what FID and KID compare
  torch::Tensor logits;    ///< [B,1008]
};

/// Inception v3 as TensorFlow's graph of 2015-12-05 has it, which published FIDs are computed with: torchvision's
/// network, whose mean pools do not count padding, whose last block pools the maximum, and which tells 1008 classes.
/// Names are those of pytorch-fid's pt_inception-2015-12-05-6726825d.pth.
class InceptionImpl : public torch::nn::Module {
 public:
  static constexpr int64_t kSide = 299, kFeatures = 2048, kClasses = 1008;

  InceptionImpl();

  InceptionRows forward(torch::Tensor x);  ///< [B,3,299,299] of `inception_input`

  InceptionConv Conv2d_1a_3x3{nullptr}, Conv2d_2a_3x3{nullptr}, Conv2d_2b_3x3{nullptr},
      Conv2d_3b_1x1{nullptr}, Conv2d_4a_3x3{nullptr};
  std::vector<InceptionBlock> blocks;  ///< Mixed_5b to Mixed_7c
  torch::nn::Linear fc{nullptr};
};
TORCH_MODULE(Inception);

/// Ways of `inception_input`, the usual one first.
const std::vector<std::string>& inception_resizes();
/// Pictures [B,3,H,W] in 0…1 as the network takes them: [B,3,299,299] in −1…1. `resize` is "bilinear" (pytorch-fid:
/// interpolated between the nearest four pixels, without antialiasing) or "clean" (clean-fid, Parmar et al. 2021, arXiv
/// 2104.11222: bicubic and antialiased as Pillow does it, cut to 0…255, (x − 128) / 128).
torch::Tensor inception_input(const torch::Tensor& pictures, const std::string& resize);

/// Whether the tensors have the names of an Inception v3.
bool is_inception(const StateDict& state);
/// In eval mode. Throws Error where they are no such network's; torchvision's own, trained on other classes, are refused
/// as that.
Inception load_inception(const StateDict& state);

}  // namespace zoo
