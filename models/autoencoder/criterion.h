#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <torch/types.h>

#include "core/options.h"
#include "models/autoencoder/autoencoder.h"
#include "models/autoencoder/discriminator.h"
#include "models/autoencoder/lpips.h"
#include "models/loss_module.h"
#include "models/loss_terms.h"

namespace zoo {

/// Section `loss` of autoencoders' recipes: Rombach et al. 2022, section 3.1 and appendix G; Esser et al.
/// 2021 (arXiv 2012.09841), equations 6 and 7.
struct AutoencoderLossOptions {
  double l1 = 1;             ///< weight of |x − x̂|
  double l2 = 0;             ///< weight of (x − x̂)², not in the paper
  double perceptual = 1;     ///< weight of LPIPS; needs the two files
  std::string vgg;           ///< torchvision's vgg16 weights, for LPIPS
  std::string lpips;         ///< LPIPS' heads for VGG, v0.1 (vgg.pth of richzhang/PerceptualSimilarity)
  double kl = 1e-6;          ///< weight of KL to the standard normal; beside a sum over pixels
  double codebook = 1;       ///< weight of the codebook's loss, for vq; beside a mean over pixels
  double commitment = 0.25;  ///< β of VectorQuantizer
  bool learn_logvar = true;  ///< for kl: the deviation of pixels is learnt
  double adversarial = 0.5;  ///< weight of the discriminator beside the adaptive one; 0: none
  int64_t adversarial_start = 50001;  ///< steps before the discriminator starts
  int64_t discriminator_channels = 64;
  int64_t discriminator_layers = 3;
  double discriminator_lr_factor = 1;  ///< of its Adam (β 0.5, 0.9), times optimizer.lr

  /// Throws UsageError naming the key, its value and the range; also where LPIPS is asked for without its
  /// files.
  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(AutoencoderLossOptions, l1, l2, perceptual, vgg, lpips, kl, codebook,
                                   commitment, learn_logvar, adversarial, adversarial_start,
                                   discriminator_channels, discriminator_layers, discriminator_lr_factor)

/// Hinge losses of scores (Lim and Ye 2017): of the discriminator, ½(mean [1 − real]₊ + mean [1 + fake]₊).
torch::Tensor discriminator_hinge(const torch::Tensor& real, const torch::Tensor& fake);

/// λ of equation 7: ‖∂first/∂weight‖ / (‖∂second/∂weight‖ + 1e-4), at most 1e4, a constant. Both losses'
/// graphs stay.
torch::Tensor adaptive_weight(const torch::Tensor& first, const torch::Tensor& second,
                              const torch::Tensor& weight);

/// Loss of a batch of pictures, for kl with r = l1|x − x̂| + l2(x − x̂)² + perceptual·LPIPS at every pixel,
///   Σ(r/e^s + s)/B + kl·mean KL + adversarial·λ·(−mean D(x̂)) + D's own hinge loss,
/// for vq with mean r in place of the first and codebook·(its loss) of the second term. s is one number, the
/// logarithm of the variance (`logvar`). D learns in the same backward pass: its gradients come from its own
/// loss alone, and its pictures' from the others; `step` moves it by its own Adam.
class AutoencoderLossImpl : public LossModule {
 public:
  /// Reads LPIPS' files. Throws UsageError as AutoencoderLossOptions::validate, Error for files that are not
  /// what they should be.
  explicit AutoencoderLossImpl(const AutoencoderLossOptions& options, int64_t channels = 3);

  /// images [B,3,H,W] in −1…1. Latents are drawn from torch's generator. Terms: l1, l2 (where weighted),
  /// perceptual, kl or codebook, and once the discriminator runs generator, discriminator, adaptive_weight.
  LossTerms forward(AutoencoderImpl& model, const torch::Tensor& images);

  std::vector<std::string> own_weights() const override;
  std::vector<std::string> own_state() const override;
  std::vector<torch::Tensor> own_gradients() override;
  void step(double lr, double weight_decay, double momentum, double gradient_scale) override;
  void release_gradients() override;

  /// Steps so far, as adversarial_start counts them.
  int64_t steps() const { return steps_.item<int64_t>(); }
  bool adversarial() const;

  torch::Tensor logvar;  ///< []

 private:
  struct Reconstruction {
    torch::Tensor images, regular;  // regular: KL or the codebook's loss, []
  };
  Reconstruction reconstruct(AutoencoderImpl& model, const torch::Tensor& images);
  torch::Tensor pixel_losses(const torch::Tensor& made, const torch::Tensor& images, LossTerms& loss);
  void add_adversarial(AutoencoderImpl& model, const torch::Tensor& made, const torch::Tensor& images,
                       const torch::Tensor& likelihood, LossTerms& loss);

  AutoencoderLossOptions options_;
  std::optional<Lpips> lpips_;
  PatchDiscriminator discriminator_{nullptr};
  std::vector<torch::Tensor> moments_;  // [2,…] of each of its weights: Adam's first and second
  torch::Tensor steps_, moved_;         // [] int64: all steps, and those of the discriminator
};
TORCH_MODULE(AutoencoderLoss);

}  // namespace zoo
