#pragma once

// Chat: a checkpoint's own way to write a conversation as text, as transformers'
// apply_chat_template does it: the template of the folder, given the messages, the tools and the
// special tokens.
//
// Immutable after loading: any number of threads may render.

#include <string>
#include <string_view>

#include "base/json.h"
#include "base/result.h"
#include "text/template/chat_template.h"

namespace ashlar::text {

struct ChatRequest {
  Json messages;  // an array of {"role", "content", ...}, as the template wants them
  bool add_generation_prompt = true;
  // Further variables: "tools", "documents" (none when absent), and the template's own, such as
  // "enable_thinking". They override the special tokens, not `messages` and the flag above.
  Json::Object variables;
};

class Chat {
 public:
  // Reads a checkpoint folder. The template is chat_template.jinja, else the "chat_template" of
  // tokenizer_config.json: a string, or a list of {name, template} of which "default" is taken.
  // Errors: no template anywhere (not_found: the model may still be given raw text); a broken one,
  // or a tokenizer_config.json that cannot be read (invalid); a construct that is not built.
  static Result<Chat> load(const std::string& folder);

  // From a template's text; `config` is the content of tokenizer_config.json, or null.
  static Result<Chat> from_source(std::string_view source, std::string_view what,
                                  const Json& config);

  // The text of the conversation, special tokens written out: it must be encoded without adding
  // them again. Errors: ChatTemplate::render's, among them what the template raises.
  Result<Rendered> render(const ChatRequest& request, const RenderOptions& options = {}) const;

  // "bos_token" and the like, as the config spells them; empty when it has none.
  std::string_view special_token(std::string_view name) const;

 private:
  Chat(ChatTemplate chat_template, Json::Object special_tokens)
      : template_(std::move(chat_template)), special_tokens_(std::move(special_tokens)) {}

  ChatTemplate template_;
  Json::Object special_tokens_;  // name -> content
};

}  // namespace ashlar::text
