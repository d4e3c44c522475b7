# The project's build rules: tg_library, tg_binary, tg_test. One place for flags, ccache, mold and precompiled headers.
find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()
find_program(MOLD mold)
if(MOLD)
  add_link_options(-fuse-ld=mold)
endif()

find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(GTest REQUIRED)
find_package(spdlog REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(prometheus-cpp REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(cpprestsdk REQUIRED)
find_package(CURL REQUIRED)
find_package(ZLIB REQUIRED)
pkg_check_modules(PQXX REQUIRED IMPORTED_TARGET libpqxx)
pkg_check_modules(PQ REQUIRED IMPORTED_TARGET libpq)
pkg_check_modules(HIREDIS REQUIRED IMPORTED_TARGET hiredis)
pkg_check_modules(BROTLIDEC REQUIRED IMPORTED_TARGET libbrotlidec)
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd)

add_library(tg_flags INTERFACE)
target_compile_options(tg_flags INTERFACE -Wall -Wextra -Wconversion -fno-omit-frame-pointer)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(tg_flags INTERFACE -Werror)
  # GCC 12 sees these where there are none once it inlines the standard library (GCC bugs 105329, 105651, 107852).
  target_compile_options(tg_flags INTERFACE -Wno-stringop-overread -Wno-restrict -Wno-array-bounds -Wno-stringop-overflow
                         -Wno-free-nonheap-object)
  # Precompiled headers and ccache: https://ccache.dev/manual/latest.html#_precompiled_headers
  target_compile_options(tg_flags INTERFACE -fpch-preprocess)
else()
  # Clang counts changes of sign among conversions, GCC does not for C++.
  target_compile_options(tg_flags INTERFACE -Wno-sign-conversion)
endif()
target_include_directories(tg_flags INTERFACE ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR}/generated)
target_link_libraries(tg_flags INTERFACE Threads::Threads)
target_compile_definitions(tg_flags INTERFACE TALLYGATE_VERSION="${PROJECT_VERSION}"
  # What hiredis and spdlog ask of their users: the same everywhere, or the precompiled headers could not be shared.
  _FILE_OFFSET_BITS=64 SPDLOG_SHARED_LIB SPDLOG_COMPILED_LIB SPDLOG_FMT_EXTERNAL)
include(hardening)
set(CMAKE_CXX_COMPILE_OPTIONS_INVALID_PCH "")  # a target whose definitions differ does without
if(TALLYGATE_SANITIZE)
  target_compile_options(tg_flags INTERFACE -fsanitize=${TALLYGATE_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(tg_flags INTERFACE -fsanitize=${TALLYGATE_SANITIZE})
  # GCC's TSan does not know the fences that Asio has beside its mutexes.
  if(TALLYGATE_SANITIZE STREQUAL "thread" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(tg_flags INTERFACE -Wno-tsan)
  endif()
endif()

# Two precompiled headers, each built once and shared: one for the product, one for the tests.
file(WRITE ${CMAKE_BINARY_DIR}/generated/tg_pch.cc "")
add_library(tg_pch OBJECT ${CMAKE_BINARY_DIR}/generated/tg_pch.cc)
target_link_libraries(tg_pch PUBLIC tg_flags)
target_precompile_headers(tg_pch PRIVATE ${CMAKE_SOURCE_DIR}/cmake/pch.h)
add_library(tg_test_pch OBJECT ${CMAKE_BINARY_DIR}/generated/tg_pch.cc)
target_link_libraries(tg_test_pch PUBLIC tg_flags GTest::gtest)
target_precompile_headers(tg_test_pch PRIVATE ${CMAKE_SOURCE_DIR}/cmake/pch_test.h)

# tg_library(NAME SRCS a.cc ... [DEPS lib ...])
function(tg_library name)
  cmake_parse_arguments(A "" "" "SRCS;DEPS" ${ARGN})
  add_library(${name} STATIC ${A_SRCS})
  target_link_libraries(${name} PUBLIC tg_flags ${A_DEPS})
  target_precompile_headers(${name} REUSE_FROM tg_pch)
endfunction()

# tg_binary(NAME SRCS a.cc ... [DEPS lib ...]): into build/<preset>/bin.
function(tg_binary name)
  cmake_parse_arguments(A "" "" "SRCS;DEPS" ${ARGN})
  add_executable(${name} ${A_SRCS})
  target_link_libraries(${name} PRIVATE tg_flags ${A_DEPS})
  target_precompile_headers(${name} REUSE_FROM tg_pch)
endfunction()

add_custom_target(unit_tests)

# tg_test(NAME LABEL unit|integration SRCS a.cc ... [DEPS lib ...]): one gtest binary, one ctest entry with the label.
function(tg_test name)
  cmake_parse_arguments(A "" "LABEL" "SRCS;DEPS" ${ARGN})
  add_executable(${name} ${A_SRCS})
  target_link_libraries(${name} PRIVATE tg_flags ${A_DEPS} GTest::gtest GTest::gtest_main)
  target_precompile_headers(${name} REUSE_FROM tg_test_pch)
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  if(A_LABEL STREQUAL unit)
    add_dependencies(unit_tests ${name})
  endif()
  set_tests_properties(${name} PROPERTIES LABELS ${A_LABEL} TIMEOUT 600)
endfunction()
