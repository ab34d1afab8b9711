# Compilers, warnings and libraries, once for every room. No -m flags here or anywhere: instruction sets
# are chosen per function (docs/add-an-op.md).
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()

set(ASHLAR_SANITIZE "" CACHE STRING "Sanitizers, as in -fsanitize=")
option(ASHLAR_CUDA "Build the CUDA bodies (needs nvcc; no GPU to build)" OFF)
option(ASHLAR_FUZZ "Build the fuzz targets with libFuzzer (clang)" OFF)

# Designated initialisers leave out fields on purpose: the defaults stand in the struct. g++ 12 sees
# uninitialised values, overlaps and overflows in its own <variant>, <string> and intrinsics; the
# sanitizers and poisoned buffers look for real ones. {fmt} 9 thinks that nvcc has no constexpr, and
# nvcc's 554 is about a conversion that one instantiation of a template cannot use.
add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wpedantic;-Werror;-Wno-missing-field-initializers;-fno-omit-frame-pointer>"
  "$<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-uninitialized;-Wno-maybe-uninitialized;-Wno-restrict;-Wno-stringop-overflow>"
  "$<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings;-diag-suppress=554;-Xcompiler=-Wall;-DFMT_USE_CONSTEXPR=1>")
if(ASHLAR_SANITIZE)
  add_compile_options(-fsanitize=${ASHLAR_SANITIZE} -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${ASHLAR_SANITIZE})
endif()

if(ASHLAR_CUDA)
  set(CMAKE_CUDA_ARCHITECTURES 80-virtual 90a-real CACHE STRING "Portable bodies and Hopper's own")
  enable_language(CUDA)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)  # CMake 3.25 does not know nvcc 13's
  find_package(CUDAToolkit REQUIRED)
endif()

find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(Boost 1.81 REQUIRED COMPONENTS json)
find_package(GTest REQUIRED)
find_package(CLI11 REQUIRED)
find_package(OpenSSL 3 REQUIRED COMPONENTS Crypto)
find_package(PkgConfig REQUIRED)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
pkg_check_modules(HWY REQUIRED IMPORTED_TARGET libhwy)
