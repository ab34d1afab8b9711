// Prints docs/reuse.md.

#include <cstdio>

#include "base/check.h"
#include "table.h"

int main() {
  const auto rows = ashlar::reuse::reuse_rows();
  CHECK(rows.has_value(), "{}", rows.error().text);
  std::printf("%s", ashlar::reuse::reuse_markdown(*rows).c_str());
}
