#include "models/ldm/pipeline.h"

#include <torch/torch.h>

#include <algorithm>
#include <memory>

#include "core/error.h"
#include "core/text.h"
#include "models/diffusion/guidance.h"
#include "models/diffusion/sampler.h"
#include "models/shape_text.h"

namespace zoo {

namespace {

/// The nearest multiples of `factor` around a size, for a message.
std::string nearest_sizes(int64_t size, int64_t factor) {
  const int64_t below = size / factor * factor;
  return below == 0 ? std::to_string(factor)
                    : std::to_string(below) + " or " + std::to_string(below + factor);
}

/// Rows of x [1 or B,…] as [B,…].
torch::Tensor for_all(const torch::Tensor& x, int64_t batch) {
  if (x.size(0) == batch) return x;
  std::vector<int64_t> shape(static_cast<size_t>(x.dim()), -1);
  shape[0] = batch;
  return x.expand(shape);
}

/// One run of the sampler over the denoiser.
class LatentRun {
 public:
  LatentRun(LdmImpl& model, FusedLdm* fused, const PictureRequest& request, const PictureOptions& options)
      : model_(model),
        fused_(fused),
        request_(request),
        options_(options),
        batch_(request.prompts.size(0)),
        device_(model.unet->conv_in->weight.device()),
        noise_source_(options.seed, batch_),
        sampler_(make_sampler(options.sampler.empty() ? model.options.scheduler.sampler : options.sampler,
                              model.options.scheduler, options.steps,
                              request.image.defined() ? options.strength : 1)) {
    check_shapes();
    read_prompts();
    prepare();
  }

  torch::Tensor run(const OnPictureStep& on_step) {
    const auto calls = static_cast<int64_t>(sampler_->timesteps().size());
    for (int64_t i = 0; i < calls; ++i) {
      const auto call = static_cast<size_t>(i);
      const torch::Tensor before = x_, output = predict(call);
      x_ = sampler_->step(output, call, x_, noise_source_);
      if (painting() && !shows_mask()) x_ = keep_known(call + 1);
      const auto clean = [&] { return sampler_->clean(output, call, before); };
      if (on_step && !on_step({i + 1, calls, clean})) return {};
    }
    return x_;
  }

 private:
  bool painting() const { return request_.mask.defined(); }
  bool guides() const { return options_.guidance_scale > 1; }
  int64_t channels() const { return model_.options.autoencoder.latent_channels; }
  /// A UNet that is shown the mask and the masked picture.
  bool shows_mask() const { return model_.options.unet.in_channels != channels(); }
  int64_t latent_height() const { return options_.height / model_.options.autoencoder.factor(); }
  int64_t latent_width() const { return options_.width / model_.options.autoencoder.factor(); }

  void check(const torch::Tensor& x, const char* name, const std::vector<int64_t>& shape) const {
    if (!x.defined()) return;
    std::vector<int64_t> wanted = {batch_};
    wanted.insert(wanted.end(), shape.begin(), shape.end());
    const bool one_for_all = x.dim() == static_cast<int64_t>(wanted.size()) && x.size(0) == 1;
    if (one_for_all) wanted[0] = 1;
    if (x.sizes() != wanted)
      throw Error(std::string(name) + " " + shape_text(x) + ", expected " +
                  shape_text(wanted.data(), wanted.size()));
  }

  void check_shapes() const {
    check_picture_size(options_.height, options_.width, model_.options.autoencoder.factor());
    check(request_.latents, "latents", {channels(), latent_height(), latent_width()});
    check(request_.image, "picture", {3, options_.height, options_.width});
    check(request_.mask, "mask", {1, options_.height, options_.width});
    if (painting() && !request_.image.defined())
      throw UsageError("a mask needs a picture, expected --init-image");
    if (shows_mask() && !painting())
      throw UsageError("these weights are for inpainting, expected --init-image and --mask");
  }

  void read_prompts() {
    torch::Tensor states = model_.encode_text(request_.prompts.to(device_), options_.clip_skip);
    if (guides()) {
      const torch::Tensor without = model_.encode_text(request_.negatives.to(device_), options_.clip_skip);
      states = torch::cat({for_all(without, batch_), states});
    }
    context_ = model_.unet->context(states);
  }

