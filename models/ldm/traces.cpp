#include "models/ldm/traces.h"

#include <torch/torch.h>

namespace zoo {

namespace {

using Tensors = std::vector<torch::Tensor>;

/// Batch, height and width of example `variant`, in latents.
struct TraceSize {
  int64_t batch, height, width;
};
TraceSize trace_size(int variant) {
  constexpr TraceSize kSizes[] = {{2, 16, 16}, {1, 8, 24}, {3, 12, 20}, {2, 11, 9}};
  return kSizes[variant % 4];
}

TraceSpec text_spec(const Ldm& ldm) {
  ClipText text = ldm->text_encoder;
  TraceSpec spec;
  spec.module = text.ptr();
  spec.forward = [text](const Tensors& inputs) mutable { return Tensors{text->forward(inputs[0])}; };
  spec.example = [options = text->options](int variant) {
    const int64_t length = std::max<int64_t>(1, options.max_position_embeddings - variant % 2);
    return Tensors{torch::randint(options.vocab_size, {trace_size(variant).batch, length}, torch::kLong)};
  };
  spec.inputs = {"ids"};
  spec.outputs = {"states"};
  return spec;
}

TraceSpec unet_spec(const Ldm& ldm) {
  UNet unet = ldm->unet;
  const int64_t length = ldm->text_encoder->options.max_position_embeddings;
  TraceSpec spec;
  spec.module = unet.ptr();
  spec.forward = [unet](const Tensors& inputs) mutable {
    return Tensors{unet->forward(inputs[0], inputs[1], inputs[2])};
  };
  spec.example = [options = unet->options, length](int variant) {
    const auto [batch, height, width] = trace_size(variant);
    return Tensors{torch::randn({batch, options.in_channels, height, width}), torch::rand({batch}) * 999,
                   torch::randn({batch, length + variant, options.cross_attention_dim})};
  };
  spec.inputs = {"latents", "timesteps", "states"};
  spec.outputs = {"prediction"};
  return spec;
}

TraceSpec encoder_spec(const Ldm& ldm) {
  Autoencoder vae = ldm->vae;
  TraceSpec spec;
  spec.module = vae.ptr();
  spec.forward = [vae](const Tensors& inputs) mutable { return Tensors{vae->encode(inputs[0])}; };
  spec.example = [options = vae->options](int variant) {
    const auto [batch, height, width] = trace_size(variant);
    return Tensors{
        torch::rand({batch, options.in_channels, height * options.factor(), width * options.factor()}) * 2 -
        1};
  };
  spec.inputs = {"images"};
  spec.outputs = {vae->options.kind == "vq" ? "latents" : "moments"};
  return spec;
}

}  // namespace

std::vector<std::pair<std::string, TraceSpec>> ldm_trace_specs(const Ldm& ldm) {
  return {{"text_encoder", text_spec(ldm)},
          {"unet", unet_spec(ldm)},
          {"vae_encoder", encoder_spec(ldm)},
          {"vae_decoder", decoder_trace_spec(ldm)}};
}

TraceSpec decoder_trace_spec(const Ldm& ldm) {
  Autoencoder vae = ldm->vae;
  TraceSpec spec;
  spec.module = vae.ptr();
  spec.forward = [vae](const Tensors& inputs) mutable { return Tensors{vae->decode(inputs[0])}; };
  spec.example = [options = vae->options](int variant) {
    const auto [batch, height, width] = trace_size(variant);
    return Tensors{torch::randn({batch, options.latent_channels, height, width})};
  };
  spec.inputs = {"latents"};
  spec.outputs = {"images"};
  return spec;
}

std::vector<torch::Tensor> denoiser_inputs(const torch::Tensor& latents, const torch::Tensor& timesteps,
                                           const UNetContext& context) {
  Tensors inputs = {latents, timesteps};
  for (const auto& [keys, values] : context.keys_values) {
    inputs.push_back(keys);
    inputs.push_back(values);
  }
  return inputs;
}

TraceSpec denoiser_trace_spec(const Ldm& ldm) {
  TraceSpec spec = unet_spec(ldm);
  UNet unet = ldm->unet;
  spec.forward = [unet](const Tensors& inputs) mutable {
    UNetContext context;
    for (size_t i = 2; i + 1 < inputs.size(); i += 2)
      context.keys_values.emplace_back(inputs[i], inputs[i + 1]);
    return Tensors{unet->forward_with(inputs[0], inputs[1], context)};
  };
  spec.example = [unet, states_example = spec.example](int variant) mutable {
    const Tensors inputs = states_example(variant);
    return denoiser_inputs(inputs[0], inputs[1], unet->context(inputs[2]));
  };
  spec.inputs = {"latents", "timesteps", "keys and values"};
  return spec;
}

}  // namespace zoo
