#include "cli/scoring.h"

#include <algorithm>
#include <cmath>

#include "base/file.h"
#include "cli/lines.h"
#include "cli/progress.h"

namespace ashlar {
namespace {

Result<std::vector<std::vector<int32_t>>> read_texts(const Session& session,
                                                     const std::string& path) {
  std::vector<std::vector<int32_t>> texts;
  if (path.ends_with(".jsonl")) {
    const auto keep = [&](const Json& line, const std::string& where) -> Status {
      TRY(std::vector<int32_t> tokens, line_tokens(session, line, where));
      texts.push_back(std::move(tokens));
      return {};
    };
    TRY_STATUS(each_json_line(path, keep));
    return texts;
  }
  TRY(const std::string text, read_file(path));
  if (const size_t bad = find_invalid_utf8(text); bad != std::string::npos) {
    return invalid("--perplexity {}: not UTF-8: byte {} is 0x{:02x}", path, bad,
                   static_cast<unsigned char>(text[bad]));
  }
  TRY(std::vector<int32_t> tokens, session.encode(text));
  texts.push_back(std::move(tokens));
  return texts;
}

}  // namespace

Result<std::vector<int32_t>> line_tokens(const Session& session, const Json& line,
                                         const std::string& where) {
  if (const Json* text = line.find("text"); text != nullptr && text->is_string()) {
    return session.encode(text->as_string());
  }
  const Json* tokens = line.find("tokens");
  if (tokens == nullptr || !tokens->is_array()) {
    return invalid("{}: expected \"tokens\" (a list of ids) or \"text\"", where);
  }
  std::vector<int32_t> ids;
  for (const Json& token : tokens->as_array()) {
    if (!token.is_int() || token.as_int() < 0 || token.as_int() > (1 << 30)) {
      return invalid("{}: token {} is {}: expected an id", where, ids.size(),
                     excerpt(token.dump()));
    }
    ids.push_back(static_cast<int32_t>(token.as_int()));
  }
  return ids;
}

Status score_prompts(Engine& engine, std::vector<std::vector<int32_t>> prompts, bool want_logits,
                     Queue<Event>* sink, const std::function<Status(size_t, const Event&)>& done) {
  for (size_t i = 0; i < prompts.size(); ++i) {
    engine.submit({.id = RequestId{i},
                   .tokens = std::move(prompts[i]),
                   .max_tokens = 0,
                   .want_prompt_nll = true,
                   .want_last_logits = want_logits,
                   .sink = sink});
  }
  Progress bar("scoring");
  std::vector<std::optional<Event>> finished(prompts.size());
  for (size_t n_done = 0, next = 0; n_done < prompts.size(); ++n_done) {
    std::optional<Event> event = sink->pop();
    const auto index = static_cast<size_t>(event->id);
    finished[index] = std::move(event);
    for (; next < prompts.size() && finished[next]; ++next) {
      TRY_STATUS(done(next, *finished[next]));
      *finished[next] = {};
    }
    bar.update(static_cast<int64_t>(n_done + 1), static_cast<int64_t>(prompts.size()));
  }
  return {};
}

std::vector<TextWindow> text_windows(size_t n_tokens, int32_t context, int32_t stride) {
  std::vector<TextWindow> windows;
  size_t scored = 1;  // the first token has nothing before it
  for (size_t begin = 0; scored < n_tokens; begin += static_cast<size_t>(stride)) {
    const size_t end = std::min(begin + static_cast<size_t>(context), n_tokens);
    windows.push_back({.begin = begin, .end = end, .first_scored = scored});
    scored = end;
  }
  return windows;
}

double TextLoss::perplexity() const { return std::exp(mean()); }

Result<TextLoss> text_loss(Session& session, const TextFlags& flags, Queue<Event>* sink) {
  TRY(const auto texts, read_texts(session, flags.file));
  TextLoss loss{.n_texts = std::ssize(texts)};
  std::vector<TextWindow> windows;
  std::vector<std::vector<int32_t>> prompts;
  for (const std::vector<int32_t>& text : texts) {
    for (const TextWindow& window : text_windows(text.size(), flags.context, flags.stride)) {
      windows.push_back(window);
      prompts.emplace_back(text.begin() + static_cast<std::ptrdiff_t>(window.begin),
                           text.begin() + static_cast<std::ptrdiff_t>(window.end));
    }
  }
  loss.n_windows = std::ssize(windows);
  if (windows.empty()) {
    return invalid("--perplexity {}: nothing to predict: no text has two tokens", flags.file);
  }
  const auto add = [&](size_t i, const Event& event) -> Status {
    if (event.error) {
      return Error{event.error->code,
                   fmt::format("--perplexity {}: {}", flags.file, event.error->text)};
    }
    // prompt_nll[j] is the loss of the window's token j + 1.
    const size_t first = windows[i].first_scored - windows[i].begin - 1;
    for (size_t j = first; j < event.prompt_nll.size(); ++j) loss.sum += event.prompt_nll[j];
    loss.n_tokens += static_cast<int64_t>(event.prompt_nll.size() - first);
    return {};
  };
  TRY_STATUS(score_prompts(*session.engine, std::move(prompts), /*want_logits=*/false, sink, add));
  return loss;
}

}  // namespace ashlar
