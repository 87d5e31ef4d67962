#include "models/unet/unet.h"

#include <cmath>

#include <torch/torch.h>

#include "core/error.h"
#include "core/text.h"
#include "models/layers/full_precision.h"
#include "models/shape_text.h"

namespace zoo {

namespace {

constexpr const char* kCrossDown = "CrossAttnDownBlock2D";
constexpr const char* kCrossUp = "CrossAttnUpBlock2D";

UNetTransformerOptions transformer_of(const UNetOptions& options, int64_t channels, int64_t heads) {
  UNetTransformerOptions transformer;
  transformer.channels = channels;
  transformer.heads = heads;
  transformer.context = options.cross_attention_dim;
  transformer.layers = options.transformer_layers_per_block;
  transformer.groups = options.norm_num_groups;
  transformer.linear_projection = options.use_linear_projection;
  transformer.upcast = options.upcast_attention;
  return transformer;
}

/// Four times the finest level's channels.
int64_t time_width(const UNetOptions& options) {
  return 4 * options.block_out_channels.front();
}

ResidualBlock unet_residual(const UNetOptions& options, int64_t in, int64_t out) {
  return ResidualBlock(ResidualBlockOptions{in, out, time_width(options), options.norm_num_groups,
                                            options.norm_eps, options.dropout, /*zero_start=*/true});
}

/// A residual block of a level and the transformer after it, where there is one.
torch::Tensor run_layer(torch::nn::ModuleList& resnets, torch::nn::ModuleList& attentions, size_t i,
                        const torch::Tensor& x, const torch::Tensor& time, ContextReader& context) {
  const torch::Tensor y = resnets->at<ResidualBlockImpl>(i).forward(x, time);
  return attentions->is_empty() ? y : attentions->at<UNetTransformerImpl>(i).forward(y, context);
}

void add_transformers(const torch::nn::ModuleList& attentions, std::vector<UNetTransformer>& all) {
  for (const auto& module : *attentions) {
    all.emplace_back(std::dynamic_pointer_cast<UNetTransformerImpl>(module));
  }
}

void require_same_levels(const std::string& key, size_t found, size_t levels) {
  if (found == levels) return;
  throw UsageError(format("%s: %zu entries, expected %zu, one for each of block_out_channels", key.c_str(),
                          found, levels));
}

void require_multiple(const std::string& key, int64_t value, int64_t of, const char* what) {
  if (value % of == 0) return;
  throw UsageError(format("%s: %lld is no multiple of %s %lld", key.c_str(), static_cast<long long>(value),
                          what, static_cast<long long>(of)));
}

}  // namespace

void UNetOptions::validate(const std::string& prefix) const {
  require_count(prefix + "sample_size", sample_size, 1);
  require_count(prefix + "in_channels", in_channels, 1);
  require_count(prefix + "out_channels", out_channels, 1);
  require_count(prefix + "layers_per_block", layers_per_block, 1);
  require_count(prefix + "cross_attention_dim", cross_attention_dim, 1);
  require_count(prefix + "transformer_layers_per_block", transformer_layers_per_block, 1);
  require_count(prefix + "norm_num_groups", norm_num_groups, 1);
  require_positive(prefix + "norm_eps", norm_eps);
  require_range(prefix + "dropout", dropout, 0, 0.99);
  const size_t levels = block_out_channels.size();
  require_count(prefix + "block_out_channels: number of levels", static_cast<int64_t>(levels), 1);
  require_same_levels(prefix + "down_block_types", down_block_types.size(), levels);
  require_same_levels(prefix + "up_block_types", up_block_types.size(), levels);
  if (attention_head_dim.size() != 1) {
    require_same_levels(prefix + "attention_head_dim", attention_head_dim.size(), levels);
  }
  for (const std::string& type : down_block_types) {
    require_choice(prefix + "down_block_types", type, {kCrossDown, "DownBlock2D"});
  }
  for (const std::string& type : up_block_types) {
    require_choice(prefix + "up_block_types", type, {kCrossUp, "UpBlock2D"});
  }
  for (size_t i = 0; i < levels; ++i) {
    require_count(prefix + "block_out_channels", block_out_channels[i], 1);
    require_multiple(prefix + "block_out_channels", block_out_channels[i], norm_num_groups,
                     "norm_num_groups");
    require_count(prefix + "attention_head_dim", heads_of(i), 1);
    require_multiple(prefix + "block_out_channels", block_out_channels[i], heads_of(i), "attention_head_dim");
  }
  require_multiple(prefix + "block_out_channels", block_out_channels.front(), 2,
                   "the time embedding's halves,");
  // A frequency shift of half the width divides by 0.
  require_range(prefix + "freq_shift", freq_shift, 0,
                static_cast<double>(block_out_channels.front()) / 2 - 1);
}

int64_t UNetOptions::heads_of(size_t level) const {
  return attention_head_dim.size() == 1 ? attention_head_dim.front() : attention_head_dim.at(level);
}

torch::Tensor timestep_embedding(const torch::Tensor& timesteps, int64_t dim, bool flip_sin_to_cos,
                                 double freq_shift) {
  const WithoutAutocast full;
  const int64_t half = dim / 2;
  const auto options = torch::TensorOptions(torch::kFloat).device(timesteps.device());
  // In float32 and in this order, as the published models were trained.
  const torch::Tensor exponents = -std::log(10000.0) * torch::arange(half, options);
  const torch::Tensor frequencies = (exponents / (static_cast<double>(half) - freq_shift)).exp();  // [half]
  const torch::Tensor angles = timesteps.to(torch::kFloat).unsqueeze(1) * frequencies;             // [B,half]
  return flip_sin_to_cos ? torch::cat({angles.cos(), angles.sin()}, 1)
                         : torch::cat({angles.sin(), angles.cos()}, 1);
}

TimestepMlpImpl::TimestepMlpImpl(int64_t in, int64_t out) {
  linear_1 = register_module("linear_1", torch::nn::Linear(in, out));
  linear_2 = register_module("linear_2", torch::nn::Linear(out, out));
}

torch::Tensor TimestepMlpImpl::forward(const torch::Tensor& x) {
  return linear_2(torch::silu(linear_1(x)));
}

UNetDownBlockImpl::UNetDownBlockImpl(const UNetOptions& options, const UNetLevel& level) {
  for (int64_t i = 0; i < level.layers; ++i) {
    resnets->push_back(unet_residual(options, i == 0 ? level.in : level.out, level.out));
    if (level.attention) {
      attentions->push_back(UNetTransformer(transformer_of(options, level.out, level.heads)));
    }
  }
  if (level.resampled) downsamplers->push_back(Downsample(level.out, /*symmetric=*/true));
  register_module("resnets", resnets);
  register_module("attentions", attentions);
  register_module("downsamplers", downsamplers);
}

torch::Tensor UNetDownBlockImpl::forward(torch::Tensor x, const torch::Tensor& time, ContextReader& context,
                                         std::vector<torch::Tensor>& skips) {
  for (size_t i = 0; i < resnets->size(); ++i) {
    x = run_layer(resnets, attentions, i, x, time, context);
    skips.push_back(x);
  }
  if (!downsamplers->is_empty()) {
    x = downsamplers->at<DownsampleImpl>(0).forward(x);
    skips.push_back(x);
  }
  return x;
}

UNetMidBlockImpl::UNetMidBlockImpl(const UNetOptions& options, int64_t channels, int64_t heads) {
  attentions->push_back(UNetTransformer(transformer_of(options, channels, heads)));
  for (int i = 0; i < 2; ++i) resnets->push_back(unet_residual(options, channels, channels));
  register_module("attentions", attentions);
  register_module("resnets", resnets);
}

torch::Tensor UNetMidBlockImpl::forward(torch::Tensor x, const torch::Tensor& time, ContextReader& context) {
  x = run_layer(resnets, attentions, 0, x, time, context);
  return resnets->at<ResidualBlockImpl>(1).forward(x, time);
}

UNetUpBlockImpl::UNetUpBlockImpl(const UNetOptions& options, const UNetLevel& level) {
  for (int64_t i = 0; i < level.layers; ++i) {
    const int64_t in = i == 0 ? level.in : level.out;
    resnets->push_back(unet_residual(options, in + level.skips.at(static_cast<size_t>(i)), level.out));
    if (level.attention) {
      attentions->push_back(UNetTransformer(transformer_of(options, level.out, level.heads)));
    }
  }
  if (level.resampled) upsamplers->push_back(Upsample(level.out));
  register_module("resnets", resnets);
  register_module("attentions", attentions);
  register_module("upsamplers", upsamplers);
}

torch::Tensor UNetUpBlockImpl::forward(torch::Tensor x, const torch::Tensor& time, ContextReader& context,
                                       std::vector<torch::Tensor>& skips) {
  for (size_t i = 0; i < resnets->size(); ++i) {
    x = torch::cat({x, skips.back()}, 1);
    skips.pop_back();
    x = run_layer(resnets, attentions, i, x, time, context);
  }
  return upsamplers->is_empty() ? x : upsamplers->at<UpsampleImpl>(0).forward(x, skips.back());
}

UNetImpl::UNetImpl(const UNetOptions& options) : options(options) {
  options.validate();
  const std::vector<int64_t>& channels = options.block_out_channels;
  conv_in = register_module("conv_in", conv3x3(options.in_channels, channels.front()));
  time_embedding = register_module("time_embedding", TimestepMlp(channels.front(), time_width(options)));
  add_down_blocks();
  mid_block = register_module("mid_block",
                              UNetMidBlock(options, channels.back(), options.heads_of(channels.size() - 1)));
  add_up_blocks();
  conv_norm_out = register_module("conv_norm_out",
                                  group_norm(options.norm_num_groups, channels.front(), options.norm_eps));
  conv_out = register_module("conv_out", from_zero(conv3x3(channels.front(), options.out_channels)));
}

void UNetImpl::add_down_blocks() {
  const std::vector<int64_t>& channels = options.block_out_channels;
  for (size_t i = 0; i < channels.size(); ++i) {
    UNetLevel level;
    level.in = channels[i == 0 ? 0 : i - 1];
    level.out = channels[i];
    level.layers = options.layers_per_block;
    level.attention = options.down_block_types[i] == kCrossDown;
    level.resampled = i + 1 < channels.size();
    level.heads = options.heads_of(i);
    down_blocks->push_back(UNetDownBlock(options, level));
  }
  register_module("down_blocks", down_blocks);
}

void UNetImpl::add_up_blocks() {
  const std::vector<int64_t>& channels = options.block_out_channels;
  for (size_t i = 0; i < channels.size(); ++i) {
    const size_t mirror = channels.size() - 1 - i;  // the level on the way down
    const int64_t finer = channels[mirror == 0 ? 0 : mirror - 1];
    UNetLevel level;
    level.in = channels[i == 0 ? mirror : mirror + 1];
    level.out = channels[mirror];
    level.layers = options.layers_per_block + 1;
    level.attention = options.up_block_types[i] == kCrossUp;
    level.resampled = mirror > 0;
    level.heads = options.heads_of(mirror);
    level.skips.assign(static_cast<size_t>(options.layers_per_block), level.out);
    level.skips.push_back(finer);  // what came into the mirrored level
    up_blocks->push_back(UNetUpBlock(options, level));
  }
  register_module("up_blocks", up_blocks);
}

std::vector<UNetTransformer> UNetImpl::transformers() const {
  std::vector<UNetTransformer> all;
  for (const auto& block : *down_blocks) add_transformers(block->as<UNetDownBlockImpl>()->attentions, all);
  add_transformers(mid_block->attentions, all);
  for (const auto& block : *up_blocks) add_transformers(block->as<UNetUpBlockImpl>()->attentions, all);
  return all;
}

UNetContext UNetImpl::context(const torch::Tensor& states) {
  if (states.dim() != 3 || states.size(2) != options.cross_attention_dim) {
    throw Error(format("text states of shape %s, expected [B,L,%lld]", shape_text(states).c_str(),
                       static_cast<long long>(options.cross_attention_dim)));
  }
  UNetContext context;
  for (UNetTransformer& transformer : transformers()) {
    for (KeysValues& pair : transformer->keys_values(states)) context.keys_values.push_back(std::move(pair));
  }
  return context;
}

torch::Tensor UNetImpl::forward_with(const torch::Tensor& latents, const torch::Tensor& timesteps,
                                     const UNetContext& context) {
  if (latents.dim() != 4 || latents.size(1) != options.in_channels || timesteps.dim() != 1 ||
      timesteps.size(0) != latents.size(0)) {
    throw Error(format("latents of shape %s with times of shape %s, expected [B,%lld,h,w] and [B]",
                       shape_text(latents).c_str(), shape_text(timesteps).c_str(),
                       static_cast<long long>(options.in_channels)));
  }
  const torch::Tensor sinusoid = timestep_embedding(timesteps, options.block_out_channels.front(),
                                                    options.flip_sin_to_cos, options.freq_shift);
  const torch::Tensor time =
      torch::silu(time_embedding(as_type_of(time_embedding->linear_1->weight, sinusoid)));  // [B,T]
  ContextReader reader(context);
  torch::Tensor x = conv_in(latents);
  std::vector<torch::Tensor> skips = {x};
  for (const auto& block : *down_blocks) {
    x = block->as<UNetDownBlockImpl>()->forward(x, time, reader, skips);
  }
  x = mid_block->forward(x, time, reader);
  for (const auto& block : *up_blocks) {
    x = block->as<UNetUpBlockImpl>()->forward(x, time, reader, skips);
  }
  return conv_out(torch::silu(conv_norm_out(x)));  // [B,out_channels,h,w]
}

torch::Tensor UNetImpl::forward(const torch::Tensor& latents, const torch::Tensor& timesteps,
                                const torch::Tensor& states) {
  return forward_with(latents, timesteps, context(states));
}

}  // namespace zoo
