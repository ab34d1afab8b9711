#include <utf8proc.h>

#include "text/normalizer.h"
#include "text/template/characters.h"
#include "text/utf8.h"

// Case as Python has it: most letters map to one letter, a few to several.

namespace ashlar::text::jinja {
namespace {

char32_t to_upper(char32_t code) {
  return static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(code)));
}
char32_t to_lower(char32_t code) {
  return static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code)));
}
char32_t to_title(char32_t code) {
  return static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(code)));
}

// Every character through `fn(code, position in bytes, out)`, which appends what it becomes.
template <class Fn>
std::string each(std::string_view text, Fn fn) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const Utf8Step step = read_utf8(text, i);
    fn(step.code, i, &out);
    i += step.length;
  }
  return out;
}

// Letters whose upper case is several: letters with marks that have no upper case as a whole, Greek
// letters with an iota below, and ligatures.
bool splits(char32_t code) {
  if (code >= 0x1FB0 && code <= 0x1FFF) {
    const char32_t column = code & 0xF;
    return (column >= 2 && column <= 7 && column != 5) || column == 0xC;
  }
  return code == 0x149 || code == 0x1F0 || code == 0x390 || code == 0x3B0 || code == 0x587 ||
         (code >= 0x1E96 && code <= 0x1E9A) ||
         (code >= 0x1F50 && code <= 0x1F56 && code % 2 == 0) ||
         (code >= 0x1F80 && code <= 0x1FAF) || (code >= 0xFB00 && code <= 0xFB17);
}

// The parts of such a letter.
std::string parts_of(char32_t code) {
  utf8proc_int32_t parts[8];
  int boundary = 0;
  const bool ligature = code < 0x1E96 || code == 0x1E9A || code >= 0xFB00;
  const auto n = utf8proc_decompose_char(
      static_cast<utf8proc_int32_t>(code), parts, 8,
      static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | (ligature ? UTF8PROC_COMPAT : 0)),
      &boundary);
  std::string out;
  for (utf8proc_ssize_t i = 0; i < n && i < 8; ++i) {
    append_utf8(static_cast<char32_t>(parts[i]), &out);
  }
  return out;
}

void append_upper(char32_t code, std::string* out) {
  if (code == 0xDF) {
    *out += "SS";
  } else if (splits(code)) {
    const std::string parts = each(parts_of(code), [](char32_t part, size_t, std::string* upper) {
      append_utf8(to_upper(part), upper);
    });
    // The marks rejoin their letter, but for a diaeresis with another mark above it.
    const bool two_marks = parts.find("\u0308") != std::string::npos;
    *out += two_marks ? parts : to_nfc(parts);
  } else {
    append_utf8(to_upper(code), out);
  }
}

// The first letter of a word.
void append_title(char32_t code, std::string* out) {
  if (code == 0xDF) {
    *out += "Ss";
  } else if (code == 0x587 || (code >= 0xFB00 && code <= 0xFB17)) {
    const std::string parts = parts_of(code);
    append_upper(read_utf8(parts, 0).code, out);
    *out += lower(std::string_view(parts).substr(read_utf8(parts, 0).length));
  } else if (splits(code) && code < 0x1F00) {
    append_upper(code, out);
  } else {
    append_utf8(to_title(code), out);
  }
}

// A sigma at the end of a word has a form of its own.
bool ends_word(std::string_view text, size_t at) {
  const size_t after = at + read_utf8(text, at).length;
  return at > 0 && is_cased(read_utf8(text, previous_utf8(text, at)).code) &&
         (after == text.size() || !is_cased(read_utf8(text, after).code));
}

void append_lower(char32_t code, std::string_view text, size_t at, std::string* out) {
  if (code == 0x130) {
    *out += "i\u0307";
  } else if (code == 0x3A3 && ends_word(text, at)) {
    append_utf8(0x3C2, out);
  } else {
    append_utf8(to_lower(code), out);
  }
}

}  // namespace

bool is_cased(char32_t code) {
  return is_upper(code) || is_lower(code) ||
         utf8proc_category(static_cast<utf8proc_int32_t>(code)) == UTF8PROC_CATEGORY_LT;
}

std::string upper(std::string_view text) {
  return each(text, [](char32_t code, size_t, std::string* out) { append_upper(code, out); });
}

std::string lower(std::string_view text) {
  return each(
      text, [&](char32_t code, size_t at, std::string* out) { append_lower(code, text, at, out); });
}

std::string capitalize(std::string_view text) {
  return each(text, [&](char32_t code, size_t at, std::string* out) {
    at == 0 ? append_title(code, out) : append_lower(code, text, at, out);
  });
}

std::string title(std::string_view text) {
  return each(text, [&](char32_t code, size_t at, std::string* out) {
    const bool inside = at > 0 && is_cased(read_utf8(text, previous_utf8(text, at)).code);
    inside ? append_lower(code, text, at, out) : append_title(code, out);
  });
}

std::string swapcase(std::string_view text) {
  return each(text, [&](char32_t code, size_t at, std::string* out) {
    if (is_lower(code)) {
      append_upper(code, out);
    } else if (is_upper(code)) {
      append_lower(code, text, at, out);
    } else {
      append_utf8(code, out);
    }
  });
}

std::string casefold(std::string_view text) {
  return each(text, [](char32_t code, size_t, std::string* out) {
    utf8proc_int32_t parts[8];
    int boundary = 0;
    const auto n = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(code), parts, 8,
                                           UTF8PROC_CASEFOLD, &boundary);
    for (utf8proc_ssize_t i = 0; i < n && i < 8; ++i) {
      append_utf8(static_cast<char32_t>(parts[i]), out);
    }
  });
}

}  // namespace ashlar::text::jinja
