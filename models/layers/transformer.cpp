#include "models/layers/transformer.h"

#include <torch/torch.h>

#include "models/layers/dropout.h"

namespace zoo {

namespace {

torch::nn::LayerNorm layer_norm(int64_t dim) {
  return torch::nn::LayerNorm(torch::nn::LayerNormOptions({dim}));
}

torch::nn::Linear xavier_linear(int64_t in, int64_t out) {
  torch::nn::Linear linear(in, out);
  torch::nn::init::xavier_uniform_(linear->weight);
  return linear;
}

torch::Tensor with_position(const torch::Tensor& x, const torch::Tensor& position) {
  return position.defined() ? x + position : x;
}

torch::Tensor activate(const torch::Tensor& x, const std::string& name) {
  return name == "gelu" ? torch::gelu(x) : torch::relu(x);
}

/// A layer's part added to its input, with the norm that follows without pre-norm.
torch::Tensor add_part(const torch::Tensor& x, const torch::Tensor& change, torch::nn::LayerNorm& norm,
                       const TransformerOptions& options, bool training) {
  const torch::Tensor sum = x + hashed_dropout(change, options.dropout, training);
  return options.pre_norm ? sum : norm(sum);
}

/// One part of a layer: x + drop(part(norm(x))) with pre-norm, norm(x + drop(part(x))) without.
template <class Part>
torch::Tensor residual(const torch::Tensor& x, torch::nn::LayerNorm& norm, const TransformerOptions& options,
                       bool training, const Part& part) {
  return add_part(x, part(options.pre_norm ? norm(x) : x), norm, options, training);
}

/// W2·drop(act(W1·x))
torch::Tensor feed_forward(const torch::Tensor& x, torch::nn::Linear& linear1, torch::nn::Linear& linear2,
                           const TransformerOptions& options, bool training) {
  return linear2(hashed_dropout(activate(linear1(x), options.activation), options.dropout, training));
}

}  // namespace

TransformerEncoderLayerImpl::TransformerEncoderLayerImpl(const TransformerOptions& options)
    : options_(options) {
  self_attn_ = register_module("self_attn", MultiHeadAttention(options.dim, options.heads, options.dropout));
  linear1_ = register_module("linear1", xavier_linear(options.dim, options.feedforward));
  linear2_ = register_module("linear2", xavier_linear(options.feedforward, options.dim));
  norm1_ = register_module("norm1", layer_norm(options.dim));
  norm2_ = register_module("norm2", layer_norm(options.dim));
}

torch::Tensor TransformerEncoderLayerImpl::forward(const torch::Tensor& x, const torch::Tensor& position,
                                                   const torch::Tensor& mask) {
  const torch::Tensor y = residual(x, norm1_, options_, is_training(), [&](const torch::Tensor& part) {
    const torch::Tensor query = with_position(part, position);
    return self_attn_(query, query, part, mask);
  });
  return residual(y, norm2_, options_, is_training(), [&](const torch::Tensor& part) {
    return feed_forward(part, linear1_, linear2_, options_, is_training());
  });
}

TransformerEncoderImpl::TransformerEncoderImpl(const TransformerOptions& options, int64_t count) {
  const auto list = register_module("layers", torch::nn::ModuleList());
  for (int64_t i = 0; i < count; ++i) {
    layers.emplace_back(options);
    list->push_back(layers.back());
  }
  if (options.pre_norm) norm_ = register_module("norm", layer_norm(options.dim));
}

torch::Tensor TransformerEncoderImpl::forward(torch::Tensor x, const torch::Tensor& position,
                                              const torch::Tensor& mask) {
  for (TransformerEncoderLayer& layer : layers) x = layer(x, position, mask);
  return norm_.is_empty() ? x : norm_(x);
}

TransformerDecoderLayerImpl::TransformerDecoderLayerImpl(const TransformerOptions& options)
    : options_(options) {
  self_attn = register_module("self_attn", MultiHeadAttention(options.dim, options.heads, options.dropout));
  multihead_attn =
      register_module("multihead_attn", MultiHeadAttention(options.dim, options.heads, options.dropout));
  linear1_ = register_module("linear1", xavier_linear(options.dim, options.feedforward));
  linear2_ = register_module("linear2", xavier_linear(options.feedforward, options.dim));
  norm1_ = register_module("norm1", layer_norm(options.dim));
  norm2_ = register_module("norm2", layer_norm(options.dim));
  norm3_ = register_module("norm3", layer_norm(options.dim));
}

torch::Tensor TransformerDecoderLayerImpl::forward(const torch::Tensor& target, const torch::Tensor& position,
                                                   const ProjectedMemory& memory,
                                                   const torch::Tensor& self_mask,
                                                   const torch::Tensor& memory_mask, bool uniform) {
  const torch::Tensor y =
      uniform
          ? residual(target, norm1_, options_, is_training(),
                     [&](const torch::Tensor& x) { return self_attn->out_proj(self_attn->project_value(x)); })
          : attend_self(target, position, self_mask);
  return attend_memory(y, [&](const torch::Tensor& x) {
    const torch::Tensor query = multihead_attn->project_query(with_position(x, position));
    return multihead_attn->attend(query, memory.key, memory.value, memory_mask);
  });
}

torch::Tensor TransformerDecoderLayerImpl::attend_self(const torch::Tensor& target,
                                                       const torch::Tensor& position,
                                                       const torch::Tensor& mask, int64_t last) {
  const auto kept = [last](const torch::Tensor& x) { return last > 0 ? x.slice(1, -last) : x; };
  const torch::Tensor x = options_.pre_norm ? norm1_(target) : target;
  const torch::Tensor key = with_position(x, position);
  const torch::Tensor attended = self_attn(kept(key), key, x, mask);
  return add_part(kept(target), attended, norm1_, options_, is_training());
}

torch::Tensor TransformerDecoderLayerImpl::attend_memory(
    const torch::Tensor& x, const std::function<torch::Tensor(const torch::Tensor&)>& attention) {
  const torch::Tensor y = residual(x, norm2_, options_, is_training(), attention);
  return residual(y, norm3_, options_, is_training(), [&](const torch::Tensor& part) {
    return feed_forward(part, linear1_, linear2_, options_, is_training());
  });
}

TransformerDecoderImpl::TransformerDecoderImpl(const TransformerOptions& options, int64_t count) {
  const auto list = register_module("layers", torch::nn::ModuleList());
  for (int64_t i = 0; i < count; ++i) {
    layers.emplace_back(options);
    list->push_back(layers.back());
  }
  norm = register_module("norm", layer_norm(options.dim));
}

std::vector<ProjectedMemory> TransformerDecoderImpl::project(const torch::Tensor& memory,
                                                             const torch::Tensor& position) {
  std::vector<torch::Tensor> key_weights, key_biases, value_weights, value_biases;
  for (const TransformerDecoderLayer& layer : layers) {
    const MultiHeadAttentionImpl& attention = *layer->multihead_attn;
    key_weights.push_back(attention.key_weight());
    key_biases.push_back(attention.key_bias());
    value_weights.push_back(attention.value_weight());
    value_biases.push_back(attention.value_bias());
  }
  const auto count = static_cast<int64_t>(layers.size());
  const auto project = [&](const torch::Tensor& x, const std::vector<torch::Tensor>& weights,
                           const std::vector<torch::Tensor>& biases) {
    return torch::linear(x, torch::cat(weights), torch::cat(biases)).chunk(count, -1);
  };
  const auto keys = project(with_position(memory, position), key_weights, key_biases);
  const auto values = project(memory, value_weights, value_biases);
  std::vector<ProjectedMemory> projected;
  for (size_t i = 0; i < layers.size(); ++i) projected.push_back({keys[i], values[i]});
  return projected;
}

}  // namespace zoo
