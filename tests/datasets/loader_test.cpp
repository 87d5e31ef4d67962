#include "datasets/loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <mutex>
#include <set>
#include <thread>

#include "core/error.h"
#include "core/log.h"

namespace zoo {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// A record and the first number of its stream.
using Drawn = std::pair<int64_t, uint64_t>;

struct DrawnBatch : Batch {
  std::vector<Drawn> drawn;
};

std::function<std::unique_ptr<Batch>(std::vector<Drawn>)> collate_drawn() {
  return [](std::vector<Drawn> samples) {
    auto batch = std::make_unique<DrawnBatch>();
    batch->drawn = std::move(samples);
    return batch;
  };
}

using ReadSample = std::function<Drawn(int64_t, RandomStream&)>;

std::unique_ptr<BatchSource> loader_of(int64_t records, const LoaderOptions& options,
                                       const ReadSample& sample) {
  return make_loader<Drawn>(records, options, sample, collate_drawn());
}

Drawn draw(int64_t record, RandomStream& rng) {
  return {record, rng.next()};
}

/// Takes its time, so that workers finish out of order.
Drawn draw_slowly(int64_t record, RandomStream& rng) {
  std::this_thread::sleep_for(std::chrono::microseconds(record % 7 * 100));
  return {record, rng.next()};
}

std::vector<std::vector<Drawn>> rest_of_epoch(BatchSource& source) {
  std::vector<std::vector<Drawn>> batches;
  while (auto batch = source.next()) batches.push_back(dynamic_cast<DrawnBatch&>(*batch).drawn);
  return batches;
}

std::vector<std::vector<Drawn>> epoch_of(BatchSource& source, int64_t epoch, int64_t first_batch = 0) {
  source.start_epoch(epoch, first_batch);
  return rest_of_epoch(source);
}

LoaderOptions training(int64_t workers) {
  LoaderOptions options;
  options.batch_size = 4;
  options.workers = workers;
  options.shuffle = options.drop_last = true;
  options.seed = 7;
  return options;
}

TEST(Loader, OrderAndNumbersDoNotDependOnTheWorkers) {
  const auto alone = loader_of(50, training(0), draw);
  const auto first = epoch_of(*alone, 0), second = epoch_of(*alone, 1);
  ASSERT_EQ(first.size(), 12u);
  EXPECT_NE(first, second);
  for (const int64_t workers : {1, 2, 5}) {
    const auto source = loader_of(50, training(workers), draw_slowly);
    EXPECT_EQ(epoch_of(*source, 0), first) << workers;
    EXPECT_EQ(epoch_of(*source, 1), second) << workers;
    EXPECT_EQ(epoch_of(*source, 0), first) << workers;
  }
}

TEST(Loader, EveryRecordOnceAnEpochFromItsOwnStream) {
  LoaderOptions options = training(2);
  options.drop_last = false;
  const auto source = loader_of(50, options, draw);
  EXPECT_EQ(source->batches_per_epoch(), 13);
  std::set<int64_t> records;
  for (const auto& batch : epoch_of(*source, 3)) {
    for (const Drawn& drawn : batch) {
      EXPECT_TRUE(records.insert(drawn.first).second);
      RandomStream own{7, 3, static_cast<uint64_t>(drawn.first)};
      EXPECT_EQ(drawn.second, own.next());
    }
  }
  EXPECT_EQ(records.size(), 50u);
}

TEST(Loader, RestartsAtABatch) {
  for (const int64_t workers : {0, 2}) {
    const auto source = loader_of(50, training(workers), draw_slowly);
    const auto whole = epoch_of(*source, 4);
    EXPECT_EQ(epoch_of(*source, 4, 9), std::vector<std::vector<Drawn>>(whole.begin() + 9, whole.end()));
    EXPECT_TRUE(epoch_of(*source, 4, 12).empty());
    source->start_epoch(2);  // given up half-way
    source->next();
    EXPECT_EQ(epoch_of(*source, 4), whole);
  }
}

TEST(Loader, EvaluationIsInOrderAndComplete) {
  LoaderOptions options;
  options.batch_size = 4;
  options.workers = 2;
  const auto source = loader_of(10, options, draw);
  EXPECT_EQ(source->batches_per_epoch(), 3);
  EXPECT_EQ(source->samples(), 10);
  std::vector<int64_t> records;
  std::vector<size_t> sizes;
  for (const auto& batch : epoch_of(*source, 0)) {
    sizes.push_back(batch.size());
    for (const Drawn& drawn : batch) records.push_back(drawn.first);
  }
  EXPECT_THAT(sizes, ElementsAre(4, 4, 2));
  EXPECT_THAT(records, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9));
}

