#include "trainers/clip_scorer.h"

#include <torch/torch.h>

#include "models/clip_vision/clip.h"

namespace zoo {

ClipScorer::ClipScorer(const std::string& path) : clip_(load_clip(path)), source_(path) {}

torch::Tensor ClipScorer::scores(const torch::Tensor& pictures, const std::vector<std::string>& texts,
                                 torch::Device device) {
  const torch::NoGradGuard no_grad;
  clip_.model->to(device);
  const ClipOptions& options = clip_.model->options;
  std::vector<torch::Tensor> ids;
  for (const std::string& text : texts)
    ids.push_back(torch::tensor(clip_.tokenizer.encode(text, options.text_config.max_position_embeddings)));
  const torch::Tensor bytes =
      pictures.to(torch::kCPU, torch::kFloat).add(1).mul(127.5).round().clamp(0, 255).to(torch::kByte);
  const torch::Tensor pixels = clip_pixels(bytes, options.vision_config.image_size).to(device);
  const torch::Tensor seen = clip_.model->picture_features(pixels);
  const torch::Tensor said =
      clip_.model->text_features(torch::stack(ids).to(device), clip_.tokenizer.end_token());
  return torch::cosine_similarity(seen, said, 1).clamp_min(0).mul(100).to(torch::kCPU, torch::kDouble);
}

}  // namespace zoo
