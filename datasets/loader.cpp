#include "datasets/loader.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <exception>
#include <map>
#include <mutex>
#include <new>
#include <numeric>
#include <set>
#include <thread>

#include "core/error.h"
#include "core/log.h"
#include "core/text.h"

namespace zoo {
namespace {

constexpr size_t kNamedWarnings = 5;

/// Ends the making of a batch that nobody waits for any more.
struct Cancelled {};

/// Records that could not be read, each counted and told once.
class BadRecords {
 public:
  void add(int64_t record, const std::string& why) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!records_.insert(record).second) return;
    if (records_.size() <= kNamedWarnings) log_warning("left out: " + why);
    if (records_.size() == kNamedWarnings) log_warning("further unreadable records are counted, not named");
  }
  int64_t count() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return static_cast<int64_t>(records_.size());
  }

 private:
  mutable std::mutex mutex_;
  std::set<int64_t> records_;
};

/// An epoch's records in order.
struct Epoch {
  int64_t number = 0;
  std::vector<int64_t> order;
};

/// Batch `batch` of an epoch.
class Reading : public BatchRecords {
 public:
  Reading(const LoaderOptions& options, const Epoch& epoch, int64_t batch, BadRecords& bad,
          const std::function<bool()>& cancelled)
      : options_(options), epoch_(epoch), batch_(batch), bad_(bad), cancelled_(cancelled) {}

  void read(const ReadRecord& read) override {
    const auto all = static_cast<int64_t>(epoch_.order.size());
    const int64_t first = batch_ * options_.batch_size;
    const int64_t last = std::min(first + options_.batch_size, all);
    const int64_t size = options_.batch_size / options_.part.count,
                  begin = first + options_.part.index * size;
    int64_t substitute = last;  // for an unreadable record, around the end of the epoch back to the batch
    for (int64_t place = begin; place < std::min(begin + size, last); ++place) {
      bool found = try_read(place, read);
      while (!found && options_.shuffle && substitute < first + all)
        found = try_read(substitute++ % all, read);
    }
  }

 private:
  bool try_read(int64_t place, const ReadRecord& read) {
    if (cancelled_()) throw Cancelled();
    const int64_t record = epoch_.order[static_cast<size_t>(place)];
    RandomStream rng{options_.seed, static_cast<uint64_t>(epoch_.number), static_cast<uint64_t>(record)};
    try {
      read_named(record, rng, read);
      return true;
    } catch (const Error& error) {
      if (!options_.skip_bad) throw;
      bad_.add(record, error.what());
      return false;
    }
  }

  /// An Error names its file; what OpenCV or the standard library throws does not.
  void read_named(int64_t record, RandomStream& rng, const ReadRecord& read) const {
    try {
      read(record, rng);
    } catch (const Error&) {
      throw;
    } catch (const std::bad_alloc&) {
      throw;
    } catch (const std::exception& error) {
      const std::string name =
          options_.name ? options_.name(record) : format("record %lld", static_cast<long long>(record));
      throw Error(name + ": " + error.what());
    }
  }

  const LoaderOptions& options_;
  const Epoch& epoch_;
  int64_t batch_;
  BadRecords& bad_;
  const std::function<bool()>& cancelled_;
};

/// While it lives, threads started by this one have all signals blocked.
class BlockedSignals {
 public:
  BlockedSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~BlockedSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

/// A batch or why there is none; neither where all its records were left out.
struct Made {
  std::unique_ptr<Batch> batch;
  std::exception_ptr error;
};

class Loader : public BatchSource {
 public:
  Loader(int64_t records, const LoaderOptions& options, MakeBatch make)
      : records_(records), options_(options), make_(std::move(make)) {
    if (records_ < 1) throw Error("the data set has no records, expected at least one");
    options_.batch_size = std::min(options_.batch_size, records_);
    if (options_.batch_size % options_.part.count != 0) {
      throw Error(format("a batch of %lld records: expected a multiple of the %lld processes that share it",
                         static_cast<long long>(options_.batch_size),
                         static_cast<long long>(options_.part.count)));
    }
    if (options_.ahead == 0) options_.ahead = 2 * options_.workers;
  }
  ~Loader() override {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
      ++generation_;
    }
    work_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  int64_t batches_per_epoch() const override {
    return (options_.drop_last ? records_ : records_ + options_.batch_size - 1) / options_.batch_size;
  }
  int64_t samples() const override { return records_; }
  int64_t skipped() const override { return bad_.count(); }

