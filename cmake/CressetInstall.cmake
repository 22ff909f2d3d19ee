# make install: both libraries, the command, the headers, two pkg-config files, and the CMake package Cresset.
#
# The shared library hides what it links, so its users need nothing else. The static one is followed by its
# dependencies: cresset-static.pc and CressetStaticTargets.cmake name them; cresset.pc names them as private.
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/Cresset)
install(TARGETS cresset EXPORT CressetTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
        INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(TARGETS cresset_static EXPORT CressetStaticTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
        INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
if(TARGET cresset_command)
  install(TARGETS cresset_command RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
install(DIRECTORY include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h" PATTERN "*.def")

# ---------------------------------------------------------------- pkg-config
# The files find their own prefix, so that a tree may be installed with any --prefix, or moved.
file(RELATIVE_PATH CRESSET_PC_PREFIX /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
string(REGEX REPLACE "/$" "" CRESSET_PC_PREFIX "${CRESSET_PC_PREFIX}")
set(CRESSET_PC_REQUIRES jansson)
set(CRESSET_PC_LIBS -pthread -ldl -lm)
if(CRESSET_SUMMARY_ON)
  list(APPEND CRESSET_PC_REQUIRES libprotobuf-c)
endif()
if(CRESSET_IMAGES_ON)
  list(APPEND CRESSET_PC_REQUIRES zlib)
  list(PREPEND CRESSET_PC_LIBS -lgif)
endif()
if(CRESSET_LIBJPEG_ON)
  list(PREPEND CRESSET_PC_LIBS -ljpeg)
endif()
if(CRESSET_OPENMP_ON)
  list(PREPEND CRESSET_PC_LIBS ${OpenMP_C_FLAGS})
endif()
list(JOIN CRESSET_PC_REQUIRES " " CRESSET_PC_REQUIRES)
list(JOIN CRESSET_PC_LIBS " " CRESSET_PC_LIBS)
# Our headers are system headers to their users (a macro that overrides a default is silent under -Wextra), but -isystem
# on a folder that the compiler searches anyway would reorder the search: so the flag depends on the final prefix.
set(CRESSET_PC_INCLUDE @CRESSET_PC_INCLUDE@)
foreach(file cresset.pc cresset-static.pc)
  configure_file(cmake/${file}.in ${file}.in @ONLY)
  install(CODE "
    set(CRESSET_PC_INCLUDE \"-isystem \")
    if(CMAKE_INSTALL_PREFIX MATCHES \"^/usr(/local)?/?$\")
      set(CRESSET_PC_INCLUDE -I)
    endif()
    configure_file(\"${CMAKE_CURRENT_BINARY_DIR}/${file}.in\" \"${CMAKE_CURRENT_BINARY_DIR}/${file}\" @ONLY)")
  install(FILES ${CMAKE_CURRENT_BINARY_DIR}/${file} DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endforeach()

# ---------------------------------------------------------------- find_package(Cresset)
install(EXPORT CressetTargets NAMESPACE Cresset:: DESTINATION ${package_dir})
install(EXPORT CressetStaticTargets NAMESPACE Cresset:: DESTINATION ${package_dir})
configure_package_config_file(cmake/CressetConfig.cmake.in CressetConfig.cmake INSTALL_DESTINATION ${package_dir}
                              NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(CressetConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/CressetConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/CressetConfigVersion.cmake
        DESTINATION ${package_dir})
