#pragma once

// Help that fits a terminal: CLI11's layout with descriptions wrapped at 100 columns.

#include <CLI/Formatter.hpp>
#include <string>

namespace ashlar {

class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter();
  std::string make_option_desc(const CLI::Option* option) const override;
  std::string make_option_opts(const CLI::Option* option) const override;
};

// Lines of at most `width` bytes, broken at spaces.
std::string wrap(const std::string& text, size_t width);

}  // namespace ashlar
