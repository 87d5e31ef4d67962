# Training by several processes: gloo itself is inside LibTorch, whose wheel leaves out the headers.

find_path(Gloo_INCLUDE_DIR gloo/transport/device.h)
mark_as_advanced(Gloo_INCLUDE_DIR)
if(Gloo_INCLUDE_DIR)
  set(_zoo_gloo_found ON)
else()
  set(_zoo_gloo_found OFF)
endif()
option(ZOO_DISTRIBUTED "Train with several processes (needs gloo's headers)" ${_zoo_gloo_found})

if(ZOO_DISTRIBUTED)
  if(NOT Gloo_INCLUDE_DIR)
    message(FATAL_ERROR "ZOO_DISTRIBUTED: gloo/transport/device.h was not found, expected libgloo-dev")
  endif()
  target_compile_definitions(zoo_trainers PRIVATE ZOO_DISTRIBUTED)
  target_include_directories(zoo_trainers SYSTEM PRIVATE ${Gloo_INCLUDE_DIR})
endif()
