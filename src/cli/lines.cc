#include "cli/lines.h"

#include "base/file.h"

namespace ashlar {

Result<std::vector<Json>> read_json_lines(const std::string& path, int64_t limit) {
  TRY(const std::string text, read_file(path));
  std::vector<Json> lines;
  int64_t number = 0;
  for (size_t begin = 0; begin < text.size() && static_cast<int64_t>(lines.size()) != limit;) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = fmt::format("{}:{}", path, number);
    TRY(Json json, parse_json(line, where));
    if (!json.is_object()) return invalid("{}: expected an object, found {}", where, json.kind());
    lines.push_back(std::move(json));
  }
  if (lines.empty()) return invalid("{}: no lines", path);
  return lines;
}

}  // namespace ashlar
