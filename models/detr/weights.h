#pragma once
#include <string>
#include <vector>

#include "models/detr/detr.h"
#include "models/weights/state_dict.h"

namespace zoo {

/// Published layouts of DETR's weights. zoo's own names are `original`.
///   original  facebookresearch/detr
///   hf-timm   transformers with a timm backbone, as in facebook/detr-resnet-50 (torchvision's names in the ResNet)
///   hf        transformers with its own ResNet; it knows no dilation, so there is no DC5
/// Both spellings of transformers 5 are read: of its files and of its modules in memory.
const std::vector<std::string>& detr_layouts();

/// The layout that the tensors' names belong to, empty where it is none of DETR's.
std::string recognise_detr_layout(const StateDict& state);

/// Tensors of any layout under the original names; names of none stay as they are.
StateDict detr_from_layout(const StateDict& state);

/// Tensors with the original names under those of `layout` (`zoo` is `original`). Throws UsageError for an
/// unknown layout and where it has no place for the model: hf and hf-timm hold ResNets and no pre_norm.
StateDict detr_to_layout(const StateDict& state, const std::string& layout);

/// `options` with what names and shapes of the tensors tell: backbone, num_classes, num_queries, hidden_dim,
/// layers, feedforward, pre_norm, position, reference_points. They tell neither heads nor dilation (DC5).
/// Throws Error where the layout is none of DETR's or the backbone is none of zoo's.
DetrOptions detr_options_of(const StateDict& state, DetrOptions options = {});

/// Whether the tensors are of a DETR with the backbone of `options`. Never true for DC5, which names cannot
/// tell.
bool detr_recognises(const StateDict& state, const DetrOptions& options);

/// Copies weights of any layout into the model. Throws Error with the numbers of missing, extra and misshapen
/// tensors, with `partial` only a warning.
void load_detr_weights(DetrImpl& detr, const StateDict& state, bool partial);

/// The model of a file, in eval mode: a run's own options where the weights hold them (`zoo.config`),
/// otherwise what detr_options_of tells with the published heads. `path` as in load_state_dict. Throws Error.
Detr load_detr(const std::string& path);

/// The backbone alone: a classifier's file of torchvision or timm (its `fc` is left out), transformers'
/// ResNet, or any layout of a whole DETR. Throws as load_detr_weights.
void load_detr_backbone(DetrImpl& detr, const StateDict& state, bool partial);

/// The config.json beside model.safetensors with which `transformers.DetrForObjectDetection.from_pretrained`
/// loads a folder in layout hf or hf-timm. `categories`: the JSON list `[{"id", "index", "name"}, …]` that is
/// stored with the weights; may be "[]". Throws UsageError where that layout cannot say what the options ask
/// for.
std::string detr_hf_config(const DetrOptions& options, const std::string& layout,
                           const std::string& categories);

}  // namespace zoo
