#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "datasets/faces/faces.h"
#include "datasets/findings.h"

namespace zoo {

// Where faces come from: one function for each kind of source. They report faults to `findings` and leave the
// records at fault out; where nothing can be read they throw Error.

/// A picture file of a set.
struct FaceFile {
  std::string name;  ///< below the set's folder
  int64_t identity = -1;
  std::optional<FaceLandmarks> landmarks;
};
/// Pictures in files, ordered by identity where they are folders, as listed where they are a list.
struct FaceFiles {
  std::string file;    ///< folder or list, for messages
  std::string folder;  ///< where the names begin
  std::vector<FaceFile> files;
  std::vector<std::string> identities;  ///< sorted
};
/// FOLDER/IDENTITY/*.jpg (or another picture's ending); an identity without a picture is noted.
FaceFiles read_identity_folders(const std::string& folder, Findings& findings);
/// A CSV of `path,identity` or `path,identity,x1,y1,…,x5,y5`; paths begin at the CSV's folder, a heading
/// `path,identity…` and quotes around a field are allowed.
FaceFiles read_face_list(const std::string& path, Findings& findings);
std::shared_ptr<FaceDataset> face_files(FaceFiles files, const std::string& description);

/// `.rec` with the `.idx` beside it (without one the records are numbered from 0). In insightface's files record
/// 0 tells the range of pictures and of identities; in others every record is a picture. Labels are checked
/// against the number of identities that record 0, or else `property` (empty: none), tells.
std::shared_ptr<FaceDataset> open_record_faces(const std::string& path, const std::string& property,
                                               Findings& findings);

/// The set `faces`: split train or val.
std::shared_ptr<FaceDataset> open_drawn_faces(const DataSpec& spec, const std::string& split);

/// The `.bin` of a verification set.
FaceVerificationSet open_pair_bin(const std::string& path);

/// A line of LFW's pairs file: picture `i` of `name_a` and picture `j` of `name_b`, numbered from 1.
struct ListedPair {
  std::string name_a, name_b;
  int64_t i = 0, j = 0, fold = -1;
  bool same = false;
  int64_t line = 0;  ///< of the file
};
/// `FOLDS<TAB>N` (or `N`: no folds), then for each fold N lines `name i j` and N lines `name i name j`. Throws
/// Error naming the line that is none of these, and where lines are missing.
std::vector<ListedPair> read_pair_list(const std::string& path);
/// Finds the listed pictures: those called NAME_000i, or else i, with any ending, in the identity's folder.
std::vector<FacePair> resolve_pairs(const FaceDataset& dataset, const std::vector<ListedPair>& list,
                                    const std::string& path, Findings& findings);

/// How a SPEC's pictures are divided: which file or folder, and which of its identities.
struct FacePlan {
  std::string path;
  std::string split;         ///< as people name it; empty: the set has none
  bool by_identity = false;  ///< `split` is a part of the identities
};
FacePlan plan_faces(const DataSpec& spec, const std::string& default_split);
/// The splits that `zoo data check` looks at.
std::vector<std::string> splits_to_check(const DataSpec& spec);
/// All that `plan` names.
std::shared_ptr<FaceDataset> read_faces(const DataSpec& spec, const FacePlan& plan, Findings& findings);
/// The listed pairs' file of a SPEC, empty where its pairs are drawn.
std::string pair_list_path(const DataSpec& spec, const FacePlan& plan);
/// The pairs of a set, which that file lists or `seed` draws.
std::vector<FacePair> pairs_of(const DataSpec& spec, const FacePlan& plan, const FaceDataset& dataset,
                               uint64_t seed);

/// The records of some identities (sorted numbers), which are numbered anew.
std::shared_ptr<FaceDataset> keep_identities(std::shared_ptr<FaceDataset> dataset,
                                             const std::vector<int64_t>& identities,
                                             const std::string& description);
/// `count` of `identities` numbers chosen by seed, and the others; both sorted.
std::pair<std::vector<int64_t>, std::vector<int64_t>> hold_out(int64_t identities, int64_t count,
                                                               uint64_t seed);

}  // namespace zoo
