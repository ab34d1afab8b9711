# The gates as part of the build and of the suite.

# check_headers compiles alone every header that no source file has as its first #include: where one
# does, the build itself has compiled that header with nothing before it.
file(GLOB_RECURSE headers CONFIGURE_DEPENDS RELATIVE ${CMAKE_SOURCE_DIR}/src src/*.h)
file(GLOB_RECURSE sources CONFIGURE_DEPENDS src/*.cc)
foreach(source ${sources})
  file(STRINGS ${source} first REGEX "^#include" LIMIT_COUNT 1)
  if(first MATCHES "^#include \"(.*)\"")
    list(REMOVE_ITEM headers ${CMAKE_MATCH_1})
  endif()
endforeach()
add_library(check_headers OBJECT EXCLUDE_FROM_ALL)
foreach(header ${headers})
  set(alone ${CMAKE_BINARY_DIR}/check_headers/${header}.cc)
  file(CONFIGURE OUTPUT ${alone} CONTENT "#include \"${header}\"\n")
  target_sources(check_headers PRIVATE ${alone})
endforeach()
target_include_directories(check_headers PRIVATE ${CMAKE_SOURCE_DIR}/src)
target_compile_definitions(check_headers PRIVATE ASHLAR_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
target_link_libraries(check_headers PRIVATE fmt::fmt GTest::gtest CLI11::CLI11 PkgConfig::HWY)

add_test(NAME gate.check COMMAND ${CMAKE_SOURCE_DIR}/tools/check)
add_test(NAME gate.self_test COMMAND ${CMAKE_SOURCE_DIR}/tools/check-self-test)
set_tests_properties(gate.check gate.self_test PROPERTIES LABELS gate)
