#pragma once
#include "models/export/trace.h"
#include "models/online_action/action_model.h"

namespace zoo {

/// `forward` for an exporter or the runtime: features and, with a long memory, memory and memory_mask -> current and,
/// with anticipation, future; of a model that scores the last step alone without a dimension for it: current [B,C] and
/// future [B,K,C]. Inputs of every variant are random: windows of 1, 3, 2 and 4 streams.
TraceSpec action_forward_spec(const ActionModel& model);

/// `step`: features and the state's tensors -> current, with anticipation future, and the state that follows. Variants
/// are of streams that are at different steps.
TraceSpec action_step_spec(const ActionModel& model);

}  // namespace zoo
