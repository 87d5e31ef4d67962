# The OpenCV modules zoo uses, found one by one: Debian's all-in-one libopencv-dev (which alone carries OpenCV's
# own CMake files) pulls in hundreds of packages, the modules' own -dev packages do not.

find_path(OpenCVModules_INCLUDE_DIR opencv2/core.hpp PATH_SUFFIXES opencv4)
set(_libraries "")
foreach(module IN ITEMS videoio imgcodecs imgproc core)
  find_library(OpenCVModules_${module}_LIBRARY opencv_${module})
  mark_as_advanced(OpenCVModules_${module}_LIBRARY)
  list(APPEND _libraries ${OpenCVModules_${module}_LIBRARY})
endforeach()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(
  OpenCVModules REQUIRED_VARS OpenCVModules_INCLUDE_DIR OpenCVModules_core_LIBRARY OpenCVModules_imgproc_LIBRARY
                              OpenCVModules_imgcodecs_LIBRARY OpenCVModules_videoio_LIBRARY)

if(OpenCVModules_FOUND AND NOT TARGET OpenCVModules::OpenCVModules)
  add_library(OpenCVModules::OpenCVModules INTERFACE IMPORTED)
  target_include_directories(OpenCVModules::OpenCVModules SYSTEM INTERFACE ${OpenCVModules_INCLUDE_DIR})
  target_link_libraries(OpenCVModules::OpenCVModules INTERFACE ${_libraries})
endif()
