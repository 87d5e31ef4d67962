#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <array>

#include "core/files.h"
#include "core/formats/tar.h"
#include "core/random.h"
#include "datasets/captions/captions.h"
#include "datasets/findings.h"

namespace zoo {

// Where captioned pictures come from.

/// What the drawings of the set `captions` are made of; the sentences name all of it.
struct CaptionedDrawing {
  int64_t shape = 0, color = 0;  ///< traits
  int64_t place = 0, large = 0, ground = 0;
  double x = 0, y = 0, radius = 0, angle = 0;  ///< of the picture's width; radians
  std::array<double, 3> rgb{}, ground_rgb{};   ///< 0..255
  std::array<double, 2> shade{};  ///< how much lighter the ground becomes to the right and downwards
};
/// shape and colour, with the words that the sentences use.
const std::vector<CaptionTrait>& drawing_traits();
/// What the split `val` alone shows: a fifth of all sentences that name shape, colour, size and place; a quarter of all
/// pairs of shape and colour, in any words; or nothing.
enum class HeldOut { sentences, pairs, nothing };
bool is_held_out(const CaptionedDrawing& drawing, HeldOut kind);
CaptionedDrawing random_drawing(HeldOut kind, bool validation, RandomStream& rng);
cv::Mat paint(const CaptionedDrawing& drawing, int64_t size);
/// Three different sentences: the first names shape, colour, size and place.
std::vector<std::string> sentences(const CaptionedDrawing& drawing, RandomStream& rng);

/// The set `captions`: split train or val.
std::shared_ptr<CaptionDataset> open_drawn_captions(const DataSpec& spec, const std::string& split);

/// How `captions:PATH` is laid out: which files hold a split.
struct CaptionPlan {
  std::string path;                  ///< folder or list, for messages
  std::string split;                 ///< empty: the set has none
  std::vector<std::string> lists;    ///< *.jsonl
  std::vector<std::string> folders;  ///< of image/txt pairs
  std::vector<std::string> shards;   ///< *.tar
};
/// Splits of a SPEC, {""} where it has none.
std::vector<std::string> caption_splits(const DataSpec& spec);
CaptionPlan plan_captions(const DataSpec& spec, const std::string& default_split);
/// All that a plan names. Records at fault are reported and left out.
std::shared_ptr<CaptionDataset> read_captions(const DataSpec& spec, const CaptionPlan& plan,
                                              Findings& findings);

/// A picture in a file or in a shard, with its sentences.
struct CaptionRecord {
  std::string name;  ///< below the set's folder, or SHARD: KEY
  std::vector<std::string> captions;
  std::string file;               ///< path of the picture; empty: in a shard
  size_t shard = 0;               ///< index
  uint64_t offset = 0, size = 0;  ///< bytes in the shard
};
/// One JSON object a line: {"file_name": PATH, "text": SENTENCE or a list of them}, paths below `folder`. Blank lines
/// are passed over.
void read_caption_list(const std::string& path, Findings& findings, std::vector<CaptionRecord>& records);
/// Pictures with a .txt of the same name beside them; each line that is not blank is a sentence.
void read_caption_pairs(const std::string& folder, Findings& findings, std::vector<CaptionRecord>& records);
/// A webdataset shard: members of one name up to its first dot are a sample, a picture (.jpg .png .webp …) with .txt,
/// .caption or .json ("caption" or "text").
void read_caption_shard(const MappedFile& shard, size_t number, Findings& findings,
                        std::vector<CaptionRecord>& records);

/// Decodes as datasets/image.h does, but what is transparent shows `ground` (RGB).
cv::Mat decode_on_ground(const uint8_t* data, size_t size, const cv::Vec3b& ground, const std::string& name);

}  // namespace zoo
