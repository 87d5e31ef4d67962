#pragma once
#include <string>
#include <vector>

#include "models/export/trace.h"

namespace zoo {

/// Traces the model to TorchScript (fp32, CPU) and writes it with the extra file `zoo.json`. The written file
/// is loaded and run on every example of the spec, whose sizes, batches and paddings differ from the traced
/// one, and compared with the live module: Error, and no file, where an output differs by more than 1e-4 of
/// its own scale. Gives the largest difference. The file is kept whole: beside and renamed.
double export_torchscript(const TraceSpec& spec, const std::string& path, const std::string& zoo_json);

/// The same for several methods of one module in one file, each a spec with a `method` of its own.
double export_torchscript(const std::vector<TraceSpec>& methods, const std::string& path,
                          const std::string& zoo_json);

}  // namespace zoo
