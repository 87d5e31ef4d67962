#include "models/oadtr/transformer.h"

#include <memory>
#include <string>

#include <torch/torch.h>

#include "models/layers/attention.h"
#include "models/layers/dropout.h"
#include "models/layers/tracing.h"

namespace zoo {

namespace {

torch::nn::LayerNorm oadtr_norm(int64_t dim) {
  return torch::nn::LayerNorm(torch::nn::LayerNormOptions({dim}));
}

/// The published files' wrappers of a part: `fn` has its norm, `fn.fn` the part itself.
class PreNormPart : public torch::nn::Module {
 protected:
  explicit PreNormPart(int64_t dim) {
    const auto wrapper = register_module("fn", std::make_shared<torch::nn::Module>());
    norm = wrapper->register_module("norm", oadtr_norm(dim));
    part = wrapper->register_module("fn", std::make_shared<torch::nn::Module>());
  }

  torch::nn::LayerNorm norm{nullptr};
  std::shared_ptr<torch::nn::Module> part;
};

/// x + drop(drop(proj(attention(LN x))))
class AttentionPartImpl : public PreNormPart {
 public:
  explicit AttentionPartImpl(const OadTrSizes& sizes) : PreNormPart(sizes.dim), sizes_(sizes) {
    qkv_ = part->register_module(
        "qkv", torch::nn::Linear(torch::nn::LinearOptions(sizes.dim, 3 * sizes.dim).bias(false)));
    proj_ = part->register_module("proj", torch::nn::Linear(sizes.dim, sizes.dim));
  }

  torch::Tensor forward(const torch::Tensor& x) {
    const double p = is_training() ? sizes_.dropout : 0;
    const auto parts = qkv_(norm(x)).chunk(3, -1);  // [B,N,d] each
    const torch::Tensor attended = attend_by_heads(parts[0], parts[1], parts[2], sizes_.heads, {}, p);
    // Two dropouts in a row are one of their joint chance.
    return x + hashed_dropout(proj_(attended), 1 - (1 - p) * (1 - p), is_training());
  }

 private:
  OadTrSizes sizes_;
  torch::nn::Linear qkv_{nullptr}, proj_{nullptr};
};
TORCH_MODULE(AttentionPart);

/// x + drop(W2·drop(GELU(W1·LN x)))
class FeedForwardPartImpl : public PreNormPart {
 public:
  explicit FeedForwardPartImpl(const OadTrSizes& sizes) : PreNormPart(sizes.dim), dropout_(sizes.dropout) {
    const auto net = part->register_module("net", std::make_shared<torch::nn::Module>());
    linear1_ = net->register_module("0", torch::nn::Linear(sizes.dim, sizes.feedforward));
    linear2_ = net->register_module("3", torch::nn::Linear(sizes.feedforward, sizes.dim));
  }

  torch::Tensor forward(const torch::Tensor& x) {
    const auto drop = [this](const torch::Tensor& y) { return hashed_dropout(y, dropout_, is_training()); };
    return x + drop(linear2_(drop(torch::gelu(linear1_(norm(x))))));
  }