TEST(Loader, SetSmallerThanABatchIsOneBatch) {
  const auto source = loader_of(3, training(1), draw);
  EXPECT_EQ(source->batches_per_epoch(), 1);
  EXPECT_EQ(epoch_of(*source, 0).at(0).size(), 3u);
  EXPECT_THROW(loader_of(0, training(1), draw), Error);
}

TEST(Loader, NextBeforeTheFirstEpochIsTheEnd) {
  EXPECT_EQ(loader_of(8, training(1), draw)->next(), nullptr);
}

Drawn fails_at_5(int64_t record, RandomStream& rng) {
  if (record == 5) throw Error("pictures/5.jpg: truncated");
  return draw_slowly(record, rng);
}

TEST(Loader, ErrorComesWithItsBatch) {
  for (const int64_t workers : {0, 3}) {
    LoaderOptions options;
    options.batch_size = 2;
    options.workers = workers;
    const auto source = loader_of(10, options, fails_at_5);
    source->start_epoch(0);
    EXPECT_NE(source->next(), nullptr);
    EXPECT_NE(source->next(), nullptr);
    try {
      source->next();
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_STREQ(error.what(), "pictures/5.jpg: truncated");
    }
    EXPECT_EQ(rest_of_epoch(*source).size(), 2u);
  }
}

