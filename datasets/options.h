#pragma once
#include <cstdint>
#include <string>

#include "core/options.h"

namespace zoo {

/// Section `data` of a configuration: what every kind of data shares. Transform options of a task stand in
/// `data.transform`, filled in by its recipe.
struct DataOptions {
  std::string train;  ///< SPEC; empty: the recipe's embedded set
  std::string val;    ///< SPEC; empty: the same as `train`, split val
  int64_t batch_size = 4;
  int64_t val_batch_size = 0;  ///< 0: as batch_size
  int64_t workers = 2;         ///< threads that decode and augment; 0: in the training thread
  bool skip_bad = false;       ///< leave unreadable records out and count them, instead of stopping
  double val_fraction = 0.0;   ///< > 0: that share of the training set, chosen by seed, is the validation set
  int64_t max_images = 0;      ///< use only the first N records; 0: all

  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(DataOptions, train, val, batch_size, val_batch_size, workers, skip_bad,
                                   val_fraction, max_images)

}  // namespace zoo
