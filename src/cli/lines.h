#pragma once

// JSON-lines input of score and eval: one object per line, errors named by file and line.

#include <functional>
#include <string>
#include <vector>

#include "base/json.h"

namespace ashlar {

// Empty lines are skipped. `limit` < 0: all.
Result<std::vector<Json>> read_json_lines(const std::string& path, int64_t limit = -1);

}  // namespace ashlar
