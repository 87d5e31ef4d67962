#pragma once
#include <string>
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/types.h>

#include "core/options.h"
#include "models/backbones/resnet.h"
#include "models/backbones/tiny.h"
#include "models/layers/mlp.h"
#include "models/layers/position_encoding.h"
#include "models/layers/transformer.h"

namespace zoo {

/// DETR, "End-to-End Object Detection with Transformers", Carion et al. 2020 (arXiv 2005.12872). Defaults are
/// those of the published DETR-R50; sections and tables are the paper's.
struct DetrOptions {
  std::string backbone = "resnet50";  ///< resnet50 | resnet101 | tiny (our own, for the embedded data)
  bool dilation = false;              ///< "DC5": the ResNet's last stage at stride 16, table 1
  int64_t trainable_stages = 3;       ///< of the ResNet, counted from its end; 4: all stages, 5: the stem too
  bool frozen_norm = true;            ///< the ResNet's batch norms never update, appendix A.4
  int64_t num_classes = 91;           ///< no-object not counted; 0: from the data
  int64_t num_queries = 100;          ///< object slots, section 3.2
  int64_t hidden_dim = 256;           ///< channels of the transformer, a multiple of `heads` and of 4
  int64_t heads = 8;
  int64_t encoder_layers = 6;
  int64_t decoder_layers = 6;
  int64_t feedforward = 2048;     ///< width of the feed-forward networks
  double dropout = 0.1;           ///< of the transformer, appendix A.4
  bool pre_norm = false;          ///< LayerNorm before attention and feed-forward, not after
  std::string position = "sine";  ///< sine | learned, table 3
  bool aux_loss = true;           ///< outputs of every decoder layer in training, section 3.2
  /// Adds the positions to the encoder's input too, as Vaswani et al. 2017 do, so that values carry them. Not
  /// in the published models; small sets from scratch need it.
  bool positions_in_values = false;
  /// Every query has a point of the picture, from which its box's centre is counted, as in Conditional DETR
  /// (Meng et al. 2021, arXiv 2108.06152, section 3.3): σ(box MLP + logit of the point). The points start
  /// spread over the picture and each query as its point's sine encoding, which attention starts by seeking.
  /// Not in the published models; without it all boxes start alike, and matching takes long to part them.
  bool reference_points = false;

  /// Throws UsageError naming the key, its value and the range.
  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(DetrOptions, backbone, dilation, trainable_stages, frozen_norm,
                                   num_classes, num_queries, hidden_dim, heads, encoder_layers,
                                   decoder_layers, feedforward, dropout, pre_norm, position, aux_loss,
                                   positions_in_values, reference_points)

/// The published models (table 1), and a small one for pictures of about 128 pixels.
DetrOptions detr_resnet50();
DetrOptions detr_resnet50_dc5();
DetrOptions detr_resnet101();
DetrOptions detr_resnet101_dc5();
DetrOptions detr_tiny();

/// L decoder layers (all in training with aux_loss, otherwise the last: 1), B images, Q queries, C classes.
struct DetrOutput {
  torch::Tensor logits;  ///< [L,B,Q,C+1] float32, the last class is no-object
  torch::Tensor boxes;   ///< [L,B,Q,4] float32, cx cy w h in 0..1 of the image without padding
};

/// What backbone and encoder make of the pictures; D channels, a map of h x w cells.
struct DetrFeatures {
  std::vector<torch::Tensor> stages;  ///< of the backbone, finest first
  torch::Tensor projected;            ///< [B,D,h,w] last stage after input_proj
  torch::Tensor valid;                ///< [B,h,w] bool, true on real cells; undefined where nothing is padded
  torch::Tensor position;             ///< [B,hw,D] (or [1,hw,D])
  torch::Tensor memory;               ///< [B,hw,D] the encoder's output
};

/// A convolutional backbone and the positions of its cells, under the published names `backbone.0.body`,
/// `backbone.1`.
class DetrBackboneImpl : public torch::nn::Module {
 public:
  explicit DetrBackboneImpl(const DetrOptions& options);

  std::vector<torch::Tensor> stages(const torch::Tensor& pixels);  ///< [B,3,H,W] -> finest first
  torch::Tensor position(const torch::Tensor& valid);              ///< [B,h,w] -> [B or 1,h,w,D]
  int64_t channels() const;                                        ///< of the last stage
  /// The net below `backbone.0.body`.
  torch::nn::Module& body();

 private:
  int64_t dim_;
  ResNet resnet_{nullptr};
  TinyBackbone tiny_{nullptr};
  LearnedPositionEncoding learned_{nullptr};
};
TORCH_MODULE(DetrBackbone);

/// Parameters and buffers have the names of facebookresearch/detr, whose files open here and the other way
/// round.
class DetrImpl : public torch::nn::Module {
 public:
  /// Throws UsageError as DetrOptions::validate, and where num_classes is 0.
  explicit DetrImpl(const DetrOptions& options);

  /// pixels [B,3,H,W] normalised RGB, 0 where padded; mask [B,H,W] bool, true on real pixels, undefined where
  /// nothing is padded. Throws Error for other shapes. May be traced in eval mode (with a mask); the trace
  /// holds for every size, batch and padding.
  DetrOutput forward(const torch::Tensor& pixels, const torch::Tensor& mask = {});

  /// The parts of `forward`, for heads of other kinds.
  DetrFeatures encode(const torch::Tensor& pixels, torch::Tensor mask);
  torch::Tensor decode(const DetrFeatures& features);  ///< [L,B,Q,D], normalised
  DetrOutput predict(const torch::Tensor& states);     ///< the two heads on [L,B,Q,D]
  /// The two heads on every cell of the encoder's output, taken as a query whose point is the cell's centre:
  /// [1,B,hw,C+1] and [1,B,hw,4]. Training on them too (DetrLossOptions::encoder_weight) teaches backbone and
  /// encoder before the decoder knows where to look.
  DetrOutput predict_cells(const DetrFeatures& features);

  DetrOptions options;
  DetrBackbone backbone{nullptr};
  torch::nn::Conv2d input_proj{nullptr};
  TransformerEncoder encoder{nullptr};
  TransformerDecoder decoder{nullptr};
  torch::nn::Linear class_embed{nullptr};
  Mlp bbox_embed{nullptr};
  torch::nn::Embedding query_embed{nullptr};
  torch::Tensor reference_points;  ///< [Q,2] logits of x and y; undefined without the option

 private:
  void init_reference_points();
  DetrOutput heads(const torch::Tensor& states, const torch::Tensor& points);
};
TORCH_MODULE(Detr);

}  // namespace zoo
