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

# at::parallel_for is a template: where it is compiled without OpenMP it runs on one thread. Linked is the very runtime
# that torch loads; with a second one two teams of threads would fight over the cores.
target_compile_options(zoo_torch INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fopenmp>)
file(GLOB _zoo_openmp ${TORCH_INSTALL_PREFIX}/lib/libgomp*.so*)
if(_zoo_openmp)
  list(GET _zoo_openmp 0 _zoo_openmp)
  target_link_libraries(zoo_torch INTERFACE ${_zoo_openmp})
else()
  target_link_options(zoo_torch INTERFACE -fopenmp)
endif()
