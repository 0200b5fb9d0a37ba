# Compiler flags and libraries, once, for all rooms.

include(CheckCCompilerFlag)
find_package(PkgConfig)
find_package(Threads REQUIRED)

add_library(anemo_flags INTERFACE)
target_include_directories(anemo_flags INTERFACE ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR}/generated)
# No contraction of a*b+c outside files that ask for it: a row's result must not depend on the compiler's mood.
target_compile_options(anemo_flags INTERFACE
  $<$<COMPILE_LANGUAGE:C>:-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith
    -Wno-missing-field-initializers -fno-math-errno -ffp-contract=off>)
target_compile_definitions(anemo_flags INTERFACE _GNU_SOURCE)
target_link_libraries(anemo_flags INTERFACE m Threads::Threads)
if(ANEMO_WERROR)
  target_compile_options(anemo_flags INTERFACE $<$<COMPILE_LANGUAGE:C>:-Werror>)
endif()
if(ANEMO_SANITIZE)
  target_compile_options(anemo_flags INTERFACE
    $<$<COMPILE_LANGUAGE:C>:-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer>)
  target_link_options(anemo_flags INTERFACE -fsanitize=address,undefined)
endif()
if(ANEMO_FUZZ)
  target_compile_options(anemo_flags INTERFACE $<$<COMPILE_LANGUAGE:C>:-fsanitize=fuzzer-no-link>)
endif()
if(ANEMO_TSAN)
  set(ANEMO_PTHREADS ON)
  target_compile_options(anemo_flags INTERFACE $<$<COMPILE_LANGUAGE:C>:-fsanitize=thread>)
  target_link_options(anemo_flags INTERFACE -fsanitize=thread)
endif()

if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(ANEMO_X86 1)
  include(CheckCSourceCompiles)
  check_c_source_compiles("int main(void) { __asm__(\"vmulph %zmm0, %zmm0, %zmm0\"); return 0; }"
                          ANEMO_HAVE_AVX512FP16) # an assembler's: binutils 2.38, Clang 14
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  set(ANEMO_AARCH64 1)
endif()

pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
if(NOT ANEMO_PTHREADS)
  find_package(OpenMP REQUIRED COMPONENTS C)
endif()

# anemo_optional(NAME pkg-config-module): sets ANEMO_HAVE_NAME and the target PkgConfig::NAME.
function(anemo_optional name module)
  set(ANEMO_HAVE_${name} 0 PARENT_SCOPE)
  if(ANEMO_WITH_${name} STREQUAL "OFF")
    return()
  endif()
  pkg_check_modules(${name} IMPORTED_TARGET ${module})
  if(${name}_FOUND)
    set(ANEMO_HAVE_${name} 1 PARENT_SCOPE)
    set(ANEMO_${name}_VERSION "${${name}_VERSION}" PARENT_SCOPE)
  elseif(ANEMO_WITH_${name} STREQUAL "ON")
    message(FATAL_ERROR "ANEMO_WITH_${name}=ON, but pkg-config finds no ${module}")
  endif()
endfunction()
anemo_optional(OPENBLAS openblas)
anemo_optional(HWLOC hwloc)
anemo_optional(PAPI papi)
anemo_optional(PCRE2 libpcre2-8)
anemo_optional(UTF8PROC libutf8proc)

