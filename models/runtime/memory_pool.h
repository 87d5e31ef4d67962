#pragma once

namespace zoo {

/// While one lives, tensors that its thread makes on the CPU take their memory from blocks that earlier
/// tensors left: a forward pass otherwise asks the system for hundreds of megabytes of fresh pages each time,
/// which costs as much as a quarter of the arithmetic in bf16. A tensor may outlive the scope; its block
/// comes back when it goes.
class MemoryPoolScope {
 public:
  MemoryPoolScope();
  ~MemoryPoolScope();
  MemoryPoolScope(const MemoryPoolScope&) = delete;
  MemoryPoolScope& operator=(const MemoryPoolScope&) = delete;

 private:
  bool outer_;
};

}  // namespace zoo
