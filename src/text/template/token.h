#pragma once

// The tokens of a template.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/template/literal.h"

namespace ashlar::text::jinja {

enum class TokenKind : uint8_t {
  data,            // text between tags: `text`
  variable_begin,  // {{
  variable_end,
  block_begin,  // {%
  block_end,
  name,    // `text`
  string,  // `text`, escapes resolved
  number,  // `number`
  symbol,  // `text`: an operator or bracket
  end,     // of the template
};

struct Token {
  TokenKind kind = TokenKind::end;
  int line = 1;
  std::string text;
  Literal number;
};

// White space around tags is treated as with trim_blocks and lstrip_blocks, and one newline at the
// end of the source is dropped. REQUIRES valid UTF-8. The last token is `end`.
Result<std::vector<Token>> tokenize(std::string_view source);

}  // namespace ashlar::text::jinja
