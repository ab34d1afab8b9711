#pragma once

// Result<T> and Status: how every fallible function of this program answers.
//
// Errors of the world or the caller (bad files, bad flags, too little memory) travel as values;
// errors of ours are CHECKs (check.h). No exception crosses a room. The names follow std::expected,
// which two of our three compilers lack; see docs/decisions/001.md.

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "base/check.h"
#include "base/text.h"

namespace ashlar {

enum class Code : uint8_t { invalid, unsupported, not_found, exhausted, cancelled, io };

const char* name(Code code);

// `text` names the thing, its value, the limit and, where there is one, the remedy.
struct Error {
  Code code = Code::invalid;
  std::string text;
};

template <class... Args>
Error error(Code code, fmt::format_string<Args...> format, Args&&... args) {
  return Error{code, fmt::format(format, std::forward<Args>(args)...)};
}

// The two kinds that are nearly all errors: bad input, and a request for what is not built.
template <class... Args>
Error invalid(fmt::format_string<Args...> format, Args&&... args) {
  return error(Code::invalid, format, std::forward<Args>(args)...);
}
template <class... Args>
Error unsupported(fmt::format_string<Args...> format, Args&&... args) {
  return error(Code::unsupported, format, std::forward<Args>(args)...);
}

template <class T>
class [[nodiscard]] Result {
 public:
  using value_type = T;
  Result(T value)
      : state_(std::in_place_index<0>, std::move(value)) {}  // NOLINT: implicit on purpose
  Result(Error failure) : state_(std::in_place_index<1>, std::move(failure)) {}  // NOLINT

  bool has_value() const { return state_.index() == 0; }
  explicit operator bool() const { return has_value(); }

  // REQUIRES has_value().
  T& value() & { return require(), std::get<0>(state_); }
  const T& value() const& { return require(), std::get<0>(state_); }
  T&& value() && { return require(), std::get<0>(std::move(state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  // REQUIRES !has_value().
  const Error& error() const& { return std::get<1>(state_); }
  Error&& error() && { return std::get<1>(std::move(state_)); }

 private:
  void require() const {
    if (!has_value()) check_failed(__FILE__, __LINE__, "Result holds a value", error().text);
  }
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error failure) : failure_(std::move(failure)) {}  // NOLINT: implicit on purpose
  bool has_value() const { return !failure_; }
  explicit operator bool() const { return has_value(); }
  const Error& error() const& { return *failure_; }
  Error&& error() && { return *std::move(failure_); }

 private:
  std::optional<Error> failure_;
};

using Status = Result<void>;

}  // namespace ashlar

// TRY(auto x, f()) binds the value or returns the error; TRY_STATUS(f()) only returns the error.
// __COUNTER__, not __LINE__: two on one line must not collide.
#define ASHLAR_JOIN2(a, b) a##b
#define ASHLAR_JOIN(a, b) ASHLAR_JOIN2(a, b)
#define ASHLAR_TRY(result, declaration, ...)       \
  auto result = (__VA_ARGS__);                     \
  if (!(result)) return std::move(result).error(); \
  declaration = *std::move(result)
#define TRY(declaration, ...) \
  ASHLAR_TRY(ASHLAR_JOIN(try_result_, __COUNTER__), declaration, __VA_ARGS__)
#define ASHLAR_TRY_STATUS(result, ...) \
  if (auto result = (__VA_ARGS__); !(result)) return std::move(result).error()
#define TRY_STATUS(...) ASHLAR_TRY_STATUS(ASHLAR_JOIN(try_status_, __COUNTER__), __VA_ARGS__)
