# How every target of the project is made: a library is a folder, and a new file in it needs no edit here.

find_package(nlohmann_json REQUIRED)
find_package(Threads REQUIRED)

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  # Without these two ccache cannot keep files that use a precompiled header.
  set(CMAKE_CXX_COMPILER_LAUNCHER
      ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros ${CCACHE_PROGRAM})
  add_compile_options(-fpch-preprocess)
endif()

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()

# -O3 buys nothing here: the time goes into torch's own kernels.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")

if(ZOO_SANITIZE)
  add_compile_options(-fsanitize=${ZOO_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${ZOO_SANITIZE})
endif()

set(ZOO_WARNINGS -Wall -Wextra -Werror -Wno-missing-field-initializers)
if(CMAKE_UNITY_BUILD)
  list(APPEND ZOO_WARNINGS -Wno-subobject-linkage)  # takes a .cpp file that another includes for a header
endif()

# The settings shared by libraries, programs and tests.
function(zoo_set_defaults target)
  target_compile_options(${target} PRIVATE ${ZOO_WARNINGS})
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR})
  if(target MATCHES "^(zoo_core|core_tests)$")  # what knows no torch compiles fast
    set_target_properties(${target} PROPERTIES UNITY_BUILD OFF)
  elseif(TARGET zoo_precompiled)
    target_precompile_headers(${target} REUSE_FROM zoo_precompiled)
    # Programs would be compiled with -fPIE, with which a header precompiled with -fPIC cannot be used.
    set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
    target_compile_options(${target} PRIVATE -fPIC)
  endif()
endfunction()

# zoo_add_library(NAME FOLDER [EXCLUDE FILE...]): a static library of all .cpp files below FOLDER.
function(zoo_add_library name folder)
  cmake_parse_arguments(ARG "" "" "EXCLUDE" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${folder}/*.cpp)
  foreach(file IN LISTS ARG_EXCLUDE)
    list(REMOVE_ITEM sources ${PROJECT_SOURCE_DIR}/${folder}/${file})
  endforeach()
  add_library(${name} STATIC ${sources})
  target_include_directories(${name} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>
                                            $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/zoo>)
  zoo_set_defaults(${name})
endfunction()
