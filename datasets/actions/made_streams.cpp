#include <algorithm>
#include <array>
#include <cmath>

#include "core/error.h"
#include "core/random.h"
#include "core/text.h"
#include "datasets/actions/sources.h"
#include "datasets/parallel.h"

namespace zoo {
namespace {

/// The embedded set `streams[,videos=N][,val_videos=N][,steps=N][,width=N][,classes=N][,noise=X][,ambiguous=N][,seed=N]`.
struct StreamOptions {
  int64_t videos = 60, val_videos = 20;
  int64_t steps = 600;    // of each video
  int64_t width = 64;     // features a step
  int64_t classes = 8;    // actions, without background
  double noise = 0.16;    // standard deviation of each feature; a pose has length 1
  int64_t ambiguous = 0;  // steps on either side of an action's border without a sure label
  uint64_t seed = 0;
};

StreamOptions parse_stream_options(const DataSpec& spec) {
  StreamOptions options;
  options.videos = spec.integer("videos", options.videos, 1, 100'000);
  options.val_videos = spec.integer("val_videos", options.val_videos, 1, 100'000);
  options.steps = spec.integer("steps", options.steps, 1, 1'000'000);
  options.width = spec.integer("width", options.width, 1, 65536);
  options.classes = spec.integer("classes", options.classes, 4, 1000);
  options.ambiguous = spec.integer("ambiguous", options.ambiguous, 0, 100);
  options.seed = static_cast<uint64_t>(spec.integer("seed", 0, 0, INT64_MAX));
  const std::string noise = spec.option("noise");
  if (!noise.empty() &&
      (!parse_double(noise, options.noise) || !(options.noise >= 0 && options.noise <= 100)))
    throw UsageError("'" + spec.text + "': noise=" + noise + ", expected a number from 0 to 100");
  return options;
}

/// What all videos of a seed share. An action is three poses in an order. Actions 2i and 2i+1 have the same poses in
/// opposite orders, and background shows poses of actions, too: no frame tells its class. The last two actions are twins,
/// alike in everything: the action before, which lies far back, tells which it is, by its order. An action is followed
/// by one of two others or a twin, all with different first poses.
class StreamWorld {
 public:
  explicit StreamWorld(const StreamOptions& options)
      : plain_(options.classes - 2), poses_(3 * ((plain_ + 1) / 2)), width_(options.width) {
    RandomStream rng{options.seed, 0x706F7365};  // "pose"
    for (int64_t i = 0; i < (poses_ + kIdlePoses) * width_; ++i)
      features_.push_back(static_cast<float>(rng.normal()));
    for (int64_t pose = 0; pose < poses_ + kIdlePoses; ++pose) {
      float* row = features_.data() + pose * width_;
      double square = 0;
      for (int64_t k = 0; k < width_; ++k)
        square += static_cast<double>(row[k]) * static_cast<double>(row[k]);
      for (int64_t k = 0; k < width_; ++k) row[k] = static_cast<float>(row[k] / std::sqrt(square));
    }
  }

  static constexpr int64_t kIdlePoses = 2;  // that only background shows

  int64_t poses() const { return poses_; }
  /// Actions are numbers 0 … twin(), in which both twins are one.
  int64_t twin() const { return plain_; }
  std::array<int64_t, 3> order(int64_t action) const {
    if (action == twin())
      return poses_ < 9 ? std::array<int64_t, 3>{1, 0, 2} : std::array<int64_t, 3>{1, 4, 7};
    const int64_t first = 3 * (action / 2);
    return action % 2 == 0 ? std::array<int64_t, 3>{first, first + 1, first + 2}
                           : std::array<int64_t, 3>{first + 2, first + 1, first};
  }
  /// Of what comes after an action (-1: a video's beginning).
  int64_t follower(int64_t action, RandomStream& rng) const {
    if (action < 0 || action == twin()) return rng.integer(0, plain_ - 1);
    const int64_t choice = rng.integer(0, 2);
    return choice == 2 ? twin() : (action + 2 * choice + 1) % plain_;
  }
  int32_t class_of(int64_t action, int64_t before) const {
    return static_cast<int32_t>(action + 1 + (action == twin() && before % 2 == 1 ? 1 : 0));
  }
  const float* pose(int64_t index) const { return features_.data() + index * width_; }

 private:
  int64_t plain_;  ///< actions without the twins
  int64_t poses_, width_;
  std::vector<float> features_;
};

/// What a video shows and is, step by step.
struct StreamScript {
  std::vector<int64_t> poses;
  std::vector<int32_t> classes;

  void add(int64_t pose, int32_t class_index, int64_t steps) {
    poses.insert(poses.end(), static_cast<size_t>(steps), pose);
    classes.insert(classes.end(), static_cast<size_t>(steps), class_index);
  }
};

void add_background(const StreamWorld& world, int64_t steps, RandomStream& rng, StreamScript& script) {
  while (steps > 0) {
    const int64_t stay = std::min(steps, rng.integer(3, 8));
    const bool idle = rng.chance(0.9);
    script.add(idle ? world.poses() + rng.integer(0, StreamWorld::kIdlePoses - 1)
                    : rng.integer(0, world.poses() - 1),
               0, stay);
    steps -= stay;
  }
}

StreamScript write_script(const StreamWorld& world, int64_t steps, RandomStream& rng) {
  StreamScript script;
  int64_t before = -1;
  while (static_cast<int64_t>(script.poses.size()) < steps) {
    const int64_t action = world.follower(before, rng);
    const bool far = action == world.twin();  // further back than a short window reaches
    add_background(world, far ? rng.integer(42, 64) : rng.integer(6, 24), rng, script);
    for (const int64_t pose : world.order(action)) {
      script.add(pose, world.class_of(action, before), rng.integer(5, 11));
    }
    before = action;
  }
  script.poses.resize(static_cast<size_t>(steps));
  script.classes.resize(static_cast<size_t>(steps));
  return script;
}

LabelTable stream_labels(const std::vector<int32_t>& classes, int64_t columns, int64_t border) {
  LabelTable table(columns);
  const auto steps = static_cast<int64_t>(classes.size());
  for (int64_t step = 0; step < steps; ++step) {
    const auto begin = classes.begin() + std::max<int64_t>(0, step - border),
               end = classes.begin() + std::min(steps, step + border + 1);
    const bool sure = std::all_of(begin, end, [&](int32_t c) { return c == *begin; });
    table.add(sure ? std::vector<int32_t>{*begin} : std::vector<int32_t>{}, !sure);
  }
  return table;
}

/// Made whole when it is opened: normal numbers cost more than a look-up.
class MadeStreams : public ActionDataset {
 public:
  MadeStreams(const DataSpec& spec, const std::string& split)
      : options_(parse_stream_options(spec)), split_(split) {
    const int64_t count = split == "train" ? options_.videos : options_.val_videos;
    if (static_cast<double>(count) * static_cast<double>(options_.steps * options_.width) > 1 << 28) {
      throw UsageError("'" + spec.text +
                       "': more than 2^28 features, expected fewer videos, steps or a smaller width");
    }
    names_ = {"background"};
    for (int64_t c = 1; c <= options_.classes; ++c)
      names_.push_back(format("action%02lld", static_cast<long long>(c)));
    features_.resize(static_cast<size_t>(count * options_.steps * options_.width));
    labels_.resize(static_cast<size_t>(count));
    const StreamWorld world(options_);
    on_all_cores(count, [&](int64_t video) { make_video(world, video); });
  }

  int64_t size() const override { return static_cast<int64_t>(labels_.size()); }
  std::string name(int64_t video) const override {
    return format("%s_%04lld", split_.c_str(), static_cast<long long>(video + 1));
  }
  int64_t steps(int64_t) const override { return options_.steps; }
  int64_t feature_size() const override { return options_.width; }
  double steps_per_second() const override { return 4; }
  const std::vector<std::string>& class_names() const override { return names_; }
  int64_t ambiguous_class() const override { return options_.ambiguous > 0 ? options_.classes + 1 : -1; }
  void read(const FeatureRows& rows, float* to) const override {
    for (int64_t i = 0; i < rows.count; ++i, to += options_.width) {
      const int64_t row = rows.video * options_.steps + rows.first + i * rows.every;
      std::copy_n(features_.data() + row * options_.width, options_.width, to);
    }
  }
  const LabelTable& labels(int64_t video) const override { return labels_.at(static_cast<size_t>(video)); }
  std::string description() const override {
    return format("streams %s (%lld made videos of %lld steps)", split_.c_str(),
                  static_cast<long long>(size()), static_cast<long long>(options_.steps));
  }

 private:
  void make_video(const StreamWorld& world, int64_t video) {
    RandomStream rng{options_.seed, split_ == "train" ? 0U : 1U, static_cast<uint64_t>(video)};
    const StreamScript script = write_script(world, options_.steps, rng);
    float* row = features_.data() + video * options_.steps * options_.width;
    for (const int64_t pose : script.poses) {
      for (int64_t k = 0; k < options_.width; ++k)
        row[k] = world.pose(pose)[k] + static_cast<float>(options_.noise * rng.normal());
      row += options_.width;
    }
    labels_[static_cast<size_t>(video)] =
        stream_labels(script.classes, static_cast<int64_t>(names_.size()), options_.ambiguous);
  }

  StreamOptions options_;
  std::string split_;
  std::vector<std::string> names_;
  std::vector<float> features_;
  std::vector<LabelTable> labels_;
};

}  // namespace

std::shared_ptr<ActionDataset> open_made_streams(const DataSpec& spec, const std::string& split) {
  if (split != "train" && split != "val") {
    throw UsageError("'" + spec.text + "': no split '" + split + "', expected one of train, val");
  }
  return std::make_shared<MadeStreams>(spec, split);
}

}  // namespace zoo
