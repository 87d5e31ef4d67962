#include "models/autoencoder/autoencoder.h"

#include <optional>

#include <torch/torch.h>

#include "core/error.h"
#include "core/text.h"
#include "models/shape_text.h"

namespace zoo {

namespace {

constexpr double kAutoencoderEps = 1e-6;  // of every norm

ResidualBlock autoencoder_residual(const AutoencoderOptions& options, int64_t in, int64_t out) {
  ResidualBlockOptions block;
  block.in = in;
  block.out = out;
  block.groups = options.norm_num_groups;
  block.eps = kAutoencoderEps;
  return ResidualBlock(block);
}

/// Channels of what the encoder gives.
int64_t moment_channels(const AutoencoderOptions& options) {
  return options.kind == "kl" ? 2 * options.latent_channels : options.latent_channels;
}

void require_map(const torch::Tensor& x, int64_t channels, const char* what) {
  if (x.dim() == 4 && x.size(1) == channels) return;
  throw Error(format("%s of shape %s, expected [B,%lld,h,w]", what, shape_text(x).c_str(),
                     static_cast<long long>(channels)));
}

}  // namespace

void AutoencoderOptions::validate(const std::string& prefix) const {
  require_choice(prefix + "kind", kind, {"kl", "vq"});
  require_count(prefix + "in_channels", in_channels, 1);
  require_count(prefix + "out_channels", out_channels, 1);
  require_count(prefix + "layers_per_block", layers_per_block, 1);
  require_count(prefix + "latent_channels", latent_channels, 1);
  require_count(prefix + "norm_num_groups", norm_num_groups, 1);
  require_count(prefix + "num_vq_embeddings", num_vq_embeddings, 1);
  require_count(prefix + "sample_size", sample_size, 1);
  require_range(prefix + "scaling_factor", scaling_factor, 0);
  require_count(prefix + "block_out_channels: number of levels",
                static_cast<int64_t>(block_out_channels.size()), 1, 16);
  for (const int64_t channels : block_out_channels) {
    require_count(prefix + "block_out_channels", channels, 1);
    if (channels % norm_num_groups == 0) continue;
    throw UsageError(format("%sblock_out_channels: %lld is no multiple of norm_num_groups %lld",
                            prefix.c_str(), static_cast<long long>(channels),
                            static_cast<long long>(norm_num_groups)));
  }
}

int64_t AutoencoderOptions::factor() const {
  return int64_t{1} << (block_out_channels.size() - 1);
}

Posterior posterior_of(const torch::Tensor& moments) {
  const auto parts = moments.chunk(2, 1);
  return {parts[0], parts[1].clamp(-30, 20)};
}

torch::Tensor posterior_sample(const torch::Tensor& moments, const torch::Tensor& noise) {
  const Posterior posterior = posterior_of(moments);
  return noise.defined() ? posterior.mean + (0.5 * posterior.logvar).exp() * noise : posterior.mean;
}

torch::Tensor posterior_kl(const torch::Tensor& moments) {
  const Posterior posterior = posterior_of(moments);
  const torch::Tensor each = posterior.mean.square() + posterior.logvar.exp() - 1 - posterior.logvar;
  return 0.5 * each.flatten(1).sum(1);
}

MapAttentionImpl::MapAttentionImpl(int64_t channels, int64_t groups) {
  group_norm = register_module("group_norm", zoo::group_norm(groups, channels, kAutoencoderEps));
  to_q = register_module("to_q", torch::nn::Linear(channels, channels));
  to_k = register_module("to_k", torch::nn::Linear(channels, channels));
  to_v = register_module("to_v", torch::nn::Linear(channels, channels));
  to_out->push_back(torch::nn::Linear(channels, channels));
  register_module("to_out", to_out);
}

torch::Tensor MapAttentionImpl::forward(const torch::Tensor& x) {
  const torch::Tensor tokens = group_norm(x).flatten(2).transpose(1, 2);    // [B,hw,C]
  const auto head = [](const torch::Tensor& y) { return y.unsqueeze(1); };  // [B,1,hw,C]
  const torch::Tensor attended =
      at::scaled_dot_product_attention(head(to_q(tokens)), head(to_k(tokens)), head(to_v(tokens)));
  const torch::Tensor y = to_out->at<torch::nn::LinearImpl>(0).forward(attended.squeeze(1));
  return x + y.transpose(1, 2).reshape_as(x);
}

AutoencoderMidBlockImpl::AutoencoderMidBlockImpl(const AutoencoderOptions& options) {
  const int64_t channels = options.block_out_channels.back();
  if (options.mid_block_add_attention) attentions->push_back(MapAttention(channels, options.norm_num_groups));
  for (int i = 0; i < 2; ++i) resnets->push_back(autoencoder_residual(options, channels, channels));
  register_module("attentions", attentions);
  register_module("resnets", resnets);
}

torch::Tensor AutoencoderMidBlockImpl::forward(torch::Tensor x) {
  x = resnets->at<ResidualBlockImpl>(0).forward(x);
  if (!attentions->is_empty()) x = attentions->at<MapAttentionImpl>(0).forward(x);
  return resnets->at<ResidualBlockImpl>(1).forward(x);
}

AutoencoderBlockImpl::AutoencoderBlockImpl(const AutoencoderOptions& options, Way way, int64_t in,
                                           int64_t out, bool resampled)
    : way_(way) {
  const int64_t layers = options.layers_per_block + (way == Way::kUp ? 1 : 0);
  for (int64_t i = 0; i < layers; ++i) {
    resnets->push_back(autoencoder_residual(options, i == 0 ? in : out, out));
  }
  if (resampled && way == Way::kDown) samplers->push_back(Downsample(out, /*symmetric=*/false));
  if (resampled && way == Way::kUp) samplers->push_back(Upsample(out));
  register_module("resnets", resnets);
  register_module(way == Way::kDown ? "downsamplers" : "upsamplers", samplers);
}

torch::Tensor AutoencoderBlockImpl::forward(torch::Tensor x) {
  for (const auto& resnet : *resnets) x = resnet->as<ResidualBlockImpl>()->forward(x);
  if (samplers->is_empty()) return x;
  return way_ == Way::kDown ? samplers->at<DownsampleImpl>(0).forward(x)
                            : samplers->at<UpsampleImpl>(0).forward(x);
}

AutoencoderEncoderImpl::AutoencoderEncoderImpl(const AutoencoderOptions& options) {
  const std::vector<int64_t>& channels = options.block_out_channels;
  conv_in = register_module("conv_in", conv3x3(options.in_channels, channels.front()));
  for (size_t i = 0; i < channels.size(); ++i) {
    down_blocks->push_back(AutoencoderBlock(options, AutoencoderBlockImpl::Way::kDown,
                                            channels[i == 0 ? 0 : i - 1], channels[i],
                                            /*resampled=*/i + 1 < channels.size()));
  }
  register_module("down_blocks", down_blocks);
  mid_block = register_module("mid_block", AutoencoderMidBlock(options));
  conv_norm_out =
      register_module("conv_norm_out", group_norm(options.norm_num_groups, channels.back(), kAutoencoderEps));
  conv_out = register_module("conv_out", conv3x3(channels.back(), moment_channels(options)));
}

torch::Tensor AutoencoderEncoderImpl::forward(torch::Tensor x) {
  x = conv_in(x);
  for (const auto& block : *down_blocks) x = block->as<AutoencoderBlockImpl>()->forward(x);
  x = mid_block(x);  // [B,·,H/f,W/f]
  return conv_out(torch::silu(conv_norm_out(x)));
}

AutoencoderDecoderImpl::AutoencoderDecoderImpl(const AutoencoderOptions& options) {
  const std::vector<int64_t>& channels = options.block_out_channels;
  conv_in = register_module("conv_in", conv3x3(options.latent_channels, channels.back()));
  mid_block = register_module("mid_block", AutoencoderMidBlock(options));
  for (size_t i = channels.size(); i-- > 0;) {
    up_blocks->push_back(AutoencoderBlock(options, AutoencoderBlockImpl::Way::kUp,
                                          channels[i + 1 < channels.size() ? i + 1 : i], channels[i],
                                          /*resampled=*/i > 0));
  }
  register_module("up_blocks", up_blocks);
  conv_norm_out = register_module("conv_norm_out",
                                  group_norm(options.norm_num_groups, channels.front(), kAutoencoderEps));
  conv_out = register_module("conv_out", conv3x3(channels.front(), options.out_channels));
}

torch::Tensor AutoencoderDecoderImpl::forward(torch::Tensor x) {
  x = mid_block(conv_in(x));  // [B,·,h,w]
  for (const auto& block : *up_blocks) x = block->as<AutoencoderBlockImpl>()->forward(x);
  return conv_out(torch::silu(conv_norm_out(x)));
}

VectorQuantizerImpl::VectorQuantizerImpl(int64_t entries, int64_t channels) {
  embedding = register_module("embedding", torch::nn::Embedding(entries, channels));
  const double reach = 1 / static_cast<double>(entries);
  torch::nn::init::uniform_(embedding->weight, -reach, reach);
}

Quantised VectorQuantizerImpl::forward(const torch::Tensor& latents, double commitment) {
  const torch::Tensor cells = latents.permute({0, 2, 3, 1});  // [B,h,w,C]
  const torch::Tensor& entries = embedding->weight;           // [K,C]
  // |z − e|² without |z|², which is the same for every entry.
  const torch::Tensor distance = entries.square().sum(1) - 2 * torch::matmul(cells, entries.t());
  const torch::Tensor indices = distance.argmin(-1);                       // [B,h,w]
  const torch::Tensor nearest = embedding(indices).permute({0, 3, 1, 2});  // [B,C,h,w]
  const torch::Tensor loss = (nearest - latents.detach()).square().mean() +
                             commitment * (nearest.detach() - latents).square().mean();
  return {latents + (nearest - latents).detach(), indices, loss};
}

AutoencoderImpl::AutoencoderImpl(const AutoencoderOptions& options) : options(options) {
  options.validate();
  encoder = register_module("encoder", AutoencoderEncoder(options));
  const int64_t moments = moment_channels(options), latent = options.latent_channels;
  quant_conv = register_module("quant_conv", conv1x1(moments, moments));
  if (options.kind == "vq") {
    quantize = register_module("quantize", VectorQuantizer(options.num_vq_embeddings, latent));
  }
  post_quant_conv = register_module("post_quant_conv", conv1x1(latent, latent));
  decoder = register_module("decoder", AutoencoderDecoder(options));
}

torch::Tensor AutoencoderImpl::encode(const torch::Tensor& images) {
  require_map(images, options.in_channels, "images");
  if (images.size(2) < options.factor() || images.size(3) < options.factor()) {
    throw Error(format("images of shape %s, expected at least %lld pixels a side", shape_text(images).c_str(),
                       static_cast<long long>(options.factor())));
  }
  return quant_conv(encoder(images));
}

torch::Tensor AutoencoderImpl::latents_of(const torch::Tensor& images, const torch::Tensor& noise) {
  const torch::Tensor encoded = encode(images);
  return options.kind == "kl" ? posterior_sample(encoded, noise) : encoded;
}

torch::Tensor AutoencoderImpl::decode(const torch::Tensor& latents) {
  require_map(latents, options.latent_channels, "latents");
  return decode_entries(quantize.is_empty() ? latents : quantize(latents).latents);
}

torch::Tensor AutoencoderImpl::decode_entries(const torch::Tensor& latents) {
  return decoder(post_quant_conv(latents));
}

}  // namespace zoo
