#pragma once
#include <memory>

namespace zoo {

/// While one lives, a module that its thread makes costs neither random numbers nor copies, because weights
/// from a file follow: drawing initial values (`uniform_`, `normal_`) is left out, and `assign` puts the given
/// tensors themselves in place of the module's wherever dtype and layout agree. Such a module may share its
/// memory with a mapped file: it is for inference, and writing into its tensors ends the program.
///
/// Only for modules whose values all come from the file: see `incomplete`.
class WeightsFollowScope {
 public:
  WeightsFollowScope();
  ~WeightsFollowScope();
  WeightsFollowScope(const WeightsFollowScope&) = delete;
  WeightsFollowScope& operator=(const WeightsFollowScope&) = delete;

  /// Whether `assign` left a tensor that should have been drawn: what was made in the scope must then not be
  /// used, but be made anew outside of one.
  bool incomplete() const;

  /// Whether one lives on this thread.
  static bool active();

 private:
  struct State;
  std::unique_ptr<State> state_;
  State* outer_;
};

}  // namespace zoo
