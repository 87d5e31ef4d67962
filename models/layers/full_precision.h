#pragma once
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/types.h>

namespace zoo {

/// While it lives, operations of this thread compute in the types of what they are given, whatever autocast is
/// on: for layers whose result must not be rounded.
class WithoutAutocast {
 private:
  c10::impl::ExcludeDispatchKeyGuard guard_{c10::autocast_dispatch_keyset};
};

/// x in the type of `weight`. No operation where it has it: a trace would keep even an idle conversion.
inline torch::Tensor as_type_of(const torch::Tensor& weight, const torch::Tensor& x) {
  return x.scalar_type() == weight.scalar_type() ? x : x.to(weight.scalar_type());
}

}  // namespace zoo
