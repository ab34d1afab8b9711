#pragma once

// CHECK: for mistakes of this program, never for bad input (that is a Result). Always on; prints
// the place, the condition and the values, then aborts. DCHECK is the same in debug builds only.

#include <string>

namespace ashlar {

[[noreturn]] void check_failed(const char* file, int line, const char* condition,
                               const std::string& detail);

}  // namespace ashlar

#define CHECK(condition, ...)                                                                      \
  do {                                                                                             \
    if (!(condition)) [[unlikely]] {                                                               \
      ::ashlar::check_failed(__FILE__, __LINE__, #condition, ::ashlar::check_detail(__VA_ARGS__)); \
    }                                                                                              \
  } while (false)

#ifdef NDEBUG
#define DCHECK(condition, ...) \
  do {                         \
  } while (false && (condition))
#else
#define DCHECK(...) CHECK(__VA_ARGS__)
#endif

#include <fmt/core.h>

namespace ashlar {
inline std::string check_detail() { return {}; }
template <class... Args>
std::string check_detail(fmt::format_string<Args...> format, Args&&... args) {
  return fmt::format(format, static_cast<Args&&>(args)...);
}
}  // namespace ashlar
