#pragma once
#include <string>
#include <vector>

#include "cli/command.h"
#include "cli/inputs.h"
#include "cli/setup.h"

namespace zoo {

class ActionTask;
class DetectionTask;
class FaceTask;

struct PredictFlags {
  std::string weights, model, threshold, max_detections, classes, output = "predictions";
  std::string save_state, load_state;  ///< of a stream
  std::vector<std::string> inputs;
  bool no_images = false, json = false, stream = false;
};

constexpr int64_t kAllDetections = 1 << 30;

/// One kind of work each: writes into flags.output, prints what was found, and gives the inputs that failed.
std::vector<std::string> predict_objects(const PredictFlags& flags, const LoadedModel& loaded,
                                         DetectionTask& task);
std::vector<std::string> predict_faces(const PredictFlags& flags, const LoadedModel& loaded, FaceTask& task);
std::vector<std::string> predict_actions(const PredictFlags& flags, const LoadedModel& loaded,
                                         ActionTask& task);

}  // namespace zoo
