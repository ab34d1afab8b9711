#include "text/chat.h"

#include <algorithm>
#include <array>

#include "base/file.h"

namespace ashlar::text {
namespace {

constexpr size_t kMaxFileBytes = 64 << 20;

constexpr std::array<std::string_view, 7> kSpecialTokens = {
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"};

// A special token is a string, or an object that also says how to match it. Null means none.
Result<Json::Object> read_special_tokens(const Json& config) {
  Json::Object tokens;
  for (const std::string_view name : kSpecialTokens) {
    const Json* value = config.find(name);
    if (value == nullptr || value->is_null()) continue;
    const Json* content = value->is_object() ? value->find("content") : value;
    if (content == nullptr || !content->is_string()) {
      return invalid("tokenizer_config.json: {} is {}, expected a string or {{\"content\": ...}}",
                     name, excerpt(value->dump()));
    }
    tokens.emplace_back(name, *content);
  }
  return tokens;
}

// The text of "chat_template", or null when the config has none.
Result<const std::string*> template_of(const Json& config, const std::string& path) {
  const Json* value = config.find("chat_template");
  if (value == nullptr || value->is_null()) return static_cast<const std::string*>(nullptr);
  if (value->is_string()) return &value->as_string();
  if (!value->is_array()) {
    return invalid("{}: chat_template is {}, expected a string or a list", path, value->kind());
  }
  std::string names;
  for (const Json& row : value->as_array()) {
    const Json* name = row.find("name");
    const Json* text = row.find("template");
    if (name == nullptr || !name->is_string() || text == nullptr || !text->is_string()) {
      return invalid("{}: chat_template has {}, expected {{\"name\": ..., \"template\": ...}}",
                     path, excerpt(row.dump()));
    }
    if (name->as_string() == "default") return &text->as_string();
    names += (names.empty() ? "" : ", ") + name->as_string();
  }
  return unsupported("{}: no chat_template is named \"default\"; there are: {}", path,
                     excerpt(names, 200));
}

void put(Json::Object* variables, std::string_view name, Json value) {
  const auto it = std::find_if(variables->begin(), variables->end(),
                               [&](const Json::Member& member) { return member.first == name; });
  if (it != variables->end()) {
    it->second = std::move(value);
  } else {
    variables->emplace_back(name, std::move(value));
  }
}

}  // namespace

Result<Chat> Chat::load(const std::string& folder) {
  const std::string config_path = folder + "/tokenizer_config.json";
  Json config;
  if (file_exists(config_path)) {
    TRY(const std::string text, read_file(config_path, kMaxFileBytes));
    TRY(config, parse_json(text, config_path));
  }
  const std::string path = folder + "/chat_template.jinja";
  if (file_exists(path)) {
    TRY(const std::string source, read_file(path, kMaxFileBytes));
    return from_source(source, path, config);
  }
  TRY(const std::string* source, template_of(config, config_path));
  if (source != nullptr) return from_source(*source, config_path + ": chat_template", config);
  return error(Code::not_found,
               "{}: no chat_template.jinja and no chat_template in tokenizer_config.json", folder);
}

Result<Chat> Chat::from_source(std::string_view source, std::string_view what, const Json& config) {
  TRY(ChatTemplate parsed, ChatTemplate::parse(source, what));
  TRY(Json::Object tokens, read_special_tokens(config));
  return Chat(std::move(parsed), std::move(tokens));
}

Result<Rendered> Chat::render(const ChatRequest& request, const RenderOptions& options) const {
  if (!request.messages.is_array()) {
    return invalid("messages is {}, expected an array", request.messages.kind());
  }
  Json::Object variables = special_tokens_;
  put(&variables, "tools", nullptr);
  put(&variables, "documents", nullptr);
  for (const auto& [name, value] : request.variables) put(&variables, name, value);
  put(&variables, "messages", request.messages);
  put(&variables, "add_generation_prompt", request.add_generation_prompt);
  return template_.render(Json(std::move(variables)), options);
}

std::string_view Chat::special_token(std::string_view name) const {
  for (const auto& [known, value] : special_tokens_) {
    if (known == name) return value.as_string();
  }
  return {};
}

}  // namespace ashlar::text
