#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <torch/types.h>
#include <opencv2/core.hpp>

#include "core/options.h"
#include "datasets/batch.h"
#include "datasets/options.h"
#include "datasets/spec.h"

namespace zoo {

/// x, y of left eye, right eye, nose, left and right mouth corner, in pixels (left: in the picture). A pixel's
/// centre has whole numbers, as in OpenCV.
using FaceLandmarks = std::array<float, 10>;

/// What is known of a picture without reading it.
struct FaceRecord {
  std::string name;       ///< for messages and tables: "s1/1.pgm", "key 17", "pair 3, first"
  int64_t identity = -1;  ///< index into FaceDataset::identities(), -1: not told
  std::optional<FaceLandmarks> landmarks;
};

/// Pictures of faces: folders, a list, RecordIO, a verification set, or the embedded set. Thread-safe.
class FaceDataset {
 public:
  virtual ~FaceDataset() = default;
  virtual int64_t size() const = 0;
  virtual FaceRecord record(int64_t index) const = 0;
  /// The record's identity alone: cheap.
  virtual int64_t identity(int64_t index) const { return record(index).identity; }
  /// RGB, 8 bits, as stored. Throws Error naming the file or record that cannot be read.
  virtual cv::Mat image(int64_t index) const = 0;
  /// Names of the identities that the records have, sorted as their numbers are; none where none is told.
  virtual const std::vector<std::string>& identities() const = 0;
  virtual std::string description() const = 0;
};

/// Opens the pictures that a SPEC names: `faces`, `faces:`, `lfw:`, `recordio:`, `bin:`, `ijb:`. Sets without
/// splits of their own are split by identity, never by picture: `val` are `val_identities` of them (by
/// default a quarter, at most 500), chosen by the SPEC's `seed`, `train` are the others, `all` are all.
/// `default_split` holds where the SPEC has no `split`; lfw, bin and ijb are one whole and take no split. Throws
/// Error for bad data (naming file, line or record), UsageError for data of another task.
std::shared_ptr<FaceDataset> open_face_dataset(const DataSpec& spec, const std::string& default_split);
/// The records `indices` of a set, in that order; identities keep their numbers.
std::shared_ptr<FaceDataset> subset(std::shared_ptr<FaceDataset> dataset, std::vector<int64_t> indices);

/// Two pictures of a verification set.
struct FacePair {
  int64_t a = 0, b = 0;  ///< record numbers
  bool same = false;     ///< one person
  int64_t fold = -1;     ///< 0..9; -1: not told by the set
};
struct FaceVerificationSet {
  std::shared_ptr<FaceDataset> images;  ///< those that the pairs use, each once
  std::vector<FacePair> pairs;
  std::string description;
};

/// The pairs of a SPEC: those that it lists (`lfw:`, `bin:`, and `faces:` with a `pairs.txt` of LFW's form beside
/// its pictures or by `pairs=FILE`), else up to 6,000 pairs of its split, drawn by `seed` as draw_face_pairs
/// does. Throws Error where a listed picture is missing or no pair can be made.
FaceVerificationSet open_face_pairs(const DataSpec& spec, const std::string& default_split, uint64_t seed);
/// Half genuine, half impostor pairs, no pair twice, in ten folds of equal make-up one after another (fewer than
/// ten genuine pairs: no folds). A genuine pair is of a random identity that has two pictures, an impostor pair of
/// two random identities. As many as `pairs` where the set has them. Throws Error where it has none.
std::vector<FacePair> draw_face_pairs(const FaceDataset& dataset, int64_t pairs, uint64_t seed);

/// IJB-B/C's 1:1 protocol: templates of several pictures are compared.
struct FaceTemplates {
  std::shared_ptr<FaceDataset> images;  ///< in the order of `*_name_5pts_score.txt`, with landmarks
  std::vector<int64_t> templates;       ///< of each picture
  std::vector<int64_t> media;           ///< of each picture: frames of one film have one number
  std::vector<float> scores;            ///< of each picture: the detector's
  struct Pair {
    int64_t a = 0, b = 0;  ///< template numbers
    bool same = false;
  };
  std::vector<Pair> pairs;
};
/// Reads `ijb:PATH`: `*_face_tid_mid.txt` (picture template media), `*_name_5pts_score.txt` (picture, ten numbers,
/// score) and `*_template_pair_label.txt` (template template 0|1) in PATH or PATH/meta, pictures in
/// PATH/loose_crop. Throws Error naming file and line at fault.
FaceTemplates open_face_templates(const DataSpec& spec);

/// Section `data.transform` of face recipes.
struct FaceTransformOptions {
  std::vector<int64_t> input_size = {112, 112};      ///< height, width
  std::vector<double> mean = {127.5, 127.5, 127.5};  ///< of R, G, B in 0..255
  std::vector<double> std = {127.5, 127.5, 127.5};
  double flip = 0.5;  ///< training: probability of the mirrored picture
  int64_t shift =
      0;  ///< training: greatest random shift of the face in x and y, pixels of the input, border 0
  bool align = true;  ///< bring five landmarks, where a record has them, onto the template
  double crop = 1.0;  ///< without landmarks: width and height kept around the picture's centre, as a share
  bool grey = false;  ///< luma in all three channels
  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(FaceTransformOptions, input_size, mean, std, flip, shift, align, crop,
                                   grey)

/// Where the five landmarks of an upright face belong in a picture of that size: insightface's template of
/// 112x112, scaled by height/112 and centred (112x96: the older template, x less by 8), and for squares of
/// 128k their rule: scaled by k, x more by 8k.
FaceLandmarks face_template(int64_t height, int64_t width);
/// The similarity (rotation, scale, shift; never a reflection) that brings `from` nearest to `to` in the
/// least squares, closed form: rows of [[a, -b, tx], [b, a, ty]]. Throws Error where all points of `from`
/// are one.
cv::Matx23d similarity_transform(const FaceLandmarks& from, const FaceLandmarks& to);
/// The face of a picture at the input's size: warped (bilinear, border 0) to the template by its landmarks,
/// without them or with `align` false cropped and resized. RGB, 8 bits.
cv::Mat aligned_face(const cv::Mat& rgb, const std::optional<FaceLandmarks>& landmarks,
                     const FaceTransformOptions& options);
/// That face ready for a network: [3,H,W] floats, (v - mean) / std.
torch::Tensor face_tensor(const cv::Mat& face, const FaceTransformOptions& options);

struct FaceBatch : Batch {
  torch::Tensor images;          ///< [B,3,H,W] float, normalised
  torch::Tensor labels;          ///< [B] int64: identities, -1: not told
  std::vector<int64_t> indices;  ///< record numbers
};

/// Batches for training (shuffled, augmented, the last incomplete batch dropped) or evaluation (in order,
/// complete). Loader and order: datasets/loader.h.
std::unique_ptr<BatchSource> face_batches(std::shared_ptr<FaceDataset> dataset, const DataOptions& options,
                                          const FaceTransformOptions& transform, bool training, uint64_t seed,
                                          const BatchPart& part = {});

/// The training set of a run: `options.train`, split train unless it names one, without the identities that
/// data.val_fraction holds out; data.max_images keeps the first records.
std::shared_ptr<FaceDataset> open_face_training(const DataOptions& options, uint64_t seed);
/// The pairs that the run validates on: of `options.val`, else of the identities that data.val_fraction holds
/// out, else of split val of `options.train`. Throws UsageError where val and val_fraction are both given.
FaceVerificationSet open_face_validation(const DataOptions& options, uint64_t seed);

}  // namespace zoo
