#include "text/template/chat_template.h"

#include "text/template/interpreter.h"
#include "text/template/parser.h"

namespace ashlar::text {
namespace {

constexpr size_t kMaxSourceBytes = 4 << 20;

Error named(std::string_view what, const Error& failure) {
  return Error{failure.code, fmt::format("{}: {}", what, failure.text)};
}

}  // namespace

struct ChatTemplate::Program {
  std::string what;
  jinja::Block block;
};

ChatTemplate::ChatTemplate(std::unique_ptr<const Program> program) : program_(std::move(program)) {}
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

Result<ChatTemplate> ChatTemplate::parse(std::string_view source, std::string_view what) {
  if (source.size() > kMaxSourceBytes) {
    return invalid("{}: {} bytes, limit {}", what, source.size(), kMaxSourceBytes);
  }
  const size_t broken = find_invalid_utf8(source);
  if (broken != std::string_view::npos) return invalid("{}: not UTF-8 at byte {}", what, broken);
  Result<jinja::Block> block = jinja::parse_template(source);
  if (!block) return named(what, block.error());
  return ChatTemplate(
      std::make_unique<const Program>(Program{std::string(what), *std::move(block)}));
}

Result<Rendered> ChatTemplate::render(const Json& context, const RenderOptions& options) const {
  if (!context.is_object()) {
    return invalid("{}: the context is {}, expected an object", program_->what, context.kind());
  }
  jinja::Heap heap(options.limits);
  jinja::Interpreter interpreter(heap, options.now);
  Result<std::string> text = interpreter.run(program_->block, context.as_object());
  if (!text) return named(program_->what, text.error());
  return Rendered{*std::move(text), interpreter.boundaries()};
}

}  // namespace ashlar::text
