#pragma once

// JSON-lines input of score, eval, plan and replay: one object per line, errors named by file and
// line.

#include <functional>
#include <string>
#include <vector>

#include "base/json.h"

namespace ashlar {

// Empty lines are skipped. `limit` < 0: all.
Result<std::vector<Json>> read_json_lines(const std::string& path, int64_t limit = -1);

// The same one line at a time; `where` is its FILE:LINE. The first error ends it.
Status each_json_line(const std::string& path,
                      const std::function<Status(Json, const std::string& where)>& line,
                      int64_t limit = -1);

}  // namespace ashlar
