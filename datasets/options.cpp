#include "datasets/options.h"

namespace zoo {

void DataOptions::validate() const {
  require_range("data.batch_size", static_cast<double>(batch_size), 1, 65536);
  require_range("data.val_batch_size", static_cast<double>(val_batch_size), 0, 65536);
  require_range("data.workers", static_cast<double>(workers), 0, 256);
  require_range("data.val_fraction", val_fraction, 0, 0.9);
  require_range("data.max_images", static_cast<double>(max_images), 0);
}

}  // namespace zoo
