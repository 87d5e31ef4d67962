# cmake --install: the program, the libraries with their headers, and a package for find_package(zoo).
include(CMakePackageConfigHelpers)

set(_libraries zoo_core zoo_models zoo_datasets zoo_trainers)
set(_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/zoo)

# The installed program finds LibTorch where the build found it.
set_target_properties(zoo PROPERTIES INSTALL_RPATH "${TORCH_INSTALL_PREFIX}/lib")
install(TARGETS zoo RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS ${_libraries} zoo_torch EXPORT zoo_targets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
foreach(folder IN ITEMS core models datasets trainers)
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/${folder} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/zoo
          FILES_MATCHING PATTERN "*.h")
endforeach()
install(EXPORT zoo_targets NAMESPACE zoo:: DESTINATION ${_package_dir})
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/zooConfig.cmake.in ${PROJECT_BINARY_DIR}/zooConfig.cmake
                              INSTALL_DESTINATION ${_package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/zooConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/zooConfig.cmake ${PROJECT_BINARY_DIR}/zooConfigVersion.cmake
              ${PROJECT_SOURCE_DIR}/cmake/FindOpenCVModules.cmake ${PROJECT_SOURCE_DIR}/cmake/FindTurboJPEG.cmake
              ${PROJECT_SOURCE_DIR}/cmake/FindUtf8proc.cmake
        DESTINATION ${_package_dir})
