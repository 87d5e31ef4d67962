#include "models/ldm/ldm.h"

#include "core/error.h"
#include "core/text.h"

namespace zoo {

void LdmOptions::validate() const {
  unet.validate();
  autoencoder.validate();
  text_encoder.validate();
  scheduler.validate();
  lora.validate();
  const int64_t channels = autoencoder.latent_channels;
  if (unet.out_channels != channels) {
    throw UsageError(format("model.unet.out_channels: %lld, expected model.autoencoder.latent_channels %lld",
                            static_cast<long long>(unet.out_channels), static_cast<long long>(channels)));
  }
  if (unet.in_channels != channels && unet.in_channels != 2 * channels + 1) {
    throw UsageError(format("model.unet.in_channels: %lld, expected %lld, or %lld for inpainting",
                            static_cast<long long>(unet.in_channels), static_cast<long long>(channels),
                            static_cast<long long>(2 * channels + 1)));
  }
  if (unet.cross_attention_dim == text_encoder.hidden_size) return;
  throw UsageError(format(
      "model.unet.cross_attention_dim: %lld, expected model.text_encoder.hidden_size %lld",
      static_cast<long long>(unet.cross_attention_dim), static_cast<long long>(text_encoder.hidden_size)));
}

LdmOptions sd15() {
  return {};
}

LdmOptions sd21() {
  LdmOptions options;
  options.unet.sample_size = 96;
  options.unet.cross_attention_dim = 1024;
  options.unet.attention_head_dim = {5, 10, 20, 20};
  options.unet.use_linear_projection = true;
  options.unet.upcast_attention = true;
  options.autoencoder.sample_size = 768;
  options.text_encoder.hidden_size = 1024;
  options.text_encoder.intermediate_size = 4096;
  options.text_encoder.num_hidden_layers = 23;
  options.text_encoder.num_attention_heads = 16;
  options.text_encoder.hidden_act = "gelu";
  options.scheduler.prediction_type = "v_prediction";
  return options;
}

LdmOptions ldm_tiny() {
  LdmOptions options;
  options.unet.sample_size = 8;
  options.unet.down_block_types = {"CrossAttnDownBlock2D", "CrossAttnDownBlock2D"};
  options.unet.up_block_types = {"CrossAttnUpBlock2D", "CrossAttnUpBlock2D"};
  options.unet.block_out_channels = {64, 128};
  options.unet.layers_per_block = 1;
  options.unet.cross_attention_dim = 128;
  options.unet.attention_head_dim = {4};
  options.unet.norm_num_groups = 16;
  options.autoencoder.block_out_channels = {16, 32, 64};
  options.autoencoder.layers_per_block = 1;
  options.autoencoder.norm_num_groups = 8;
  options.autoencoder.mid_block_add_attention = false;
  options.autoencoder.sample_size = 32;
  options.autoencoder.scaling_factor = 0;
  options.text_encoder.vocab_size = 0;
  options.text_encoder.hidden_size = 128;
  options.text_encoder.intermediate_size = 512;
  options.text_encoder.num_hidden_layers = 2;
  options.text_encoder.num_attention_heads = 4;
  options.text_encoder.max_position_embeddings = 16;
  // Of small latents the first steps must be noise alone: what is left of a picture would tell its place, in a training
  // that should read it in the sentence.
  options.scheduler.beta_schedule = "linear";
  options.scheduler.beta_start = 1e-4;
  options.scheduler.beta_end = 0.02;
  options.scheduler.rescale_betas_zero_snr = true;
  options.scheduler.timestep_spacing = "trailing";
  options.scheduler.prediction_type = "v_prediction";
  options.scheduler.sampler = "ddim";
  return options;
}

LdmImpl::LdmImpl(const LdmOptions& options) : options(options) {
  options.validate();
  unet = register_module("unet", UNet(options.unet));
  vae = register_module("vae", Autoencoder(options.autoencoder));
  text_encoder = register_module("text_encoder", ClipText(options.text_encoder));
  add_adapters(*this, options.lora);
}

torch::Tensor LdmImpl::encode_text(const torch::Tensor& ids, int64_t clip_skip) {
  return text_encoder->forward(ids, clip_skip);
}

torch::Tensor LdmImpl::encode(const torch::Tensor& images, const torch::Tensor& noise) {
  return vae->latents_of(images, noise) * known_scaling_factor();
}

torch::Tensor LdmImpl::decode(const torch::Tensor& latents) {
  return vae->decode(latents / known_scaling_factor());
}

void LdmImpl::set_scaling_factor(double factor) {
  options.autoencoder.scaling_factor = factor;
  vae->options.scaling_factor = factor;
}

double LdmImpl::known_scaling_factor() const {
  if (scaling_factor() > 0) return scaling_factor();
  throw Error(
      "model.autoencoder.scaling_factor is 0, expected one that training measured or the command gives");
}

}  // namespace zoo
