# Finds LibTorch: what CMAKE_PREFIX_PATH names, else what scripts/bootstrap put into .deps/torch.

set(_zoo_local_torch ${PROJECT_SOURCE_DIR}/.deps/torch/torch/share/cmake)
if(EXISTS ${_zoo_local_torch})
  list(APPEND CMAKE_PREFIX_PATH ${_zoo_local_torch})
endif()
find_package(Torch CONFIG QUIET)
if(NOT Torch_FOUND)
  message(FATAL_ERROR "LibTorch was not found: run scripts/bootstrap, or pass "
                      "-DCMAKE_PREFIX_PATH=DIR with the folder of an unpacked libtorch")
endif()

add_library(zoo_torch INTERFACE)
target_link_libraries(zoo_torch INTERFACE ${TORCH_LIBRARIES})
set_target_properties(zoo_torch PROPERTIES EXPORT_NAME zoo_torch)
