#include "models/autoencoder/criterion.h"

#include <cmath>

#include <torch/torch.h>

#include "core/error.h"
#include "core/text.h"

namespace zoo {

namespace {

constexpr double kAdversarialBeta1 = 0.5, kAdversarialBeta2 = 0.9, kAdversarialEps = 1e-8;

}  // namespace

void AutoencoderLossOptions::validate() const {
  require_range("loss.l1", l1, 0);
  require_range("loss.l2", l2, 0);
  require_range("loss.perceptual", perceptual, 0);
  require_range("loss.kl", kl, 0);
  require_range("loss.codebook", codebook, 0);
  require_range("loss.commitment", commitment, 0);
  require_range("loss.adversarial", adversarial, 0);
  require_count("loss.adversarial_start", adversarial_start, 0);
  require_count("loss.discriminator_channels", discriminator_channels, 1);
  require_count("loss.discriminator_layers", discriminator_layers, 1, 6);
  require_positive("loss.discriminator_lr_factor", discriminator_lr_factor);
  if (perceptual == 0 || (!vgg.empty() && !lpips.empty())) return;
  throw UsageError(
      format("loss.perceptual: %g needs loss.vgg=FILE (torchvision's vgg16 weights) and loss.lpips=FILE "
             "(LPIPS' heads, vgg.pth), expected both, or loss.perceptual=0",
             perceptual));
}

torch::Tensor discriminator_hinge(const torch::Tensor& real, const torch::Tensor& fake) {
  return 0.5 * (torch::relu(1 - real).mean() + torch::relu(1 + fake).mean());
}

torch::Tensor adaptive_weight(const torch::Tensor& first, const torch::Tensor& second,
                              const torch::Tensor& weight) {
  const auto length = [&](const torch::Tensor& loss) {
    return torch::autograd::grad({loss}, {weight}, /*grad_outputs=*/{}, /*retain_graph=*/true)[0].norm();
  };
  return (length(first) / (length(second) + 1e-4)).clamp(0, 1e4).detach();
}

AutoencoderLossImpl::AutoencoderLossImpl(const AutoencoderLossOptions& options, int64_t channels)
    : options_(options) {
  options.validate();
  logvar = register_parameter("logvar", torch::zeros({}), options.learn_logvar);
  steps_ = register_buffer("steps", torch::zeros({}, torch::kLong));
  if (options.perceptual > 0) {
    lpips_.emplace(load_state_dict(options.vgg), load_state_dict(options.lpips));
  }
  if (options.adversarial == 0) return;
  discriminator_ = register_module(
      "discriminator",
      PatchDiscriminator(channels, options.discriminator_channels, options.discriminator_layers));
  moved_ = register_buffer("discriminator_steps", torch::zeros({}, torch::kLong));
  for (const torch::Tensor& weight : discriminator_->weights()) {
    const std::string name = "discriminator_moments_" + std::to_string(moments_.size());
    moments_.push_back(
        register_buffer(name, torch::zeros_like(torch::stack({weight.detach(), weight.detach()}))));
  }
}

bool AutoencoderLossImpl::adversarial() const {
  return options_.adversarial > 0 && steps() >= options_.adversarial_start;
}

AutoencoderLossImpl::Reconstruction AutoencoderLossImpl::reconstruct(AutoencoderImpl& model,
                                                                     const torch::Tensor& images) {
  const torch::Tensor encoded = model.encode(images);
  if (model.options.kind == "vq") {
    const Quantised quantised = model.quantize->forward(encoded, options_.commitment);
    return {model.decode_entries(quantised.latents), quantised.loss};
  }
  const torch::Tensor noise = torch::randn_like(posterior_of(encoded).mean);
  return {model.decode(posterior_sample(encoded, noise)), posterior_kl(encoded).mean()};
}

torch::Tensor AutoencoderLossImpl::pixel_losses(const torch::Tensor& made, const torch::Tensor& images,
                                                LossTerms& loss) {
  const torch::Tensor l1 = (made - images).abs();
  loss.terms.emplace_back("l1", l1.detach().mean());
  torch::Tensor all = options_.l1 * l1;  // [B,3,H,W]
  if (options_.l2 > 0) {
    const torch::Tensor l2 = (made - images).square();
    loss.terms.emplace_back("l2", l2.detach().mean());
    all = all + options_.l2 * l2;
  }
  if (!lpips_) return all;
  const torch::Tensor distance = lpips_->distance(made, images);  // [B]
  loss.terms.emplace_back("perceptual", distance.detach().mean());
  return all + options_.perceptual * distance.unflatten(0, {-1, 1, 1, 1});
}

LossTerms AutoencoderLossImpl::forward(AutoencoderImpl& model, const torch::Tensor& images) {
  const bool vq = model.options.kind == "vq";
  LossTerms loss;
  Reconstruction made = reconstruct(model, images);
  made.images = made.images.to(images.scalar_type());
  const torch::Tensor pixels = pixel_losses(made.images, images, loss);
  const torch::Tensor likelihood =
      vq ? pixels.mean() : (pixels / logvar.exp() + logvar).sum() / static_cast<double>(images.size(0));
  loss.total = likelihood + (vq ? options_.codebook : options_.kl) * made.regular;
  loss.terms.emplace_back(vq ? "codebook" : "kl", made.regular.detach());
  if (adversarial()) add_adversarial(model, made.images, images, likelihood, loss);
  return loss;
}

void AutoencoderLossImpl::add_adversarial(AutoencoderImpl& model, const torch::Tensor& made,
                                          const torch::Tensor& images, const torch::Tensor& likelihood,
                                          LossTerms& loss) {
  const torch::Tensor generator = -discriminator_->forward(made, /*learns=*/false).mean();
  const torch::Tensor weight = adaptive_weight(likelihood, generator, model.decoder->conv_out->weight);
  const torch::Tensor own = discriminator_hinge(discriminator_->forward(images, /*learns=*/true),
                                                discriminator_->forward(made.detach(), /*learns=*/true));
  loss.total = loss.total + options_.adversarial * weight * generator + own;
  loss.terms.emplace_back("generator", generator.detach());
  loss.terms.emplace_back("discriminator", own.detach());
  loss.terms.emplace_back("adaptive_weight", weight);
}

std::vector<std::string> AutoencoderLossImpl::own_weights() const {
  std::vector<std::string> names;
  if (discriminator_.is_empty()) return names;
  for (const std::string& name : discriminator_->weight_names()) names.push_back("discriminator." + name);
  return names;
}

std::vector<std::string> AutoencoderLossImpl::own_state() const {
  std::vector<std::string> names;
  for (size_t i = 0; i < moments_.size(); ++i) names.push_back("discriminator_moments_" + std::to_string(i));
  return names;
}

std::vector<torch::Tensor> AutoencoderLossImpl::own_gradients() {
  std::vector<torch::Tensor> gradients;
  if (discriminator_.is_empty()) return gradients;
  for (const torch::Tensor& weight : discriminator_->weights()) {
    if (weight.grad().defined()) gradients.push_back(weight.grad());
  }
  return gradients;
}

void AutoencoderLossImpl::step(double lr, double /*weight_decay*/, double /*momentum*/,
                               double gradient_scale) {
  const torch::NoGradGuard no_grad;
  steps_ += 1;
  if (own_gradients().empty()) return;
  moved_ += 1;
  const auto count = static_cast<double>(moved_.item<int64_t>());
  const double size = lr * options_.discriminator_lr_factor / (1 - std::pow(kAdversarialBeta1, count));
  const double correction = std::sqrt(1 - std::pow(kAdversarialBeta2, count));
  const std::vector<torch::Tensor>& weights = discriminator_->weights();
  for (size_t i = 0; i < weights.size(); ++i) {
    const torch::Tensor gradient = weights[i].grad() * gradient_scale;
    torch::Tensor first = moments_[i][0], second = moments_[i][1];
    first.mul_(kAdversarialBeta1).add_(gradient, 1 - kAdversarialBeta1);
    second.mul_(kAdversarialBeta2).addcmul_(gradient, gradient, 1 - kAdversarialBeta2);
    torch::Tensor weight = weights[i];
    weight.addcdiv_(first, second.sqrt().div_(correction).add_(kAdversarialEps), -size);
  }
}

void AutoencoderLossImpl::release_gradients() {
  if (discriminator_.is_empty()) return;
  for (torch::Tensor weight : discriminator_->weights()) weight.mutable_grad().reset();
}

}  // namespace zoo
