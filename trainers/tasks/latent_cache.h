#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <torch/types.h>

#include "datasets/captions/captions.h"
#include "models/autoencoder/autoencoder.h"

namespace zoo {

/// Throws UsageError naming the nearest sizes that fit where a side is no multiple of the autoencoder's factor.
void require_latent_multiples(const std::vector<int64_t>& size, int64_t factor);

/// What an autoencoder's encoder says of every picture of a set (moments [N,2C,h,w] float, for vq latents [N,C,h,w]),
/// computed once: in memory, or in a file of a folder that names data, transform and weights, so that no other
/// training meets it by mistake.
class LatentCache {
 public:
  /// `place`: a folder, or "memory". A set's pictures are cut the same in every epoch.
  LatentCache(std::string place, std::shared_ptr<CaptionDataset> dataset, const DataOptions& data,
              const CaptionTransformOptions& transform);

  /// Encodes all pictures, or finds the file that holds them. Does nothing the second time. `progress(done, all)`
  /// counts batches. Throws Error for a picture that cannot be read, unless data.skip_bad leaves it out.
  void fill(AutoencoderImpl& autoencoder, torch::Device device,
            const std::function<void(int64_t, int64_t)>& progress = {});
  bool filled() const { return encoded_.defined(); }

  /// Rows of those records. `fill` first.
  torch::Tensor rows(const std::vector<int64_t>& records) const;
  /// Throws Error for a record whose picture could not be read.
  void require(int64_t record) const;

 private:
  std::string key(const AutoencoderImpl& autoencoder) const;
  bool load(const std::string& file, const std::string& key);
  void encode(AutoencoderImpl& autoencoder, torch::Device device,
              const std::function<void(int64_t, int64_t)>& progress);

  std::string place_;
  std::shared_ptr<CaptionDataset> dataset_;
  DataOptions data_;
  CaptionTransformOptions transform_;
  torch::Tensor encoded_, readable_;  ///< [N,…]; [N] u8
};

}  // namespace zoo
