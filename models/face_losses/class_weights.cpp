#include "models/face_losses/class_weights.h"

#include <algorithm>
#include <iterator>

#include <ATen/CPUGeneratorImpl.h>
#include <torch/torch.h>

#include "core/error.h"

namespace zoo {

namespace {

constexpr double kDeviation = 0.01;  // of the first rows, as arcface_torch
// Classes whose first rows one generator draws: they must not depend on how the classes are cut.
constexpr int64_t kDrawnRows = 4096;

/// First rows [count,D] of a shard.
torch::Tensor first_rows(const ClassShard& shard, int64_t embedding_size, uint64_t seed) {
  torch::Tensor rows = torch::empty({shard.count, embedding_size});
  const int64_t end = shard.start + shard.count;
  for (int64_t first = shard.start / kDrawnRows * kDrawnRows; first < end; first += kDrawnRows) {
    const auto generator =
        at::detail::createCPUGenerator(RandomStream{seed, 0, static_cast<uint64_t>(first)}.next());
    const int64_t count = std::min(kDrawnRows, shard.classes - first);
    const torch::Tensor drawn = torch::empty({count, embedding_size}).normal_(0, kDeviation, generator);
    const int64_t from = std::max(first, shard.start), to = std::min(first + count, end);
    rows.narrow(0, from - shard.start, to - from).copy_(drawn.narrow(0, from - first, to - from));
  }
  return rows;
}

/// Labels as a vector, all of them in range.
std::vector<int64_t> checked(const torch::Tensor& labels, int64_t classes) {
  const torch::Tensor on_cpu = labels.cpu().contiguous();
  const auto* begin = on_cpu.data_ptr<int64_t>();
  std::vector<int64_t> values(begin, begin + on_cpu.numel());
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i] >= 0 && values[i] < classes) continue;
    throw Error("face loss: sample " + std::to_string(i) + " of the batch: label " +
                std::to_string(values[i]) + ", expected 0.." + std::to_string(classes - 1));
  }
  return values;
}

torch::Tensor index_tensor(const std::vector<int64_t>& values, torch::Device device) {
  return torch::tensor(values, torch::kLong).to(device);
}

}  // namespace

ClassShard ClassShard::of(int64_t classes, int64_t rank, int64_t ranks) {
  return {classes, classes / ranks * rank + std::min(rank, classes % ranks),
          classes / ranks + (rank < classes % ranks ? 1 : 0)};
}

std::vector<int64_t> sample_classes(const std::vector<int64_t>& wanted, int64_t classes, int64_t count,
                                    RandomStream& random) {
  const auto present = static_cast<int64_t>(wanted.size());
  count = std::min(classes, std::max<int64_t>({count, present, 2}));
  std::vector<char> taken(static_cast<size_t>(classes), 0);
  for (const int64_t index : wanted) taken[static_cast<size_t>(index)] = 1;
  // The smaller part is drawn: classes to add, or to leave out of all that are not wanted.
  const int64_t added = count - present, left_out = classes - count;
  const char drawn = added <= left_out ? 1 : 2;
  for (int64_t missing = std::min(added, left_out); missing > 0;) {
    char& mark = taken[static_cast<size_t>(random.integer(0, classes - 1))];
    if (mark != 0) continue;
    mark = drawn;
    --missing;
  }
  std::vector<int64_t> sample;
  sample.reserve(static_cast<size_t>(count));
  for (int64_t index = 0; index < classes; ++index) {
    const char mark = taken[static_cast<size_t>(index)];
    if (mark == 1 || (drawn == 2 && mark == 0)) sample.push_back(index);
  }
  return sample;
}

ClassWeights::ClassWeights(LossModule& owner, const ClassShard& shard, int64_t embedding_size, bool bias,
                           const ClassOptions& options, uint64_t seed)
    : shard_(shard), options_(options), seed_(seed), weight_(first_rows(shard, embedding_size, seed)) {
  if (sampled()) {
    owner.register_buffer("weight", weight_);
    momentum_ = owner.register_buffer("momentum", torch::zeros_like(weight_));
    draws_ = owner.register_buffer("draws", torch::zeros({}, torch::kLong));
  } else {
    weight_ = owner.register_parameter("weight", weight_);
  }
  if (bias) bias_ = owner.register_parameter("bias", torch::zeros({shard.count}));
}

