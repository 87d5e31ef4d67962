#pragma once
#include <string>

namespace zoo {

/// The features of this processor that decide how fast inference is, for `zoo --version`: "avx2 avx512f
/// avx512_bf16". "baseline" where it has none of them.
std::string cpu_features();
/// Whether products in bfloat16 are carried out by the processor (AVX512-BF16 or AMX), not emulated.
bool cpu_has_bf16();

}  // namespace zoo
