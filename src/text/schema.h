#pragma once

// Reading the objects of tokenizer.json strictly: every key is known or refused by name, because a
// setting that is silently ignored is a wrong token somewhere.

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"
#include "base/result.h"

namespace ashlar::text {

// `what` names the object in messages ("pre_tokenizer").

// The "type" member of an object.
Result<std::string> type_of(const Json& json, std::string_view what);

Error unknown_type(std::string_view what, std::string_view type, std::string_view known);

// Unsupported, naming key and value, when the object has a key not listed.
Status only_keys(const Json& json, std::string_view what,
                 std::initializer_list<std::string_view> keys);

// Members of a given kind; invalid when missing (unless there is a fallback) or of another kind.
Result<const Json::Array*> array_at(const Json& json, std::string_view what, std::string_view key);
Result<const Json::Object*> object_at(const Json& json, std::string_view what,
                                      std::string_view key);
Result<std::string> string_at(const Json& json, std::string_view what, std::string_view key);
Result<int64_t> int_at(const Json& json, std::string_view what, std::string_view key);
Result<bool> bool_at(const Json& json, std::string_view what, std::string_view key,
                     std::optional<bool> fallback = std::nullopt);

// The member, or a shared null when absent.
const Json& member(const Json& json, std::string_view key);

}  // namespace ashlar::text
