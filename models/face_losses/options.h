#pragma once
#include <cstdint>
#include <string>

#include "core/options.h"

namespace zoo {

// Letters of this folder: N samples, D elements of an embedding x, C classes (identities), W_j a class's row,
// y a sample's class, c_j = cos θ_j the cosine between x and W_j, s a scale, m a margin, [·]₊ = max(0, ·).
// A loss "of the softmax" is the mean of −log(e^{f_y} / Σ_j e^{f_j}); each struct says its logits f.

/// f_j = W_j·x + b_j.
struct SoftmaxOptions {
  bool bias = true;

  void validate() const {}
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(SoftmaxOptions, bias)

/// NormFace, Wang et al. 2017 (arXiv 1704.06369): f_j = s·c_j. With a small s the loss cannot become small:
/// with s = 1 and 10,000 classes no embedding reaches less than 8.2.
struct NormFaceOptions {
  double scale = 0;  ///< s; 0: least_scale (margins.h) for `posterior`
  /// What the softmax of a perfect embedding shall reach at least, where scale is 0; between 0 and 1.
  double posterior = 0.99;

  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(NormFaceOptions, scale, posterior)

/// L2-constrained softmax, Ranjan et al. 2017 (arXiv 1703.09507): f_j = W_j·(s x/‖x‖) + b_j.
struct L2SoftmaxOptions {
  double scale = 0;        ///< s; 0: the paper's bound log(p(C−2)/(1−p)), and at least 1
  double posterior = 0.9;  ///< p of the bound
  bool bias = true;

  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(L2SoftmaxOptions, scale, posterior, bias)

/// A-softmax, SphereFace, Liu et al. 2017 (arXiv 1704.08063): f_j = ‖x‖c_j,
///   f_y = ‖x‖(λc_y + ψ(θ_y)) / (1 + λ),  ψ(θ) = (−1)^k cos(mθ) − 2k,  k = ⌊mθ/π⌋
/// λ = max(lambda_min, lambda_max (1 + gamma·t)^−power) in training step t = 1, 2, … (wy1iu/sphereface); the
/// buffer `steps` holds t. Every pass in train mode counts, so λ falls faster with trainer.accumulate > 1.
struct ASoftmaxOptions {
  int64_t margin = 4;  ///< m, 1 to 8
  double lambda_max = 1000, lambda_min = 5, gamma = 0.12, power = 1;

  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ASoftmaxOptions, margin, lambda_max, lambda_min, gamma, power)

/// CosFace, Wang et al. 2018 (arXiv 1801.09414), and AM-softmax, Wang et al. 2018 (arXiv 1801.05599; there
/// s = 30, m = 0.35): f_j = s·c_j, f_y = s(c_y − m).
struct CosFaceOptions {
  double scale = 64;
  double margin = 0.4;  ///< with few classes, or where training is stuck: scale 16 to 32 and 0.2

  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(CosFaceOptions, scale, margin)

/// ArcFace, Deng et al. 2019 (arXiv 1801.07698): f_j = s·c_j, f_y = s·cos(θ_y + m) while θ_y + m < π, and
/// beyond, where that would rise again, s(c_y − m sin m) (arc_margin in margins.h).
struct ArcFaceOptions {
  double scale = 64;
  double margin = 0.5;  ///< radians
  /// The margin only where θ_y < π/2; else f_y = s·c_y.
  bool easy_margin = false;
  /// exact: the gradient of f_y. straight_through: df_y/dc_y = s, as in insightface's arcface_torch, which
  /// adds the margin outside autograd; the exact factor is s·sin(θ+m)/sin θ, which is large near θ = 0.
  std::string margin_grad = "exact";

  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ArcFaceOptions, scale, margin, easy_margin, margin_grad)

/// The combined margin of the ArcFace paper (section 2.2, table 2): f_j = s·c_j,
///   f_y = s(cos(min(m1·θ_y + m2, π)) − m3).
/// All three margins hold together; arcface_torch's class of that name leaves out m1 and m2 where m3 > 0.
struct CombinedOptions {
  double scale = 64;
  double m1 = 1, m2 = 0.3, m3 = 0.2;  ///< the paper's CM1; CM2 is 0.9, 0.4, 0.15
  std::string margin_grad = "exact";  ///< as for arcface

  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(CombinedOptions, scale, m1, m2, m3, margin_grad)

/// AdaFace, Kim et al. 2022 (arXiv 2204.00964): the margin follows the quality that the norm tells,
///   f_j = s·c_j,  f_y = s(cos(clip(θ_y − m·q, ε, π − ε)) − (m + m·q)),  q = clip(h(‖x‖ − μ)/(σ + ε), −1, 1)
/// with ε = 1e-3, ‖x‖ held in [0.001, 100] and taken without gradient; μ and σ (buffers `norm_mean`,
/// `norm_deviation`, first values 20 and 100) move by `momentum` to the batch's before they are used, in
/// train mode.
struct AdaFaceOptions {
  double scale = 64;
  double margin = 0.4;
  double concentration = 0.333;  ///< h
  double momentum = 0.01;

  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(AdaFaceOptions, scale, margin, concentration, momentum)

/// MagFace, Meng et al. 2021 (arXiv 2103.06627): ArcFace whose margin rises with a, the norm ‖x‖ held in
/// [lower_norm, upper_norm], from lower_margin to upper_margin, plus norm_weight times the mean of
/// g(a) = a/upper_norm² + 1/a. Outside of the two norms their part of the gradient is 0.
struct MagFaceOptions {
  double scale = 64;
  double lower_norm = 10, upper_norm = 110;
  double lower_margin = 0.45, upper_margin = 0.8;
  /// At least s·K·u²l²/(u² − l²), K = (upper − lower margin)/(u − l): below, g need not hold the norms.
  double norm_weight = 35;
  bool easy_margin = true;  ///< as published

  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(MagFaceOptions, scale, lower_norm, upper_norm, lower_margin, upper_margin,
                                   norm_weight, easy_margin)

/// CurricularFace, Huang et al. 2020 (arXiv 2004.00288): f_y as ArcFace; f_j = s·c_j(t + c_j) for hard
/// classes, c_j > cos(θ_y + m), else s·c_j. t (buffer `hardness`, first 0) moves by `momentum` to the batch's
/// mean of c_y before it is used, in train mode.
struct CurricularFaceOptions {
  double scale = 64;
  double margin = 0.5;
  double momentum = 0.01;

  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(CurricularFaceOptions, scale, margin, momentum)

/// ElasticFace, Boutros et al. 2022 (arXiv 2109.09416): ArcFace or CosFace whose margin is drawn from
/// N(m, deviation²) for every sample and step, from torch's generator.
struct ElasticFaceOptions {
  std::string kind = "arc";  ///< arc | cos
  double scale = 64;
  double margin = 0.5;  ///< 0.35 for cos
  double deviation = 0.05;
  /// ElasticFace+: the batch's larger margins go to its smaller c_y (deviation 0.0175 for arc, 0.02 for cos).
  /// The published code means this and hands them out by the inverse permutation.
  bool plus = false;

  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ElasticFaceOptions, kind, scale, margin, deviation, plus)

/// SphereFace2, Wen et al. 2022 (arXiv 2108.01513): C binary problems that share a bias b,
///   L = w Σ [ (λ/r) softplus(−r(g(c_y) − m) − b) + ((1−λ)/r) Σ_{j≠y} softplus(r(g(c_j) + m) + b) ] / N,
///   g(c) = 2((c + 1)/2)^t − 1
/// b (parameter `bias`) starts where the two parts pull equally at c = 0. Takes all classes at once: no
/// classes.sample_rate, and classes.chunk_bytes does nothing.
struct SphereFace2Options {
  double balance = 0.7;  ///< λ
  double scale = 40;     ///< r
  double margin = 0.4;
  double power = 3;    ///< t
  double weight = 50;  ///< w, as opensphere

  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(SphereFace2Options, balance, scale, margin, power, weight)

/// Circle loss, Sun et al. 2020 (arXiv 2002.10857). `circle`: with class rows, L = softplus(lse_{j≠y} f_j −
/// f_y),
///   f_y = γ[1 + m − c_y]₊(c_y − (1 − m)),  f_j = γ[c_j + m]₊(c_j − m)
/// `circle_pairs`: between the samples of a batch, per sample softplus(lse_n f_n + lse_p(−f_p)) over its
/// negatives n and positives p, mean over samples that have both. [·]₊ is taken without gradient, as the
/// paper's equation 10 does.
struct CircleOptions {
  double scale = 256;  ///< γ; for faces, section 4.1 (80 to 128 for pairs)
  double margin = 0.25;

  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(CircleOptions, scale, margin)

/// DeepID2, Sun et al. 2014 (arXiv 1406.4773): softmax + weight·Verif over the batch's pairs,
///   ½‖x_i − x_j‖² of one person, ½[m − ‖x_i − x_j‖]₊² of two
/// mean over each kind, half of each where both are there (among all pairs of a batch few are of one person).
/// m is not learnt: it starts at `margin`, and every `margin_every` steps becomes the threshold with the
/// least error (mean of the two error rates) on the last `margin_pairs` pairs.
struct ContrastiveOptions {
  double weight = 0.05;
  double margin = 1;
  int64_t margin_every = 100;  ///< 0: m stays
  int64_t margin_pairs = 4096;

  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ContrastiveOptions, weight, margin, margin_every, margin_pairs)

/// FaceNet, Schroff et al. 2015 (arXiv 1503.03832): [‖a − p‖² − ‖a − n‖² + margin]₊ on unit vectors, over
/// the batch's pairs (a, p) of one person.
struct TripletOptions {
  double margin = 0.2;
  /// random: one negative of those that violate the margin, drawn from torch's generator (davidsandberg/
  /// facenet); hard: the nearest; all: every one. The mean is over triplets that violate the margin.
  std::string mining = "random";

  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(TripletOptions, margin, mining)

/// Center loss, Wen et al. 2016 (ECCV): softmax + weight·½·mean ‖x − c_y‖². Centres (buffer `centers`) are
/// moved in train mode, outside autograd: c_j += alpha·Σ_{y=j}(x − c_j)/(1 + n_j), n_j samples of class j.
struct CenterOptions {
  double weight = 0.003;
  double alpha = 0.5;

  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(CenterOptions, weight, alpha)

/// How the product with the class rows is made, and what for very many classes. A step of a plain softmax
/// over 1,000,000 classes and 512 elements holds 2 GB each of weights, gradient and momentum, and 10 GB more.
struct ClassOptions {
  /// Partial FC, An et al. 2021, 2022 (arXiv 2010.05222, 2203.15565): each step takes the batch's classes and
  /// random others, so that this share of all is there (more, where the batch alone has more). Below 1 the
  /// rows are outside the optimiser: only those of the sample have gradient, momentum, decay and step, by SGD
  /// with optimizer.momentum and optimizer.weight_decay.
  double sample_rate = 1;
  /// Of sampled rows' step size: times optimizer.lr, for example where adamw trains the rest.
  double lr_factor = 1;
  /// The product goes block by block over the classes, in at most so much memory beside weights and
  /// gradients: the logits are never there as a whole. 0: by one product, with logits and normalised rows as a
  /// whole; slower but for few classes.
  int64_t chunk_bytes = int64_t{64} << 20;

  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ClassOptions, sample_rate, lr_factor, chunk_bytes)

/// Section `loss` of face recipes. Only the struct that `name` says is used.
struct FaceLossOptions {
  std::string name = "arcface";
  SoftmaxOptions softmax;
  NormFaceOptions normface;
  L2SoftmaxOptions l2softmax;
  ASoftmaxOptions asoftmax;
  CosFaceOptions cosface;
  ArcFaceOptions arcface;
  CombinedOptions combined;
  AdaFaceOptions adaface;
  MagFaceOptions magface;
  CurricularFaceOptions curricularface;
  ElasticFaceOptions elasticface;
  SphereFace2Options sphereface2;
  CircleOptions circle;
  ContrastiveOptions contrastive;
  TripletOptions triplet;
  CenterOptions center;
  ClassOptions classes;

  /// Throws UsageError naming key, value and range; checks every struct, and that `classes` asks for nothing
  /// that the loss cannot do.
  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(FaceLossOptions, name, softmax, normface, l2softmax, asoftmax, cosface,
                                   arcface, combined, adaface, magface, curricularface, elasticface,
                                   sphereface2, circle, contrastive, triplet, center, classes)

}  // namespace zoo
