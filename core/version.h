#pragma once

namespace zoo {

inline constexpr const char* kZooVersion = "0.1.0";

}  // namespace zoo
