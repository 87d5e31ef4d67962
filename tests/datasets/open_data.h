#pragma once
#include <memory>
#include <string>

#include "datasets/detection.h"
#include "datasets/faces/faces.h"
#include "datasets/spec.h"
#include "tests/support.h"

namespace zoo {

inline std::shared_ptr<DetectionDataset> open_detection(const std::string& spec,
                                                        const std::string& split = "train") {
  return open_detection_dataset(parse_data_spec(spec), split);
}
inline std::string detection_error(const std::string& spec, const std::string& split = "train") {
  return test::error_of([&] { open_detection(spec, split); });
}
inline std::shared_ptr<FaceDataset> open_faces(const std::string& spec, const std::string& split = "val") {
  return open_face_dataset(parse_data_spec(spec), split);
}

}  // namespace zoo
