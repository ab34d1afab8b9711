#include "text/template/characters.h"

#include <utf8proc.h>

#include <algorithm>

#include "text/utf8.h"

namespace ashlar::text::jinja {
namespace {

utf8proc_category_t category(char32_t code) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(code));
}

// A line end of str.splitlines at text[at]: its length in bytes, or 0.
size_t line_end(std::string_view text, size_t at) {
  if (text.substr(at).starts_with("\r\n")) return 2;
  const Utf8Step step = read_utf8(text, at);
  const bool ends = (step.code >= 0x0A && step.code <= 0x0D) ||
                    (step.code >= 0x1C && step.code <= 0x1E) || step.code == 0x85 ||
                    step.code == 0x2028 || step.code == 0x2029;
  return ends ? step.length : 0;
}

std::vector<std::string_view> split_at_spaces(std::string_view text, int64_t limit) {
  std::vector<std::string_view> parts;
  text = strip(text, std::nullopt, true, false);
  while (!text.empty()) {
    if (limit >= 0 && static_cast<int64_t>(parts.size()) == limit) {
      parts.push_back(text);
      break;
    }
    size_t end = 0;
    while (end < text.size()) {
      const Utf8Step step = read_utf8(text, end);
      if (is_space(step.code)) break;
      end += step.length;
    }
    parts.push_back(text.substr(0, end));
    text = strip(text.substr(end), std::nullopt, true, false);
  }
  return parts;
}

std::vector<std::string_view> rsplit_at_spaces(std::string_view text, int64_t limit) {
  std::vector<std::string_view> parts;
  text = strip(text, std::nullopt, false, true);
  while (!text.empty()) {
    if (limit >= 0 && static_cast<int64_t>(parts.size()) == limit) {
      parts.push_back(text);
      break;
    }
    size_t begin = text.size();
    while (begin > 0) {
      const size_t before = previous_utf8(text, begin);
      if (is_space(read_utf8(text, before).code)) break;
      begin = before;
    }
    parts.push_back(text.substr(begin));
    text = strip(text.substr(0, begin), std::nullopt, false, true);
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

}  // namespace

bool is_space(char32_t code) {
  return (code >= 0x09 && code <= 0x0D) || (code >= 0x1C && code <= 0x1F) || code == 0x85 ||
         (code != 0x200B &&
          (category(code) == UTF8PROC_CATEGORY_ZS || code == 0x2028 || code == 0x2029));
}

bool is_printable(char32_t code) {
  switch (category(code)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP: return false;
    case UTF8PROC_CATEGORY_ZS: return code == ' ';
    default: return true;
  }
}

bool is_upper(char32_t code) { return utf8proc_isupper(static_cast<utf8proc_int32_t>(code)) != 0; }
bool is_lower(char32_t code) { return utf8proc_islower(static_cast<utf8proc_int32_t>(code)) != 0; }

bool is_alpha(char32_t code) {
  const auto kind = category(code);
  return kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_LO;
}
bool is_decimal(char32_t code) { return category(code) == UTF8PROC_CATEGORY_ND; }
bool is_digit(char32_t code) {
  static constexpr std::pair<char32_t, char32_t> kOthers[] = {
      {0xB2, 0xB3},     {0xB9, 0xB9},     {0x1369, 0x1371}, {0x2070, 0x2070}, {0x2074, 0x2079},
      {0x2080, 0x2089}, {0x2460, 0x2468}, {0x2474, 0x247C}, {0x2488, 0x2490}, {0x24EA, 0x24EA},
      {0x24F5, 0x24FD}, {0x24FF, 0x24FF}, {0x2776, 0x277E}, {0x2780, 0x2788}, {0x278A, 0x2792}};
  const auto holds = [code](const auto& range) {
    return code >= range.first && code <= range.second;
  };
  return is_decimal(code) || std::any_of(std::begin(kOthers), std::end(kOthers), holds);
}
bool is_numeric(char32_t code) {
  const auto kind = category(code);
  return kind >= UTF8PROC_CATEGORY_ND && kind <= UTF8PROC_CATEGORY_NO;
}

int64_t count_characters(std::string_view text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

std::vector<std::string_view> characters(std::string_view text) {
  std::vector<std::string_view> out;
  for (size_t i = 0; i < text.size();) {
    const size_t length = read_utf8(text, i).length;
    out.push_back(text.substr(i, length));
    i += length;
  }
  return out;
}

size_t byte_offset(std::string_view text, int64_t position) {
  if (position <= 0) return 0;
  size_t at = 0;
  while (at < text.size() && position > 0) {
    ++at;
    while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) ++at;
    --position;
  }
  return at;
}

std::string_view strip(std::string_view text, std::optional<std::string_view> chars, bool left,
                       bool right) {
  const auto drops = [&](size_t at, size_t length) {
    if (!chars) return is_space(read_utf8(text, at).code);
    return chars->find(text.substr(at, length)) != std::string_view::npos;
  };
  while (left && !text.empty()) {
    const size_t length = read_utf8(text, 0).length;
    if (!drops(0, length)) break;
    text.remove_prefix(length);
  }
  while (right && !text.empty()) {
    const size_t last = previous_utf8(text, text.size());
    if (!drops(last, text.size() - last)) break;
    text.remove_suffix(text.size() - last);
  }
  return text;
}

std::vector<std::string_view> split(std::string_view text,
                                    std::optional<std::string_view> separator, int64_t limit,
                                    bool from_right) {
  if (!separator) return from_right ? rsplit_at_spaces(text, limit) : split_at_spaces(text, limit);
  std::vector<std::string_view> parts;
  for (limit = std::max<int64_t>(limit, -1); limit != 0; --limit) {
    const size_t at = from_right ? text.rfind(*separator) : text.find(*separator);
    if (at == std::string_view::npos) break;
    const size_t after = at + separator->size();
    parts.push_back(from_right ? text.substr(after) : text.substr(0, at));
    text = from_right ? text.substr(0, at) : text.substr(after);
  }
  parts.push_back(text);
  if (from_right) std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> lines;
  size_t begin = 0;
  for (size_t i = 0; i < text.size();) {
    const size_t end = line_end(text, i);
    if (end == 0) {
      i += read_utf8(text, i).length;
      continue;
    }
    lines.push_back(text.substr(begin, i - begin + (keep_ends ? end : 0)));
    begin = i += end;
  }
  if (begin < text.size()) lines.push_back(text.substr(begin));
  return lines;
}

int64_t count_of(std::string_view text, std::string_view part) {
  if (part.empty()) return count_characters(text) + 1;
  int64_t n = 0;
  for (size_t at = text.find(part); at != std::string_view::npos; ++n) {
    at = text.find(part, at + part.size());
  }
  return n;
}

}  // namespace ashlar::text::jinja
