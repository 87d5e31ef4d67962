#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <torch/types.h>

#include "models/ranks.h"

namespace zoo {

/// Where this process stands among those that train together, as torchrun and its like say.
struct ProcessOptions {
  int64_t rank = 0;       ///< RANK
  int64_t ranks = 1;      ///< WORLD_SIZE
  std::string address;    ///< MASTER_ADDR, where rank 0 runs
  int64_t port = 0;       ///< MASTER_PORT, one that is free there
  std::string interface;  ///< GLOO_SOCKET_IFNAME; empty: the one that this machine's name stands for
  bool launcher_store =
      false;            ///< TORCHELASTIC_USE_AGENT_STORE: the launcher, not rank 0, listens at the port
  int64_t attempt = 0;  ///< TORCHELASTIC_RESTART_COUNT
};
/// From the environment; one process where WORLD_SIZE is not set or 1 (the others are then not looked at).
/// Throws UsageError naming a variable that is missing or malformed.
ProcessOptions process_options();

/// The backward passes of a model that every process has a copy of.
class GradientAverage {
 public:
  virtual ~GradientAverage() = default;
  /// Backward pass of a loss. The parameters' gradients, with what they held before it, are then the mean over
  /// processes; a parameter that no process has used is left without. Throws Error where another process has
  /// ended.
  virtual void backward(const torch::Tensor& loss) = 0;
};

/// Ranks on the CPU.
class ProcessGroup : public Ranks {
 public:
  /// For these parameters, in the same order in every process; nothing else may take gradients into them. Passes
  /// that only gather gradients (accumulation) call the loss's own backward instead.
  virtual std::unique_ptr<GradientAverage> average_gradients(
      const std::vector<torch::Tensor>& parameters) = 0;
};

/// Whether this build can train with several processes (CMake's ZOO_DISTRIBUTED).
bool has_process_groups();
/// Joins the others, and waits until all have; null for one process. Throws Error where they cannot be reached
/// or the build cannot do it.
std::shared_ptr<ProcessGroup> join_processes(const ProcessOptions& options);

/// Every process's text, by rank.
std::vector<std::string> gather_texts(Ranks& ranks, const std::string& text);
/// Rank 0's text.
std::string broadcast_text(Ranks& ranks, const std::string& text);

}  // namespace zoo
