# A room is a folder of src/, a static library and one concept. room() declares which rooms it may include
# (tools/check holds the #include lines to the same list) and which outside libraries its files use.
#
#   room(kv DEPS spec tensor base LIBS ... SOURCES arena.cc ...)
#   room_test(kv arena_test.cc ...)      one test program for the room: kv_test
#   room_fuzz(weights safetensors_fuzz.cc RUNS 20000)
include(GoogleTest)

function(room name)
  cmake_parse_arguments(ARG "" "" "DEPS;LIBS;SOURCES" ${ARGN})
  add_library(ashlar_${name} STATIC ${ARG_SOURCES})
  target_include_directories(ashlar_${name} PUBLIC ${CMAKE_SOURCE_DIR}/src)
  list(TRANSFORM ARG_DEPS PREPEND ashlar_)
  target_link_libraries(ashlar_${name} PUBLIC ${ARG_DEPS} fmt::fmt PRIVATE ${ARG_LIBS})
endfunction()

function(room_test name)
  cmake_parse_arguments(ARG "" "" "LIBS;DEPS" ${ARGN})
  add_executable(${name}_test ${ARG_UNPARSED_ARGUMENTS})
  list(TRANSFORM ARG_DEPS PREPEND ashlar_)
  target_link_libraries(${name}_test PRIVATE ashlar_${name} ${ARG_DEPS} ${ARG_LIBS} GTest::gtest_main)
  target_compile_definitions(${name}_test PRIVATE ASHLAR_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  gtest_discover_tests(${name}_test TEST_PREFIX ${name}. DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT 300)
endfunction()

# One fuzz target from one LLVMFuzzerTestOneInput. With the fuzz preset (clang) it is a libFuzzer program;
# otherwise fuzz_driver.cc feeds it RUNS seeded mutations of the corpus, so that the suite always fuzzes.
function(room_fuzz name source)
  cmake_parse_arguments(ARG "" "RUNS" "DEPS" ${ARGN})
  get_filename_component(target ${source} NAME_WE)
  add_executable(${target} ${source})
  list(TRANSFORM ARG_DEPS PREPEND ashlar_)
  target_link_libraries(${target} PRIVATE ashlar_${name} ${ARG_DEPS})
  if(ASHLAR_FUZZ)
    target_link_options(${target} PRIVATE -fsanitize=fuzzer)
  else()
    target_sources(${target} PRIVATE ${CMAKE_SOURCE_DIR}/fuzz/fuzz_driver.cc)
  endif()
  string(REPLACE "_fuzz" "" corpus ${target})
  add_test(NAME fuzz.${target} COMMAND ${target} -runs=${ARG_RUNS} ${CMAKE_SOURCE_DIR}/fuzz/corpus/${corpus})
  set_tests_properties(fuzz.${target} PROPERTIES TIMEOUT 300)
endfunction()
