# What every target shares: the language level, the warnings, the sanitizers, and how a folder becomes a target.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()

# Paths relative to the checkout, so that another clone of the same code finds what this one compiled.
find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} CCACHE_NOHASHDIR=1
                                  ${CCACHE})
endif()

add_library(poise_flags INTERFACE)
target_compile_options(poise_flags INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wswitch-enum
                                             -Wnon-virtual-dtor -Wold-style-cast -Werror)
if(POISE_SANITIZE)
  target_compile_options(poise_flags INTERFACE -fsanitize=${POISE_SANITIZE} -fno-omit-frame-pointer
                                               -fno-sanitize-recover=all -g1
                                               # GCC 12 sees ghosts in the standard library once it is instrumented; the
                                               # release tree judges the warnings.
                                               -Wno-error -Wno-maybe-uninitialized)
  target_link_options(poise_flags INTERFACE -fsanitize=${POISE_SANITIZE})
endif()
if(POISE_FUZZERS)
  target_compile_options(poise_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

# poise_library(io SOURCES uring.cc LINKS poise_net PRIVATE_LINKS PkgConfig::liburing)
#
# Makes target poise_io out of the current folder. The folder is reached by others as "io/uring.h", and only by
# those that link it: each target brings an include root that holds nothing but itself, so an include
# against the direction of docs/style.md does not compile.
function(poise_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINKS;PRIVATE_LINKS" ${ARGN})
  set(root ${CMAKE_BINARY_DIR}/include-roots/${name})
  file(MAKE_DIRECTORY ${root})
  if(NOT EXISTS ${root}/${name})
    file(CREATE_LINK ${CMAKE_CURRENT_SOURCE_DIR} ${root}/${name} SYMBOLIC)
  endif()
  if(ARG_SOURCES)
    add_library(poise_${name} STATIC ${ARG_SOURCES})
    target_include_directories(poise_${name} PUBLIC ${root})
    target_link_libraries(poise_${name} PUBLIC poise_words ${ARG_LINKS} PRIVATE poise_flags ${ARG_PRIVATE_LINKS})
  else()
    add_library(poise_${name} INTERFACE)
    target_include_directories(poise_${name} INTERFACE ${root})
    target_link_libraries(poise_${name} INTERFACE poise_words ${ARG_LINKS})
  endif()
endfunction()