TEST(Loader, ForeignExceptionGetsTheRecordsName) {
  LoaderOptions options;
  options.workers = 1;
  const ReadSample fail = [](int64_t, RandomStream&) -> Drawn { throw std::runtime_error("bad depth"); };
  const auto message = [&] {
    const auto source = loader_of(3, options, fail);
    source->start_epoch(0, 2);
    try {
      source->next();
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(message(), "record 2: bad depth");
  options.name = [](int64_t record) { return std::to_string(record) + ".png"; };
  EXPECT_EQ(message(), "2.png: bad depth");
}

/// Lines that were logged while it lives.
class LoggedLines {
 public:
  LoggedLines() {
    set_log_sink([this](const std::string& line) { lines_.push_back(line); });
  }
  ~LoggedLines() { set_log_sink({}); }
  const std::vector<std::string>& lines() const { return lines_; }

 private:
  std::vector<std::string> lines_;
};

Drawn fails_in_thirds(int64_t record, RandomStream& rng) {
  if (record % 3 == 1) throw Error(std::to_string(record) + ".jpg: truncated");
  return draw_slowly(record, rng);
}

TEST(Loader, BadRecordsAreLeftOutOfEvaluation) {
  const LoggedLines log;
  LoaderOptions options;
  options.batch_size = 1;
  options.workers = 2;
  options.skip_bad = true;
  const auto source = loader_of(30, options, fails_in_thirds);
  for (int64_t epoch : {0, 1}) {
    std::vector<int64_t> records;
    for (const auto& batch : epoch_of(*source, epoch)) records.push_back(batch.at(0).first);
    ASSERT_EQ(records.size(), 20u);
    EXPECT_TRUE(std::is_sorted(records.begin(), records.end()));
  }
  EXPECT_EQ(source->skipped(), 10);  // counted once, not once an epoch
  ASSERT_EQ(log.lines().size(), 6u);
  EXPECT_THAT(log.lines().front(), HasSubstr(".jpg: truncated"));
  EXPECT_THAT(log.lines().back(), HasSubstr("counted, not named"));
}

TEST(Loader, TrainingBatchesStayFullWithoutBadRecords) {
  const LoggedLines log;
  std::vector<std::vector<std::vector<Drawn>>> runs;
  for (const int64_t workers : {0, 3}) {
    LoaderOptions options = training(workers);
    options.skip_bad = true;
    const auto source = loader_of(30, options, fails_in_thirds);
    runs.push_back(epoch_of(*source, 0));
    ASSERT_EQ(runs.back().size(), 7u);
    for (const auto& batch : runs.back()) {
      EXPECT_EQ(batch.size(), 4u);
      for (const Drawn& drawn : batch) EXPECT_NE(drawn.first % 3, 1);
    }
    EXPECT_GE(source->skipped(), 8);  // two records are dropped with the incomplete batch
  }
  EXPECT_EQ(runs[0], runs[1]);
}

TEST(Loader, NoReadableRecordIsAnErrorNotAnEndlessRun) {
  const LoggedLines log;
  for (const bool shuffle : {false, true}) {
    LoaderOptions options = training(2);
    options.shuffle = shuffle;
    options.skip_bad = true;
    const auto source =
        loader_of(9, options, [](int64_t, RandomStream&) -> Drawn { throw Error("x.jpg: truncated"); });
    source->start_epoch(0);
    EXPECT_THROW(source->next(), Error);
  }
}

TEST(Loader, EndsWithinASampleWhateverIsUnderWay) {
  for (int run = 0; run < 5; ++run) {
    LoaderOptions options = training(3);
    options.batch_size = 1000;
    auto source = loader_of(20000, options, [](int64_t record, RandomStream& rng) {
      std::this_thread::sleep_for(milliseconds(2));
      return draw(record, rng);
    });
    source->start_epoch(0);  // a batch takes two seconds
    std::this_thread::sleep_for(milliseconds(run));
    const auto begin = std::chrono::steady_clock::now();
    source.reset();
    EXPECT_LT(std::chrono::steady_clock::now() - begin, milliseconds(500));
  }
}

TEST(Loader, NeverMoreBatchesAheadThanAllowed) {
  std::atomic<int64_t> read{0};
  LoaderOptions options;
  options.batch_size = 1;
  options.workers = 2;
  options.ahead = 3;
  const auto source = loader_of(100, options, [&](int64_t record, RandomStream& rng) {
    ++read;
    return draw(record, rng);
  });
  source->start_epoch(0);
  for (int64_t given = 0; given < 20; ++given) {
    std::this_thread::sleep_for(milliseconds(1));
    EXPECT_LE(read, given + 3);
    source->next();
  }
}

TEST(Loader, WorkersLiveOnAndBlockSignals) {
  std::mutex mutex;
  std::set<std::thread::id> threads;
  bool blocked = true;
  const auto source = loader_of(40, training(2), [&](int64_t record, RandomStream& rng) {
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, nullptr, &mask);
    const std::lock_guard<std::mutex> lock(mutex);
    threads.insert(std::this_thread::get_id());
    blocked = blocked && sigismember(&mask, SIGINT) == 1 && sigismember(&mask, SIGTERM) == 1;
    return draw(record, rng);
  });
  for (int64_t epoch = 0; epoch < 4; ++epoch) epoch_of(*source, epoch);
  EXPECT_LE(threads.size(), 2u);
  EXPECT_EQ(threads.count(std::this_thread::get_id()), 0u);
  EXPECT_TRUE(blocked);
  sigset_t mask;
  pthread_sigmask(SIG_SETMASK, nullptr, &mask);
  EXPECT_EQ(sigismember(&mask, SIGINT), 0);
}

}  // namespace
}  // namespace zoo
