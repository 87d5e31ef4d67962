#include "trainers/tasks/latent_cache.h"

#include <torch/torch.h>

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "core/text.h"
#include "models/weights/state_dict.h"

namespace zoo {

namespace {

constexpr const char* kCacheKey = "zoo.latents";

/// FNV-1a over words of 8 bytes: tells weights apart, no more.
uint64_t mixed(uint64_t hash, const void* data, size_t size) {
  const auto* bytes = static_cast<const uint8_t*>(data);
  for (size_t i = 0; i < size; i += sizeof(uint64_t)) {
    uint64_t word = 0;
    std::memcpy(&word, bytes + i, std::min(sizeof word, size - i));
    hash = (hash ^ word) * 0x100000001B3ULL;
  }
  return hash;
}

constexpr uint64_t kHashStart = 0xCBF29CE484222325ULL;

}  // namespace

void require_latent_multiples(const std::vector<int64_t>& size, int64_t factor) {
  for (const int64_t side : size) {
    if (side % factor == 0) continue;
    const int64_t below = std::max<int64_t>(1, side / factor) * factor;
    throw UsageError(format("data.transform.size: %lld is no multiple of %lld, expected %lld or %lld",
                            static_cast<long long>(side), static_cast<long long>(factor),
                            static_cast<long long>(below), static_cast<long long>(below + factor)));
  }
}

LatentCache::LatentCache(std::string place, std::shared_ptr<CaptionDataset> dataset, const DataOptions& data,
                         const CaptionTransformOptions& transform)
    : place_(std::move(place)), dataset_(std::move(dataset)), data_(data), transform_(transform) {}

std::string LatentCache::key(const AutoencoderImpl& autoencoder) const {
  uint64_t hash = kHashStart;
  for (const auto& item : autoencoder.named_parameters()) {
    if (!starts_with(item.key(), "encoder") && !starts_with(item.key(), "quant_conv")) continue;
    const torch::Tensor values = item.value().detach().cpu().contiguous();
    hash = mixed(hash, values.data_ptr(), values.nbytes());
  }
  for (int64_t i = 0; i < dataset_->size(); ++i) {
    const std::string name = dataset_->name(i);
    hash = mixed(hash, name.data(), name.size());
  }
  return Json{{"data", dataset_->description()},
              {"transform", transform_},
              {"weights", format("%016llx", static_cast<unsigned long long>(hash))}}
      .dump(-1, ' ', false, Json::error_handler_t::replace);
}

bool LatentCache::load(const std::string& file, const std::string& key) {
  if (!file_exists(file)) return false;
  StateDict stored = load_tensors(file);
  const torch::Tensor *encoded = stored.find("encoded"), *readable = stored.find("readable");
  const bool right = stored.metadata[kCacheKey] == key && encoded != nullptr && readable != nullptr &&
                     encoded->size(0) == dataset_->size();
  if (!right) throw Error(file + ": holds no latents of this training, expected an empty folder");
  encoded_ = *encoded;
  readable_ = *readable;
  log_info("latents: from " + file);
  return true;
}

void LatentCache::fill(AutoencoderImpl& autoencoder, torch::Device device,
                       const std::function<void(int64_t, int64_t)>& progress) {
  if (filled()) return;
  if (place_ == "memory") return encode(autoencoder, device, progress);
  const std::string key = this->key(autoencoder);
  const uint64_t hash = mixed(kHashStart, key.data(), key.size());
  const std::string file =
      join_path(place_, format("latents-%016llx.safetensors", static_cast<unsigned long long>(hash)));
  if (load(file, key)) return;
  make_folders(place_);
  encode(autoencoder, device, progress);
  save_safetensors(file, {{{"encoded", encoded_}, {"readable", readable_}}, {{kCacheKey, key}}, file});
}

void LatentCache::encode(AutoencoderImpl& autoencoder, torch::Device device,
                         const std::function<void(int64_t, int64_t)>& progress) {
  const torch::NoGradGuard no_grad;
  const std::unique_ptr<BatchSource> batches = caption_batches(dataset_, data_, transform_, false, 0);
  batches->start_epoch(0);
  readable_ = torch::zeros({dataset_->size()}, torch::kUInt8);
  int64_t done = 0;
  while (const std::unique_ptr<Batch> batch = batches->next()) {
    const auto& pictures = dynamic_cast<const CaptionBatch&>(*batch);
    const torch::Tensor rows = autoencoder.encode(pictures.images.to(device)).to(torch::kCPU, torch::kFloat);
    if (!encoded_.defined()) {
      std::vector<int64_t> shape = rows.sizes().vec();
      shape[0] = dataset_->size();
      encoded_ = torch::zeros(shape);
    }
    const torch::Tensor places = torch::tensor(pictures.records, torch::kLong);
    encoded_.index_copy_(0, places, rows);
    readable_.index_fill_(0, places, 1);
    if (progress) progress(++done, batches->batches_per_epoch());
  }
}

torch::Tensor LatentCache::rows(const std::vector<int64_t>& records) const {
  return encoded_.index_select(0, torch::tensor(records, torch::kLong));
}

void LatentCache::require(int64_t record) const {
  if (readable_.data_ptr<uint8_t>()[record] == 0)
    throw Error(dataset_->description() + ": " + dataset_->name(record) + ": its picture cannot be read");
}

}  // namespace zoo