RowShard ClassWeights::row_shard() const {
  if (shard_.count == shard_.classes) return {};
  RowShard shard{{"weight"}, shard_.classes, shard_.start, shard_.count};
  if (bias_.defined()) shard.names.emplace_back("bias");
  return shard;
}

ClassRows ClassWeights::rows(const torch::Tensor& labels, bool normalise) {
  const std::vector<int64_t> values = checked(labels, shard_.classes);
  torch::Tensor local = labels;
  if (shard_.count < shard_.classes) {
    const torch::Tensor here = labels.ge(shard_.start).logical_and(labels.lt(shard_.start + shard_.count));
    local = torch::where(here, labels - shard_.start, -1);
  }
  return sampled() ? sampled_rows(local, normalise) : ClassRows{weight_, bias_, normalise, local};
}

ClassRows ClassWeights::sampled_rows(const torch::Tensor& local, bool normalise) {
  const torch::Tensor on_cpu = local.cpu().contiguous();
  std::vector<int64_t> labels(on_cpu.data_ptr<int64_t>(), on_cpu.data_ptr<int64_t>() + on_cpu.numel());
  std::vector<int64_t> wanted;
  std::copy_if(labels.begin(), labels.end(), std::back_inserter(wanted),
               [](int64_t label) { return label >= 0; });
  std::sort(wanted.begin(), wanted.end());
  wanted.erase(std::unique(wanted.begin(), wanted.end()), wanted.end());
  const auto count = static_cast<int64_t>(options_.sample_rate * static_cast<double>(shard_.count));
  RandomStream random{seed_, 1, static_cast<uint64_t>(shard_.start),
                      static_cast<uint64_t>(draws_.item<int64_t>())};
  const std::vector<int64_t> sample = sample_classes(wanted, shard_.count, count, random);
  for (int64_t& label : labels) {
    if (label >= 0) label = std::lower_bound(sample.begin(), sample.end(), label) - sample.begin();
  }
  Sample taken{index_tensor(sample, weight_.device()), {}};
  {
    const torch::NoGradGuard no_grad;
    draws_.add_(1);
    taken.rows = weight_.index_select(0, taken.index);
  }
  if (torch::GradMode::is_enabled()) {
    taken.rows.set_requires_grad(true);
    samples_.push_back(taken);
  }
  return {taken.rows, bias_.defined() ? bias_.index_select(0, taken.index) : bias_, normalise,
          index_tensor(labels, local.device())};
}

/// Samples of several forward passes (accumulated gradients) become one, of the sum of their gradients.
void ClassWeights::merge_samples() {
  samples_.erase(std::remove_if(samples_.begin(), samples_.end(),
                                [](const Sample& sample) { return !sample.rows.grad().defined(); }),
                 samples_.end());
  if (samples_.size() < 2) return;
  std::vector<torch::Tensor> indices;
  for (const Sample& sample : samples_) indices.push_back(sample.index);
  const auto [index, place] = at::_unique(torch::cat(indices), /*sorted=*/true, /*return_inverse=*/true);
  const torch::Tensor gradient = torch::zeros({index.size(0), weight_.size(1)}, weight_.options());
  int64_t first = 0;
  for (const Sample& sample : samples_) {
    const int64_t count = sample.index.size(0);
    gradient.index_add_(0, place.narrow(0, first, count), sample.rows.grad());
    first += count;
  }
  Sample merged{index, weight_.index_select(0, index)};
  merged.rows.mutable_grad() = gradient;
  samples_ = {merged};
}

std::vector<torch::Tensor> ClassWeights::gradients() {
  const torch::NoGradGuard no_grad;
  merge_samples();
  if (samples_.empty()) return {};
  return {samples_.front().rows.grad()};
}

void ClassWeights::step(double lr, double weight_decay, double momentum, double gradient_scale) {
  const torch::NoGradGuard no_grad;
  merge_samples();
  if (samples_.empty()) return;
  torch::Tensor rows = samples_.front().rows.detach();
  const torch::Tensor index = samples_.front().index, gradient = samples_.front().rows.grad();
  torch::Tensor velocity = momentum_.index_select(0, index).mul_(momentum);
  velocity.add_(gradient, gradient_scale).add_(rows, weight_decay);
  rows.sub_(velocity, lr * options_.lr_factor);
  momentum_.index_copy_(0, index, velocity);
  weight_.index_copy_(0, index, rows);
}

}  // namespace zoo