  torch::Tensor draw() {
    return noise_source_.draw({channels(), latent_height(), latent_width()}).to(device_);
  }

  /// Latents of pictures [1 or B,3,H,W], each drawn with its own numbers.
  torch::Tensor encoded(const torch::Tensor& pictures) {
    return model_.encode(for_all(pictures.to(device_), batch_), draw());
  }

  /// The start, and what inpainting needs. The order of the draws is diffusers'.
  void prepare() {
    const bool from_noise = !request_.image.defined() || (painting() && options_.strength >= 1);
    if (request_.image.defined() && (!from_noise || !shows_mask())) known_ = encoded(request_.image);
    noise_ = request_.latents.defined() ? for_all(request_.latents.to(device_), batch_) : draw();
    x_ = from_noise ? noise_ * sampler_->start_factor() : sampler_->noised(known_, noise_, 0);
    if (!painting()) return;
    const torch::Tensor paint = (request_.mask.to(device_) >= 0.5).to(torch::kFloat);
    mask_ = for_all(torch::upsample_nearest2d(paint, {latent_height(), latent_width()}), batch_);
    const torch::Tensor masked = encoded(request_.image.to(device_) * (1 - paint));
    if (shows_mask()) shown_ = torch::cat({mask_, masked}, 1);
  }

  /// The denoiser's output at a call, guided.
  torch::Tensor predict(size_t call) {
    torch::Tensor input = sampler_->scale_input(x_, call);
    if (shows_mask()) input = torch::cat({input, shown_}, 1);
    if (guides()) input = torch::cat({input, input});
    const torch::Tensor times = torch::full({input.size(0)}, sampler_->timesteps()[call], x_.options());
    const torch::Tensor output = (fused_ != nullptr ? fused_->denoise(input, times, context_)
                                                    : model_.unet->forward_with(input, times, context_))
                                     .to(x_.scalar_type());
    return guides() ? guided(output, options_.guidance_scale, options_.guidance_rescale) : output;
  }

  /// x with the given picture outside the mask, noised as x is before a call.
  torch::Tensor keep_known(size_t call) const {
    return (1 - mask_) * sampler_->noised(known_, noise_, call) + mask_ * x_;
  }

