#pragma once

// Strings as Python sees them: sequences of code points, with Unicode's notion of space, case and
// digit. Text is valid UTF-8; positions and counts are in characters unless called bytes.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ashlar::text::jinja {

bool is_space(char32_t code);      // str.isspace: also U+001C to U+001F
bool is_printable(char32_t code);  // repr() prints it as it stands
bool is_upper(char32_t code);
bool is_lower(char32_t code);  // cased letters; neither for titlecase and uncased ones
bool is_cased(char32_t code);  // has a case of some kind
bool is_alpha(char32_t code);
bool is_decimal(char32_t code);  // 0 to 9 of any script
bool is_digit(char32_t code);    // also superscripts and circled digits
bool is_numeric(char32_t code);

int64_t count_characters(std::string_view text);
bool is_ascii(std::string_view text);
std::vector<std::string_view> characters(std::string_view text);
size_t byte_offset(std::string_view text, int64_t position);  // clamped to the end

// The sides of str.strip: white space, or any of `chars`.
std::string_view strip(std::string_view text, std::optional<std::string_view> chars, bool left,
                       bool right);

std::string upper(std::string_view text);
std::string lower(std::string_view text);
std::string capitalize(std::string_view text);
std::string title(std::string_view text);
std::string swapcase(std::string_view text);
std::string casefold(std::string_view text);

// str.split and rsplit: by white space without a separator; `limit` < 0 means no limit.
// REQUIRES a separator that is not empty.
std::vector<std::string_view> split(std::string_view text,
                                    std::optional<std::string_view> separator, int64_t limit,
                                    bool from_right);
std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends);

int64_t count_of(std::string_view text, std::string_view part);  // non-overlapping

}  // namespace ashlar::text::jinja
