#pragma once

// ChatTemplate: the Jinja templates of checkpoints, rendered as transformers does: Jinja2's
// immutable sandbox with trim_blocks, lstrip_blocks, loop controls and the generation tag, its
// `tojson`, and the functions raise_exception and strftime_now.
//
// Differences, each an error and never another text: integers are 64 bits; templates stand alone
// (no include, import, extends); a few text-processing filters and string methods nobody uses in
// chats are missing.
//
// Immutable after parsing: any number of threads may render one.

#include <ctime>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "text/template/limits.h"

namespace ashlar::text {

struct RenderOptions {
  RenderLimits limits;
  std::tm now = {};  // local time, for strftime_now
};

struct Rendered {
  std::string text;
  // Byte offsets at which a pass of an outermost loop began or the loop ended, ascending: in a chat
  // template, where a message begins, and so where another conversation may branch off.
  std::vector<size_t> boundaries;
};

class ChatTemplate {
 public:
  // `what` names the source in messages. Errors: a syntax error, with its line (invalid); a
  // construct that is not built (unsupported).
  static Result<ChatTemplate> parse(std::string_view source,
                                    std::string_view what = "chat template");

  // The members of `context`, an object, are the template's variables. Errors: what the template
  // raises, or does wrong with this context (invalid, with the line); over a limit (exhausted).
  Result<Rendered> render(const Json& context, const RenderOptions& options = {}) const;

  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

 private:
  struct Program;
  explicit ChatTemplate(std::unique_ptr<const Program> program);
  std::unique_ptr<const Program> program_;
};

}  // namespace ashlar::text
