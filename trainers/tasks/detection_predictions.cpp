#include "trainers/tasks/detection_predictions.h"

#include "core/files.h"
#include "core/text.h"
#include "datasets/coco.h"

namespace zoo {

CocoGroundTruth ground_truth(const DetectionDataset& dataset) {
  CocoGroundTruth truth;
  for (const Category& category : dataset.categories()) {
    truth.category_ids.push_back(category.id);
    truth.category_names.push_back(category.name);
  }
  for (int64_t i = 0; i < dataset.size(); ++i) {
    const DetectionRecord& record = dataset.record(i);
    truth.image_ids.push_back(record.image_id);
    for (const ObjectAnnotation& object : record.objects) {
      truth.objects.push_back({record.image_id, object.category_id, object.box, object.area, object.crowd});
    }
  }
  return truth;
}

CocoGroundTruth read_ground_truth(const DataSpec& spec) {
  if (spec.kind == "coco") return read_coco_ground_truth(coco_annotation_file(spec, "val"));
  return ground_truth(*open_detection_dataset(spec, "val"));
}

void write_coco_results(const std::string& path, const std::vector<CocoDetection>& detections) {
  AtomicFile file(path);
  file.write("[");
  const char* separator = "\n";
  for (const CocoDetection& one : detections) {
    file.write(
        format("%s{\"image_id\":%lld,\"category_id\":%lld,\"bbox\":[%.9g,%.9g,%.9g,%.9g],\"score\":%.9g}",
               separator, static_cast<long long>(one.image_id), static_cast<long long>(one.category_id),
               one.box[0], one.box[1], one.box[2], one.box[3], one.score));
    separator = ",\n";
  }
  file.write("\n]\n");
  file.commit();
}

}  // namespace zoo