  void start_epoch(int64_t epoch, int64_t first_batch) override {
    auto plan = std::make_shared<Epoch>();
    plan->number = epoch;
    if (options_.shuffle) {
      plan->order = RandomStream{options_.seed, static_cast<uint64_t>(epoch)}.permutation(records_);
    } else {
      plan->order.resize(static_cast<size_t>(records_));
      std::iota(plan->order.begin(), plan->order.end(), 0);
    }
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      ++generation_;
      epoch_ = std::move(plan);
      next_to_make_ = next_to_give_ = first_batch;
      made_.clear();
    }
    first_batch_ = first_batch;
    given_ = 0;
    start_workers();
    work_.notify_all();
  }

  std::unique_ptr<Batch> next() override {
    while (epoch_ != nullptr && next_to_give_ < batches_per_epoch()) {
      Made made = options_.workers == 0 ? make(*epoch_, next_to_give_++, generation_) : take();
      if (made.error != nullptr) std::rethrow_exception(made.error);
      if (made.batch == nullptr) continue;
      ++given_;
      return std::move(made.batch);
    }
    if (epoch_ != nullptr && first_batch_ == 0 && given_ == 0) {  // or a training run would go round for ever
      throw Error(format("none of the %lld records can be read", static_cast<long long>(records_)));
    }
    return nullptr;
  }

 private:
  Made make(const Epoch& epoch, int64_t batch, int64_t generation) {
    Made made;
    try {
      const std::function<bool()> cancelled = [&] { return generation != generation_; };
      Reading records(options_, epoch, batch, bad_, cancelled);
      made.batch = make_(records);
    } catch (...) {
      made.error = std::current_exception();
    }
    return made;
  }

  /// The next batch in order, as soon as a worker has it.
  Made take() {
    std::unique_lock<std::mutex> lock(mutex_);
    ready_.wait(lock, [&] { return made_.count(next_to_give_) > 0; });
    Made made = std::move(made_.extract(next_to_give_++).mapped());
    lock.unlock();
    work_.notify_one();
    return made;
  }

  void start_workers() {
    const BlockedSignals blocked;
    while (static_cast<int64_t>(workers_.size()) < options_.workers) {
      workers_.emplace_back([this] { work(); });
    }
  }

  void work() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      work_.wait(lock, [&] {
        return stop_ ||
               (next_to_make_ < batches_per_epoch() && next_to_make_ < next_to_give_ + options_.ahead);
      });
      if (stop_) return;
      const std::shared_ptr<const Epoch> epoch = epoch_;
      const int64_t batch = next_to_make_++, generation = generation_;
      lock.unlock();
      Made made = make(*epoch, batch, generation);
      lock.lock();
      if (generation != generation_) continue;
      made_.emplace(batch, std::move(made));
      ready_.notify_one();
    }
  }

  const int64_t records_;
  LoaderOptions options_;
  const MakeBatch make_;
  BadRecords bad_;
  std::vector<std::thread> workers_;
  int64_t first_batch_ = 0, given_ = 0;  // of this epoch

  std::mutex mutex_;                      // guards what follows
  std::condition_variable work_, ready_;  // a batch may be made; a batch was made
  bool stop_ = false;
  std::atomic<int64_t> generation_{0};  // counts start_epoch: batches of an earlier one are thrown away
  std::shared_ptr<const Epoch> epoch_;
  int64_t next_to_make_ = 0, next_to_give_ = 0;
  std::map<int64_t, Made> made_;  // waiting for `next`, by batch
};

}  // namespace

std::unique_ptr<BatchSource> make_loader(int64_t records, const LoaderOptions& options, MakeBatch make) {
  return std::make_unique<Loader>(records, options, std::move(make));
}

LoaderOptions loader_options(const DataOptions& data, bool training, uint64_t seed) {
  LoaderOptions options;
  options.batch_size = training || data.val_batch_size == 0 ? data.batch_size : data.val_batch_size;
  options.workers = data.workers;
  options.shuffle = options.drop_last = training;
  options.skip_bad = data.skip_bad;
  options.seed = seed;
  return options;
}

double samples_per_second(BatchSource& source, double seconds) {
  using Clock = std::chrono::steady_clock;
  int64_t epoch = 0, samples = 0;
  const auto next = [&] {
    std::unique_ptr<Batch> batch = source.next();
    for (; batch == nullptr; batch = source.next()) source.start_epoch(++epoch);
    return batch->size();
  };
  source.start_epoch(epoch);
  next();
  const Clock::time_point start = Clock::now();
  double elapsed = 0;
  do {
    samples += next();
    elapsed = std::chrono::duration<double>(Clock::now() - start).count();
  } while (elapsed < seconds);
  return static_cast<double>(samples) / elapsed;
}

}  // namespace zoo
