#pragma once

// The model's loss on given tokens: what `score` and `eval --perplexity` share.

#include <functional>
#include <string>
#include <vector>

#include "cli/session.h"

namespace ashlar {

// The token ids of a line {"tokens": [...]} or {"text": ...}; `where` names it in errors.
Result<std::vector<int32_t>> line_tokens(const Session& session, const Json& line,
                                         const std::string& where);

// Computes all prompts, many at a time, and tells `done` of each in their order, on this thread;
// the event has prompt_nll, last_logits when asked for, or an error. The first Status that is not
// ok ends it; `sink` must outlive the engine, because the rest may still arrive there. REQUIRES a
// started engine and an empty sink.
Status score_prompts(Engine& engine, std::vector<std::vector<int32_t>> prompts, bool want_logits,
                     Queue<Event>* sink,
                     const std::function<Status(size_t i, const Event& event)>& done);

struct TextFlags {
  std::string file;  // JSON lines when it ends in .jsonl, else one text
  int32_t context = 512;
  int32_t stride = 256;
};

// Tokens [begin, end) of a text, of which [first_scored, end) count; the others are context.
struct TextWindow {
  size_t begin = 0;
  size_t end = 0;
  size_t first_scored = 0;
};

// Windows of at most `context` tokens, each `stride` after the last, that count every token but
// the text's first exactly once. REQUIRES 1 <= stride < context.
std::vector<TextWindow> text_windows(size_t n_tokens, int32_t context, int32_t stride);

struct TextLoss {
  int64_t n_texts = 0;
  int64_t n_windows = 0;
  int64_t n_tokens = 0;  // that count
  double sum = 0;        // of -log p, natural
  double mean() const { return sum / static_cast<double>(n_tokens); }
  double perplexity() const;
};

// The mean over all counted tokens of all texts. invalid names the file and what is wrong with it.
// `sink` as above.
Result<TextLoss> text_loss(Session& session, const TextFlags& flags, Queue<Event>* sink);

}  // namespace ashlar
