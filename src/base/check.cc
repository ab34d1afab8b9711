#include "base/check.h"

#include <cstdio>
#include <cstdlib>

#include "base/result.h"

namespace ashlar {

void check_failed(const char* file, int line, const char* condition, const std::string& detail) {
  // The log sink may be what is broken, so this goes to stderr directly.
  std::fprintf(stderr, "%s:%d: CHECK(%s) failed%s%s\n", file, line, condition,
               detail.empty() ? "" : ": ", detail.c_str());
  std::abort();
}

const char* name(Code code) {
  switch (code) {
    case Code::invalid: return "invalid";
    case Code::unsupported: return "unsupported";
    case Code::not_found: return "not found";
    case Code::exhausted: return "exhausted";
    case Code::cancelled: return "cancelled";
    case Code::io: return "io";
  }
  return "?";
}

}  // namespace ashlar
