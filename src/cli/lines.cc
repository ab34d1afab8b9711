#include "cli/lines.h"

#include "base/file.h"

namespace ashlar {

Status each_json_line(const std::string& path,
                      const std::function<Status(Json, const std::string&)>& line, int64_t limit) {
  TRY(const std::string text, read_file(path));
  int64_t number = 0, n_read = 0;
  for (size_t begin = 0; begin < text.size() && n_read != limit;) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view words = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (words.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = fmt::format("{}:{}", path, number);
    TRY(Json json, parse_json(words, where));
    if (!json.is_object()) return invalid("{}: expected an object, found {}", where, json.kind());
    TRY_STATUS(line(std::move(json), where));
    ++n_read;
  }
  if (n_read == 0) return invalid("{}: no lines", path);
  return {};
}

Result<std::vector<Json>> read_json_lines(const std::string& path, int64_t limit) {
  std::vector<Json> lines;
  const auto keep = [&](Json json, const std::string&) -> Status {
    lines.push_back(std::move(json));
    return {};
  };
  TRY_STATUS(each_json_line(path, keep, limit));
  return lines;
}

}  // namespace ashlar
