#pragma once

// Session: a model opened for a subcommand. Flags in, running engine out; every refusal names the
// flag, the value, the limit and the remedy.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/options.h"
#include "engine/engine.h"
#include "text/chat.h"
#include "text/chat_tokens.h"
#include "text/tokenizer.h"

namespace ashlar {

struct Session {
  std::unique_ptr<Engine> engine;
  std::optional<text::Tokenizer> tokenizer;  // absent: token input only
  std::optional<text::Chat> chat;            // absent: prompts are taken as they stand
  std::vector<int32_t> stop_tokens;          // config.json's and generation_config.json's
  int64_t weight_bytes = 0;
  double load_seconds = 0;

  // Text as token ids; special tokens in the text are recognised.
  Result<std::vector<int32_t>> encode(const std::string& prompt) const;
  // Messages through the checkpoint's chat template, with the assistant's turn opened.
  Result<text::ChatTokens> encode_chat(const Json& messages) const;
};

// `isa` comes from ASHLAR_FORCE_ISA or is the machine's best.
Result<Session> open_session(const ModelFlags& flags, Isa isa);

// Whether a group of the engine's cache is its draft's.
bool is_draft(const Engine& engine, const CacheGroup& group);

// The session's cache as JSON: groups with layers, page sizes and peak use.
Json describe_cache(const Engine& engine);

}  // namespace ashlar
