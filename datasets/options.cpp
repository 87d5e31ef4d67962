#include "datasets/options.h"

namespace zoo {

void DataOptions::validate() const {
  require_count("data.batch_size", batch_size, 1, 65536);
  require_count("data.val_batch_size", val_batch_size, 0, 65536);
  require_count("data.workers", workers, 0, 256);
  require_range("data.val_fraction", val_fraction, 0, 0.9);
  require_count("data.max_images", max_images, 0);
}

}  // namespace zoo