  LdmImpl& model_;
  FusedLdm* fused_;
  const PictureRequest& request_;
  const PictureOptions& options_;
  const int64_t batch_;
  const torch::Device device_;
  NoiseSource noise_source_;
  std::unique_ptr<Sampler> sampler_;
  UNetContext context_;
  torch::Tensor known_;  // latents of the given picture
  torch::Tensor noise_;  // what the start was mixed with
  torch::Tensor mask_;   // [B,1,h,w], 1 where it is painted
  torch::Tensor shown_;  // mask and latents of the masked picture
  torch::Tensor x_;
};

/// `b`'s first rows (dim 2) or columns (3) faded in over the last ones of `a`.
void blend(const torch::Tensor& a, const torch::Tensor& b, int64_t dim, int64_t extent) {
  const int64_t count = std::min({a.size(dim), b.size(dim), extent});
  const torch::Tensor share = torch::arange(count, b.options()) / static_cast<double>(count);
  const torch::Tensor weight = dim == 2 ? share.unsqueeze(1) : share;
  torch::Tensor target = b.slice(dim, 0, count);
  target.copy_(a.slice(dim, a.size(dim) - count) * (1 - weight) + target * weight);
}

using Decoder = std::function<torch::Tensor(const torch::Tensor& latents)>;

/// [1,C,h,w] decoded in squares of `tile` latents, `factor` pixels each.
torch::Tensor decode_in_tiles(const Decoder& decode, const torch::Tensor& latents, int64_t tile,
                              int64_t factor) {
  const int64_t step = std::max<int64_t>(tile * 3 / 4, 1), overlap = (tile - step) * factor,
                kept = step * factor;
  std::vector<torch::Tensor> rows, above, row;
  for (int64_t y = 0; y < latents.size(2); y += step) {
    row.clear();
    std::vector<torch::Tensor> cells;
    for (int64_t x = 0; x < latents.size(3); x += step) {
      const torch::Tensor part = latents.slice(2, y, y + tile).slice(3, x, x + tile);
      row.push_back(decode(part));
      if (y > 0 && overlap > 0) blend(above[row.size() - 1], row.back(), 2, overlap);
      if (x > 0 && overlap > 0) blend(row[row.size() - 2], row.back(), 3, overlap);
      cells.push_back(row.back().slice(2, 0, kept).slice(3, 0, kept));
    }
    rows.push_back(torch::cat(cells, 3));
    above = row;
  }
  return torch::cat(rows, 2);
}

double module_bytes(const torch::nn::Module& module) {
  double bytes = 0;
  for (const torch::Tensor& parameter : module.parameters()) bytes += static_cast<double>(parameter.nbytes());
  return bytes;
}

}  // namespace

void check_picture_size(int64_t height, int64_t width, int64_t factor) {
  if (height > 0 && width > 0 && height % factor == 0 && width % factor == 0) return;
  const std::string expected = height % factor != 0 && width % factor == 0
                                   ? "a height of " + nearest_sizes(height, factor)
                               : height % factor == 0 ? "a width of " + nearest_sizes(width, factor)
                                                      : "a height of " + nearest_sizes(height, factor) +
                                                            " and a width of " + nearest_sizes(width, factor);
  throw UsageError(format("--size: %lldx%lld is no multiple of %lld, expected %s",
                          static_cast<long long>(height), static_cast<long long>(width),
                          static_cast<long long>(factor), expected.c_str()));
}

torch::Tensor make_latents(LdmImpl& model, const PictureRequest& request, const PictureOptions& options,
                           const OnPictureStep& on_step, FusedLdm* fused) {
  const torch::NoGradGuard no_grad;
  return LatentRun(model, fused, request, options).run(on_step);
}

torch::Tensor decode_pictures(LdmImpl& model, const torch::Tensor& latents, int64_t tile, FusedLdm* fused) {
  const torch::NoGradGuard no_grad;
  const Decoder decode = [&](const torch::Tensor& part) {
    return (fused != nullptr ? fused->decode(part) : model.decode(part)).to(torch::kFloat);
  };
  std::vector<torch::Tensor> pictures;
  for (int64_t i = 0; i < latents.size(0); ++i) {
    const torch::Tensor one = latents.slice(0, i, i + 1);
    const bool whole = tile <= 0 || (one.size(2) <= tile && one.size(3) <= tile);
    const torch::Tensor decoded =
        whole ? decode(one) : decode_in_tiles(decode, one, tile, model.options.autoencoder.factor());
    pictures.push_back((decoded / 2 + 0.5).clamp(0, 1));
  }
  return torch::cat(pictures);
}

double PictureMemory::peak() const {
  return weights + std::max(denoiser, decoder);
}

PictureMemory picture_memory(const LdmImpl& model, int64_t pictures, const PictureOptions& options,
                             int64_t tile, double fused_share) {
  constexpr double kFloatBytes = 4;
  const AutoencoderOptions& autoencoder = model.options.autoencoder;
  const UNetOptions& unet = model.options.unet;
  const auto pixels = static_cast<double>(options.height * options.width);
  const auto factor = static_cast<double>(autoencoder.factor());
  PictureMemory memory;
  const double painting = module_bytes(*model.unet) + module_bytes(*model.vae);
  memory.weights = painting * (1 + fused_share) + module_bytes(*model.text_encoder);
  // The finest level holds its skips, and a block's input, norm, and both sides of the gated product (8 widths).
  const double cells = pixels / (factor * factor),
               rows = static_cast<double>(pictures) * (options.guidance_scale > 1 ? 2 : 1);
  memory.denoiser = rows * cells * kFloatBytes * static_cast<double>(unet.block_out_channels.front()) *
                    (12 + 2.0 * static_cast<double>(unet.layers_per_block));
  // At the finest level a block's input has the next one's width; with it live its norm, activation and copy.
  const size_t wide = std::min<size_t>(1, autoencoder.block_out_channels.size() - 1);
  const double side = static_cast<double>(tile) * factor;
  const double decoded = tile > 0 ? std::min(pixels, side * side) : pixels;
  memory.decoder = decoded * kFloatBytes * static_cast<double>(autoencoder.block_out_channels[wide]) * 4;
  return memory;
}

}  // namespace zoo
