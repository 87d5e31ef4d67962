#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/random.h"
#include "datasets/batch.h"
#include "datasets/options.h"

namespace zoo {

struct LoaderOptions {
  int64_t batch_size = 1;
  int64_t workers = 0;   ///< threads that make batches ahead of time; 0: made by `next` in its own thread
  bool shuffle = false;  ///< another order in each epoch, by (seed, epoch)
  bool drop_last =
      false;  ///< the incomplete batch at the end; a set smaller than a batch is one batch all the same
  bool skip_bad = false;  ///< records that cannot be read are warned about, counted and left out
  uint64_t seed = 0;
  std::function<std::string(int64_t record)> name;  ///< of a record, for messages; none: "record 17"
  int64_t ahead = 0;  ///< batches that may wait for `next`; 0: twice the workers
  BatchPart part;
};

/// Those of a section `data`: training batches are shuffled and whole.
LoaderOptions loader_options(const DataOptions& data, bool training, uint64_t seed);

using ReadRecord = std::function<void(int64_t record, RandomStream& rng)>;

/// The records of one batch, read one by one. Handed to the function that makes the batch.
class BatchRecords {
 public:
  virtual ~BatchRecords() = default;
  /// Calls read(record, rng) for every record of the batch in order; rng is the stream (seed, epoch, record).
  /// What `read` throws ends the batch as an Error (what is none gets the record's name; std::bad_alloc
  /// stays), or with skip_bad leaves the record out. With shuffle the record's place is then taken by the
  /// next readable one of the epoch's order, so that training batches keep their size (two parts of a batch
  /// may take the same one); without, the batch is smaller, and one without any record is passed over.
  virtual void read(const ReadRecord& read) = 0;
};

/// Makes one batch; null where no record was left. Runs in several threads at once.
using MakeBatch = std::function<std::unique_ptr<Batch>(BatchRecords& records)>;

/// A source whose batches and order depend on (seed, epoch) alone, not on the number of workers. The worker
/// threads live from the first start_epoch to the end of the source, with all signals blocked; the destructor
/// waits for at most one sample of each. `next` throws what the making of that very batch threw; the one
/// after it is then next. They are plain threads: `make` may create tensors and fill them, but must not run
/// torch operators (each thread would start a team of its own) nor count on grad mode. Throws Error where
/// there is no record or a batch has not so many parts, and `next` where none can be read.
std::unique_ptr<BatchSource> make_loader(int64_t records, const LoaderOptions& options, MakeBatch make);

/// The same from two functions: `sample` reads and transforms a record, `collate` joins samples.
template <class Sample>
std::unique_ptr<BatchSource> make_loader(int64_t records, const LoaderOptions& options,
                                         std::function<Sample(int64_t record, RandomStream& rng)> sample,
                                         std::function<std::unique_ptr<Batch>(std::vector<Sample>)> collate) {
  return make_loader(records, options, [sample, collate](BatchRecords& batch) -> std::unique_ptr<Batch> {
    std::vector<Sample> samples;
    batch.read([&](int64_t record, RandomStream& rng) { samples.push_back(sample(record, rng)); });
    return samples.empty() ? nullptr : collate(std::move(samples));
  });
}

/// Samples per second that a source delivers in the long run: over whole batches of at least `seconds`, epoch
/// after epoch, from the second batch on. (Batches of several workers arrive in bunches, so that the median
/// time of `next` says nothing.) Throws what `next` throws.
double samples_per_second(BatchSource& source, double seconds);

}  // namespace zoo
