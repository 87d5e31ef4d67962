#pragma once
#include <string>

namespace zoo {

std::string cpu_features();

}  // namespace zoo
