// A template of any content: it renders or is refused, within its limits.

#include <string>

#include "text/template/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ashlar;
  const std::string_view source(reinterpret_cast<const char*>(data), size);
  const auto parsed = text::ChatTemplate::parse(source);
  if (!parsed) return 0;
  const Json::Object message = {{"role", "user"}, {"content", "h\xC3\xA9llo <b>\n"}};
  const Json context(Json::Object{
      {"messages", Json::Array{Json(message), Json(message)}},
      {"tools", nullptr},
      {"n", 7},
      {"f", 2.5},
      {"s", "a b,c"},
      {"d", Json::Object{{"k", "v"}, {"l", Json::Array{1, "x", nullptr}}}},
      {"add_generation_prompt", true},
  });
  const text::RenderOptions options{
      .limits = {.steps = 20'000, .output_bytes = 1 << 16, .memory_bytes = 1 << 20, .depth = 100}};
  const auto text = parsed->render(context, options);
  if (text) CHECK(find_invalid_utf8(text->text) == std::string::npos, "the text is UTF-8");
  return 0;
}
