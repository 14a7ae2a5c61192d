# SPDX-License-Identifier: Apache-2.0

# Interface packages from PyPI carry, in the include directories of their Python targets,
# a folder of the machine that built the wheel. CMake refuses a target with a directory
# that does not exist, so take such entries out of every target imported so far. On a
# stock ROS 2 there are none, and nothing changes.
function(drop_missing_include_directories)
  get_property(targets DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(directories ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(NOT directories)
      continue()
    endif()
    set(existing "")
    foreach(directory IN LISTS directories)
      # Generator expressions are resolved later and cannot be checked here.
      if(directory MATCHES "\\$<" OR EXISTS "${directory}")
        list(APPEND existing "${directory}")
      endif()
    endforeach()
    set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${existing}")
  endforeach()
endfunction()
