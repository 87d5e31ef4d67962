# One precompiled torch header for all targets: torch/torch.h alone takes 15 s a file without it.

file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/zoo_precompiled.cpp CONTENT "// Owns the precompiled header.\n")
add_library(zoo_precompiled STATIC ${PROJECT_BINARY_DIR}/zoo_precompiled.cpp)
target_link_libraries(zoo_precompiled PRIVATE zoo_torch nlohmann_json::nlohmann_json)
target_compile_options(zoo_precompiled PRIVATE ${ZOO_WARNINGS})
target_precompile_headers(zoo_precompiled PRIVATE <torch/torch.h> <nlohmann/json.hpp>)
