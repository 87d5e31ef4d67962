#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace zoo {

/// What the trainer knows of a batch. Each kind of work derives its own with named tensors.
struct Batch {
  virtual ~Batch() = default;
  std::vector<std::string> ids;  ///< one per sample, for messages about non-finite losses
  int64_t size() const { return static_cast<int64_t>(ids.size()); }
};

/// Which part of every batch a source makes, where several processes share them: part `index` of `count` of
/// one size.
struct BatchPart {
  int64_t index = 0, count = 1;
};

/// An endless or finite sequence of batches of one data set, in an order fixed by (seed, epoch).
class BatchSource {
 public:
  virtual ~BatchSource() = default;
  /// Batches of an epoch.
  virtual int64_t batches_per_epoch() const = 0;
  virtual int64_t samples() const = 0;
  /// Positions the source: the next batch is batch `first_batch` of `epoch`.
  virtual void start_epoch(int64_t epoch, int64_t first_batch = 0) = 0;
  /// The next batch of the epoch; null at its end. Throws Error naming the record that could not be read.
  virtual std::unique_ptr<Batch> next() = 0;
  /// Records left out so far because they could not be read (data.skip_bad).
  virtual int64_t skipped() const { return 0; }
};

}  // namespace zoo
