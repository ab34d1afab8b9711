#include "cli/help.h"

#include <CLI/Option.hpp>

namespace ashlar {
namespace {

constexpr size_t kColumns = 100;
constexpr size_t kNames = 34;

}  // namespace

HelpFormatter::HelpFormatter() { column_width(kNames); }

std::string HelpFormatter::make_option_desc(const CLI::Option* option) const {
  std::string text = option->get_description();
  if (option->get_required()) text += " Required.";
  if (!option->get_default_str().empty()) text += " [" + option->get_default_str() + "]";
  return wrap(text, kColumns - kNames);
}

// The value's type alone: ranges and choices are said when they are broken, and in the description.
std::string HelpFormatter::make_option_opts(const CLI::Option* option) const {
  if (option->get_type_size() == 0) return "";
  const std::string type = option->get_type_name();
  return " " + type.substr(0, type.find(':'));
}

std::string wrap(const std::string& text, size_t width) {
  std::string out;
  size_t column = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(' ', begin), text.size());
    const size_t length = end - begin;
    if (column > 0 && column + 1 + length > width) {
      out += '\n';
      column = 0;
    } else if (column > 0) {
      out += ' ';
      ++column;
    }
    out += text.substr(begin, length);
    column += length;
    begin = end + 1;
  }
  return out;
}

}  // namespace ashlar