set(ANEMO_HAVE_CUDA 0)
if(NOT ANEMO_WITH_CUDA STREQUAL "OFF")
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(targets_given ${CMAKE_CUDA_ARCHITECTURES})
    if(NOT targets_given)
      set(CMAKE_CUDA_ARCHITECTURES 80-real 90a-real) # before the language, which else would store a default of its own
    endif()
    enable_language(CUDA)
    if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.0)
      message(FATAL_ERROR "CUDA ${CMAKE_CUDA_COMPILER_VERSION}: 12.0 or newer is needed (C++20, sm_90a); "
                          "-DANEMO_WITH_CUDA=OFF builds without")
    endif()
    # The targets that differ in code are enough to see that all of it compiles; `all` is for a binary that is given away.
    # PTX is what a GPU newer than the last target compiles at start.
    if(NOT targets_given)
      if(ANEMO_CUDA_TARGETS STREQUAL "all")
        set(CMAKE_CUDA_ARCHITECTURES 80-real 86-real 89-real 90a-real)
        if(NOT CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.8)
          list(APPEND CMAKE_CUDA_ARCHITECTURES 100-real)
        endif()
        list(APPEND CMAKE_CUDA_ARCHITECTURES 90-virtual)
      elseif(NOT ANEMO_CUDA_TARGETS STREQUAL "few")
        message(FATAL_ERROR "ANEMO_CUDA_TARGETS is ${ANEMO_CUDA_TARGETS}; accepted: few, all "
                            "(or any list in CMAKE_CUDA_ARCHITECTURES)")
      endif()
    endif()
    message(STATUS "GPU targets: ${CMAKE_CUDA_ARCHITECTURES}")
    find_package(CUDAToolkit REQUIRED)
    set(ANEMO_HAVE_CUDA 1)
    set(CMAKE_CUDA_STANDARD 20)
    if(ANEMO_WERROR)
      target_compile_options(anemo_flags INTERFACE $<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings -Xcompiler=-Wall>)
    endif()
  elseif(ANEMO_WITH_CUDA STREQUAL "ON")
    message(FATAL_ERROR "ANEMO_WITH_CUDA=ON, but no CUDA compiler was found")
  endif()
endif()

string(TOUPPER "${CMAKE_BUILD_TYPE}" build_type)
set(ANEMO_COMPILER "${CMAKE_C_COMPILER_ID} ${CMAKE_C_COMPILER_VERSION}")
set(ANEMO_FLAGS "${CMAKE_C_FLAGS} ${CMAKE_C_FLAGS_${build_type}}")
configure_file(${CMAKE_SOURCE_DIR}/cmake/config.h.in ${CMAKE_BINARY_DIR}/generated/anemo_config.h)

message(STATUS "anemo ${ANEMO_VERSION}: CUDA ${ANEMO_HAVE_CUDA} OpenBLAS ${ANEMO_HAVE_OPENBLAS} "
               "hwloc ${ANEMO_HAVE_HWLOC} PAPI ${ANEMO_HAVE_PAPI} PCRE2 ${ANEMO_HAVE_PCRE2} "
               "utf8proc ${ANEMO_HAVE_UTF8PROC}")

# Instruction sets come from the file's suffix and from nowhere else: *_avx2.c, *_avx512.c, *_avx512vnni.c,
# *_avx512bf16.c, *_amxint8.c, *_amxbf16.c, *_amxfp16.c (AVX512-FP16 as assembly, AMX-FP16 as bytes), and
# on Arm *_neon.c (the baseline: no flag), *_neondot.c, *_neoni8mm.c. A file whose suffix the compiler or the target does
# not know is left out by its variants.inc. They are unrolled many times over: where each variable lives would cost GCC
# as long as compiling them, so their debug information is lines and functions.
set(ANEMO_ISA_avx2 -mavx2 -mfma -mf16c)
set(ANEMO_ISA_avx512 -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512dq -mavx512vl)
set(ANEMO_ISA_avx512vnni ${ANEMO_ISA_avx512} -mavx512vnni)
set(ANEMO_ISA_avx512bf16 ${ANEMO_ISA_avx512} -mavx512bf16)
set(ANEMO_ISA_amxint8 ${ANEMO_ISA_avx512} -mamx-tile -mamx-int8)
set(ANEMO_ISA_amxbf16 ${ANEMO_ISA_avx512bf16} -mavx512vbmi -mamx-tile -mamx-bf16)
set(ANEMO_ISA_amxfp16 ${ANEMO_ISA_avx512vnni} -mavx512vbmi -mamx-tile)
set(ANEMO_ISA_neondot -march=armv8.2-a+dotprod)
set(ANEMO_ISA_neoni8mm -march=armv8.2-a+dotprod+i8mm)
function(anemo_isa_flags)
  foreach(file ${ARGN})
    if(file MATCHES "_(avx2|avx512|avx512vnni|avx512bf16|amxint8|amxbf16|amxfp16|neondot|neoni8mm)\\.c$")
      set_source_files_properties(${file} PROPERTIES COMPILE_OPTIONS
        "${ANEMO_ISA_${CMAKE_MATCH_1}};$<$<CONFIG:RelWithDebInfo>:-g1>")
    endif()
  endforeach()
endfunction()