 private:
  double dropout_;
  torch::nn::Linear linear1_{nullptr}, linear2_{nullptr};
};
TORCH_MODULE(FeedForwardPart);

/// A convolution over one step.
torch::Tensor each_step(const torch::nn::Conv1d& conv, const torch::Tensor& x) {
  return torch::linear(x, conv->weight.squeeze(-1), conv->bias);
}

}  // namespace

OadTrPositionsImpl::OadTrPositionsImpl(int64_t length, int64_t dim) {
  register_buffer("position_ids", torch::arange(length).unsqueeze(0));
  pe_ = register_module("pe", torch::nn::Embedding(length, dim));
}

torch::Tensor OadTrPositionsImpl::forward(const torch::Tensor& x) {
  return x + pe_->weight;
}

OadTrEncoderImpl::OadTrEncoderImpl(const OadTrSizes& sizes) {
  for (int64_t i = 0; i < sizes.layers; ++i) {
    net_->push_back(AttentionPart(sizes));
    net_->push_back(FeedForwardPart(sizes));
  }
  register_module("net", net_);
}

torch::Tensor OadTrEncoderImpl::forward(const torch::Tensor& x) {
  return net_(x);
}

OadTrAttentionImpl::OadTrAttentionImpl(const OadTrSizes& sizes) : sizes_(sizes) {
  const auto projection = [&](const char* name) {
    return register_module(name, torch::nn::Linear(sizes.dim, sizes.dim));
  };
  query_ = projection("query_projection");
  key_ = projection("key_projection");
  value_ = projection("value_projection");
  out_ = projection("out_projection");
}

torch::Tensor OadTrAttentionImpl::forward(const torch::Tensor& query, const torch::Tensor& memory,
                                          const torch::Tensor& mask) {
  return out_(attend_by_heads(query_(query), key_(memory), value_(memory), sizes_.heads, mask,
                              is_training() ? sizes_.dropout : 0));
}

OadTrDecoderLayerImpl::OadTrDecoderLayerImpl(const OadTrSizes& sizes) : dropout_(sizes.dropout) {
  self_attention_ = register_module("self_attention", OadTrAttention(sizes));
  cross_attention_ = register_module("cross_attention", OadTrAttention(sizes));
  conv1_ = register_module("conv1", torch::nn::Conv1d(sizes.dim, sizes.feedforward, 1));
  conv2_ = register_module("conv2", torch::nn::Conv1d(sizes.feedforward, sizes.dim, 1));
  norm1_ = register_module("norm1", oadtr_norm(sizes.dim));
  norm2_ = register_module("norm2", oadtr_norm(sizes.dim));
  norm3_ = register_module("norm3", oadtr_norm(sizes.dim));
}

torch::Tensor OadTrDecoderLayerImpl::drop(const torch::Tensor& x) const {
  return hashed_dropout(x, dropout_, is_training());
}

torch::Tensor OadTrDecoderLayerImpl::attend_self(const torch::Tensor& x) {
  const int64_t queries = x.size(1);  // of the options, so a trace may hold it
  const torch::Tensor earlier = torch::ones({queries, queries}, x.options().dtype(torch::kBool)).tril();
  return norm1_(x + drop(self_attention_(x, x, earlier)));
}

torch::Tensor OadTrDecoderLayerImpl::attend_memory(const torch::Tensor& x, const torch::Tensor& memory) {
  const torch::Tensor y = norm2_(x + drop(cross_attention_(x, memory, torch::Tensor())));
  return norm3_(y + drop(each_step(conv2_, drop(torch::gelu(each_step(conv1_, y))))));
}

OadTrDecoderImpl::OadTrDecoderImpl(const OadTrSizes& sizes) : dropout_(sizes.dropout) {
  const auto list = register_module("layers", torch::nn::ModuleList());
  for (int64_t i = 0; i < sizes.layers; ++i) {
    layers_.emplace_back(sizes);
    list->push_back(layers_.back());
  }
  norm_ = register_module("norm", oadtr_norm(sizes.dim));
}

torch::Tensor OadTrDecoderImpl::forward(const torch::Tensor& queries, const torch::Tensor& memory) {
  // Without dropout the first self-attention is the same for all windows.
  const torch::Tensor windows = zeros_per_image(memory);  // [B,1,1]
  const bool drops = is_training() && dropout_ > 0;
  torch::Tensor x = layers_[0]->attend_self(drops ? queries + windows : queries);
  x = layers_[0]->attend_memory(drops ? x : x + windows, memory);
  for (size_t i = 1; i < layers_.size(); ++i) {
    x = layers_[i]->attend_memory(layers_[i]->attend_self(x), memory);
  }
  return norm_(x);
}

}  // namespace zoo
