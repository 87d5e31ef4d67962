#include "models/inception/inception.h"

#include <torch/torch.h>

#include <utility>

#include "core/error.h"
#include "core/options.h"
#include "models/shape_text.h"
#include "models/weights/weights_follow.h"

namespace zoo {

namespace {

using Pool = InceptionBranch::Pool;

/// Mixed_5b to Mixed_5d: 35x35 places.
std::vector<InceptionBranch> wide_block(int64_t pooled) {
  return {{Pool::none, {{"branch1x1", 64}}},
          {Pool::none, {{"branch5x5_1", 48}, {"branch5x5_2", 64, 5, 5}}},
          {Pool::none, {{"branch3x3dbl_1", 64}, {"branch3x3dbl_2", 96, 3, 3}, {"branch3x3dbl_3", 96, 3, 3}}},
          {Pool::mean, {{"branch_pool", pooled}}}};
}

/// Mixed_6a: to 17x17 places.
std::vector<InceptionBranch> first_reduction() {
  return {{Pool::none, {{"branch3x3", 384, 3, 3, 2, false}}},
          {Pool::none,
           {{"branch3x3dbl_1", 64}, {"branch3x3dbl_2", 96, 3, 3}, {"branch3x3dbl_3", 96, 3, 3, 2, false}}},
          {Pool::thinned, {}}};
}

/// Mixed_6b to Mixed_6e: 7x7 convolutions taken apart.
std::vector<InceptionBranch> factored_block(int64_t inner) {
  return {{Pool::none, {{"branch1x1", 192}}},
          {Pool::none, {{"branch7x7_1", inner}, {"branch7x7_2", inner, 1, 7}, {"branch7x7_3", 192, 7, 1}}},
          {Pool::none,
           {{"branch7x7dbl_1", inner},
            {"branch7x7dbl_2", inner, 7, 1},
            {"branch7x7dbl_3", inner, 1, 7},
            {"branch7x7dbl_4", inner, 7, 1},
            {"branch7x7dbl_5", 192, 1, 7}}},
          {Pool::mean, {{"branch_pool", 192}}}};
}

/// Mixed_7a: to 8x8 places.
std::vector<InceptionBranch> second_reduction() {
  return {{Pool::none, {{"branch3x3_1", 192}, {"branch3x3_2", 320, 3, 3, 2, false}}},
          {Pool::none,
           {{"branch7x7x3_1", 192},
            {"branch7x7x3_2", 192, 1, 7},
            {"branch7x7x3_3", 192, 7, 1},
            {"branch7x7x3_4", 192, 3, 3, 2, false}}},
          {Pool::thinned, {}}};
}

/// Mixed_7b and Mixed_7c, whose pools differ.
std::vector<InceptionBranch> last_block(Pool pool) {
  return {{Pool::none, {{"branch1x1", 320}}},
          {Pool::none,
           {{"branch3x3_1", 384}, {"branch3x3_2a", 384, 1, 3}, {"branch3x3_2b", 384, 3, 1}},
           /*forked=*/true},
          {Pool::none,
           {{"branch3x3dbl_1", 448},
            {"branch3x3dbl_2", 384, 3, 3},
            {"branch3x3dbl_3a", 384, 1, 3},
            {"branch3x3dbl_3b", 384, 3, 1}},
           /*forked=*/true},
          {pool, {{"branch_pool", 192}}}};
}

std::vector<std::pair<std::string, std::vector<InceptionBranch>>> all_blocks() {
  return {{"Mixed_5b", wide_block(32)},           {"Mixed_5c", wide_block(64)},
          {"Mixed_5d", wide_block(64)},           {"Mixed_6a", first_reduction()},
          {"Mixed_6b", factored_block(128)},      {"Mixed_6c", factored_block(160)},
          {"Mixed_6d", factored_block(160)},      {"Mixed_6e", factored_block(192)},
          {"Mixed_7a", second_reduction()},       {"Mixed_7b", last_block(Pool::mean)},
          {"Mixed_7c", last_block(Pool::maximum)}};
}

torch::Tensor pooled(const torch::Tensor& x, Pool pool) {
  switch (pool) {
    case Pool::mean:
      return torch::avg_pool2d(x, 3, 1, 1, /*ceil_mode=*/false, /*count_include_pad=*/false);
    case Pool::maximum:
      return torch::max_pool2d(x, 3, 1, 1);
    case Pool::thinned:
      return torch::max_pool2d(x, 3, 2);
    case Pool::none:
      break;
  }
  return x;
}

}  // namespace

InceptionConvImpl::InceptionConvImpl(int64_t in, const InceptionConvShape& shape) {
  const auto padding = [&](int64_t size) { return shape.padded ? size / 2 : 0; };
  conv = register_module(
      "conv", torch::nn::Conv2d(torch::nn::Conv2dOptions(in, shape.out, {shape.height, shape.width})
                                    .stride(shape.stride)
                                    .padding({padding(shape.height), padding(shape.width)})
                                    .bias(false)));
  bn = register_module("bn", torch::nn::BatchNorm2d(torch::nn::BatchNorm2dOptions(shape.out).eps(0.001)));
}

torch::Tensor InceptionConvImpl::forward(const torch::Tensor& x) {
  return bn(conv(x)).relu_();
}

InceptionBlockImpl::InceptionBlockImpl(int64_t in, std::vector<InceptionBranch> branches)
    : branches_(std::move(branches)) {
  for (const InceptionBranch& branch : branches_) {
    std::vector<InceptionConv>& convs = convs_.emplace_back();
    int64_t channels = in, before_last = in;
    for (size_t i = 0; i < branch.convs.size(); ++i) {
      const bool beside = branch.forked && i + 1 == branch.convs.size();
      const int64_t from = beside ? before_last : channels;
      convs.push_back(register_module(branch.convs[i].name, InceptionConv(from, branch.convs[i])));
      before_last = channels;
      channels = branch.convs[i].out;
    }
    out_ += branch.forked ? 2 * channels : channels;
  }
}

torch::Tensor InceptionBlockImpl::follow(const InceptionBranch& branch,
                                         const std::vector<InceptionConv>& convs, const torch::Tensor& x) {
  torch::Tensor y = pooled(x, branch.pool);
  const size_t chained = convs.size() - (branch.forked ? 2 : 0);
  for (size_t i = 0; i < chained; ++i) y = convs[i].ptr()->forward(y);
  if (!branch.forked) return y;
  return torch::cat({convs[chained].ptr()->forward(y), convs[chained + 1].ptr()->forward(y)}, 1);
}

torch::Tensor InceptionBlockImpl::forward(const torch::Tensor& x) {
  std::vector<torch::Tensor> maps;
  for (size_t i = 0; i < branches_.size(); ++i) maps.push_back(follow(branches_[i], convs_[i], x));
  return torch::cat(maps, 1);
}

InceptionImpl::InceptionImpl() {
  const auto conv = [&](int64_t in, const InceptionConvShape& shape) {
    return register_module(shape.name, InceptionConv(in, shape));
  };
  Conv2d_1a_3x3 = conv(3, {"Conv2d_1a_3x3", 32, 3, 3, 2, false});
  Conv2d_2a_3x3 = conv(32, {"Conv2d_2a_3x3", 32, 3, 3, 1, false});
  Conv2d_2b_3x3 = conv(32, {"Conv2d_2b_3x3", 64, 3, 3});
  Conv2d_3b_1x1 = conv(64, {"Conv2d_3b_1x1", 80});
  Conv2d_4a_3x3 = conv(80, {"Conv2d_4a_3x3", 192, 3, 3, 1, false});
  int64_t channels = 192;
  for (auto& [name, branches] : all_blocks()) {
    blocks.push_back(register_module(name, InceptionBlock(channels, branches)));
    channels = blocks.back()->out();
  }
  fc = register_module("fc", torch::nn::Linear(channels, kClasses));
}

InceptionRows InceptionImpl::forward(torch::Tensor x) {
  x = Conv2d_2b_3x3(Conv2d_2a_3x3(Conv2d_1a_3x3(x)));
  x = Conv2d_4a_3x3(Conv2d_3b_1x1(pooled(x, Pool::thinned)));
  x = pooled(x, Pool::thinned);
  for (InceptionBlock& block : blocks) x = block(x);
  const torch::Tensor features = x.mean({2, 3});
  return {features, fc(features)};
}

const std::vector<std::string>& inception_resizes() {
  static const std::vector<std::string> names = {"bilinear", "clean"};
  return names;
}

torch::Tensor inception_input(const torch::Tensor& pictures, const std::string& resize) {
  require_choice("resize", resize, inception_resizes());
  if (pictures.dim() != 4 || pictures.size(1) != 3 || pictures.numel() == 0)
    throw Error("pictures of shape " + shape_text(pictures) + ", expected [B,3,H,W]");
  const std::vector<int64_t> size = {InceptionImpl::kSide, InceptionImpl::kSide};
  if (resize == "bilinear")
    return at::upsample_bilinear2d(pictures, size, /*align_corners=*/false).mul(2).sub(1);
  return at::_upsample_bicubic2d_aa(pictures.mul(255), size, /*align_corners=*/false)
      .clamp(0, 255)
      .sub(128)
      .div(128);
}

bool is_inception(const StateDict& state) {
  return state.find("Mixed_7c.branch_pool.conv.weight") != nullptr;
}

Inception load_inception(const StateDict& state) {
  const torch::Tensor* classifier = state.find("fc.weight");
  if (classifier != nullptr && classifier->dim() == 2 && classifier->size(0) != InceptionImpl::kClasses) {
    throw Error(state.source + ": an Inception of " + std::to_string(classifier->size(0)) +
                " classes, whose features are others than FID's, expected the one of 1008, " +
                "pt_inception-2015-12-05-6726825d.pth");
  }
  const WeightsFollowScope follow;
  Inception network;
  require_fit(assign(*network, state), state.source, false);
  network->eval();
  return network;
}

}  // namespace zoo
