#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/options.h"
#include "datasets/findings.h"
#include "datasets/spec.h"

namespace zoo {

struct ClassCount {
  int64_t id = 0;
  std::string name;
  int64_t objects = 0, images = 0;  ///< images with at least one
};

/// Ends of the bins of box sizes (square root of width times height, pixels); 32 and 96 are COCO's bounds of
/// small, medium and large. The last bin is open.
constexpr std::array<int64_t, 9> kBoxSizes = {0, 8, 16, 32, 64, 96, 192, 384, 768};

/// What a split holds, as far as it could be read.
struct SplitCounts {
  std::string name;
  int64_t images = 0, empty_images = 0, objects = 0, crowds = 0;
  std::vector<ClassCount> classes;
  std::array<int64_t, kBoxSizes.size()> box_sizes{};
};

/// What a split of faces holds, as far as it could be read.
struct FaceCounts {
  std::string name;
  int64_t pictures = 0, with_landmarks = 0;
  int64_t identities = 0, single = 0;       ///< with pictures; with one alone
  int64_t least = 0, median = 0, most = 0;  ///< pictures of an identity
  int64_t pairs = 0, genuine_pairs = 0;     ///< that the set lists

  Json to_json() const;
};

/// What a split of videos as streams of features holds, as far as it could be read.
struct ActionCounts {
  struct Class {
    std::string name;
    int64_t steps = 0, segments = 0;  ///< with the class; runs of such steps
  };
  std::string name;
  int64_t videos = 0, steps = 0, feature_size = 0;
  int64_t least = 0, median = 0, most = 0;  ///< steps of a video
  int64_t ambiguous = 0;                    ///< steps of ambiguous label
  int64_t several = 0, none = 0;            ///< steps with several classes; with none
  double steps_per_second = 0;
  std::vector<Class> classes;  ///< none: the set has no labels

  Json to_json() const;
};
/// For people: a table of the splits, then one of the classes.
std::string action_tables(const std::vector<ActionCounts>& splits);

/// What a split of captioned pictures holds, as far as it could be read.
struct CaptionCounts {
  std::string name;
  int64_t pictures = 0;
  int64_t smallest = 0, largest = 0;  ///< of the pictures' shorter sides, pixels
  int64_t captions = 0, different = 0;
  int64_t words = 0, median_words = 0;  ///< different ones, cut at blanks; of a sentence

  Json to_json() const;
};
/// For people: a table of the splits.
std::string caption_table(const std::vector<CaptionCounts>& splits);

struct CheckReport {
  std::string data;                     ///< the SPEC
  std::vector<Finding> findings;        ///< those that stop or spoil a run first
  std::vector<SplitCounts> splits;      ///< of detection
  std::vector<FaceCounts> faces;        ///< of faces
  std::vector<ActionCounts> actions;    ///< of streams of features
  std::vector<CaptionCounts> captions;  ///< of captioned pictures

  /// The findings in their order, those that stop or spoil a run first.
  void take(const Findings& found);

  int64_t fatal_count() const;
  /// `{"command", "data", "findings": [{"file", "record", "what", "expected", "fatal", "effect"}], "splits":
  /// […]}`
  Json to_json() const;
  /// Tables of findings, class counts and box sizes.
  std::string str() const;
};

/// By the task of the SPEC's kind one of those below.
CheckReport check_data(const DataSpec& spec, const std::function<void(int64_t, int64_t)>& progress = {});

/// Looks for everything that ruins runs of detection: decodes every picture of the SPEC's split (without one:
/// of train and val, as far as they are there) and reads every annotation, going on after each fault.
/// `progress(done, total)` is called for each picture, from one thread at a time.
/// Throws Error where no data of that kind is there at all, UsageError for data of another task.
CheckReport check_detection(const DataSpec& spec, const std::function<void(int64_t, int64_t)>& progress = {});

/// The same for faces: unreadable pictures, lines and records at fault, labels out of range, impossible landmarks,
/// pairs of pictures that are not there; notes identities with one picture, pictures that come twice and
/// identities of both splits. A set that is split by identity is checked as one.
CheckReport check_faces(const DataSpec& spec, const std::function<void(int64_t, int64_t)>& progress = {});

/// The same for streams of features: files that are missing or no arrays, lengths and widths that differ, numbers that
/// are not finite, labels out of range; notes classes without a step, videos of two splits and what the labels leave
/// unsaid.
CheckReport check_actions(const DataSpec& spec, const std::function<void(int64_t, int64_t)>& progress = {});

/// The same for captioned pictures: missing and unreadable pictures, lines without a sentence, shards cut off; notes
/// pictures that come twice.
CheckReport check_captions(const DataSpec& spec, const std::function<void(int64_t, int64_t)>& progress = {});

}  // namespace zoo
