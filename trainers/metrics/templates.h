#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include <torch/types.h>

#include "core/options.h"
#include "datasets/faces/faces.h"
#include "trainers/metrics/roc.h"

namespace zoo {

/// Section `verify.templates`: the switches that every number must be told with (face.md section 6).
struct TemplateOptions {
  bool keep_norm = true;       ///< embeddings weigh as their length says; false: unit vectors are summed
  bool detector_score = true;  ///< embeddings times the detector's score
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(TemplateOptions, keep_norm, detector_score)

/// The 1:1 protocol of IJB-B and IJB-C. `embeddings` [N,D], one a picture of the set, flip already added: those of
/// one medium are averaged, the media of a template summed, and a pair's score is the cosine of its two sums. Throws
/// Error naming `source` where N is another number, for numbers that are not finite, and for pairs of templates
/// without pictures.
Roc compare_templates(const torch::Tensor& embeddings, const FaceTemplates& set,
                      const TemplateOptions& options, const std::string& source);

/// The `metrics` document of a verification; accuracy and threshold are null (there are no folds), TAR is that of
/// the point nearest in FAR.
Json template_metrics_json(const Roc& roc);

}  // namespace zoo
