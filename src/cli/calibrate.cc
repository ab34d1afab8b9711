// ashlar calibrate: scales of an 8-bit cache, from the largest K and V that prompts give.

#include <cstdio>
#include <fstream>
#include <memory>

#include "cli/cache_choice.h"
#include "cli/commands.h"
#include "cli/lines.h"
#include "cli/progress.h"
#include "cli/session.h"

namespace ashlar {
namespace {

struct CalibrateFlags {
  ModelFlags model;
  std::string data;
  std::string output;
  std::string format = "fp8_e4m3";
  int64_t limit = -1;
};

Result<std::vector<int32_t>> line_tokens(const Session& session, const Json& line, size_t number) {
  if (const Json* messages = line.find("messages"); messages != nullptr) {
    TRY(text::ChatTokens chat, session.encode_chat(*messages));
    return std::move(chat.tokens);
  }
  for (const char* key : {"text", "prompt"}) {
    const Json* text = line.find(key);
    if (text != nullptr && text->is_string()) return session.encode(text->as_string());
  }
  return invalid("--data line {}: expected \"messages\", \"prompt\" or \"text\"", number + 1);
}

Status run_prompts(Session& session, const std::vector<Json>& lines) {
  Queue<Event> events;
  for (size_t i = 0; i < lines.size(); ++i) {
    TRY(std::vector<int32_t> tokens, line_tokens(session, lines[i], i));
    session.engine->submit(
        {.id = RequestId{i}, .tokens = std::move(tokens), .max_tokens = 0, .sink = &events});
  }
  Progress bar("calibrating");
  int64_t n_done = 0;
  const auto n = static_cast<int64_t>(lines.size());
  while (session.engine->step()) {
    for (const Event& event : events.take_all()) {
      if (event.error) {
        return Error{event.error->code,
                     fmt::format("--data line {}: {}", static_cast<size_t>(event.id) + 1,
                                 event.error->text)};
      }
      if (event.finish) bar.update(++n_done, n);
    }
  }
  return {};
}

// The largest value that was met becomes the format's largest.
std::vector<KvScale> scales_of(const Model& model, DType format) {
  const float largest = f8_format(format).largest_value();
  std::vector<KvScale> scales;
  for (const WriteStats& met : model.write_stats()) {
    const float k = met.largest_k / largest, v = met.largest_v / largest;
    scales.push_back({.k = k > 0 ? k : 1.0f, .v = v > 0 ? v : 1.0f});
  }
  return scales;
}

Status calibrate(const CalibrateFlags& given, Isa isa) {
  CalibrateFlags flags = given;
  TRY(const DType format, parse_cache_dtype(flags.format));
  if (flags.model.kv_cache_dtype.starts_with("fp8")) {
    return invalid(
        "--kv-cache-dtype {}: calibration looks at K and V before they are 8 bits; "
        "say --format {} and leave it out",
        flags.model.kv_cache_dtype, flags.model.kv_cache_dtype);
  }
  flags.model.count_tokens = INT64_MAX;
  TRY(const std::vector<Json> lines, read_json_lines(flags.data, flags.limit));
  TRY(Session session, open_session(flags.model, isa));
  TRY_STATUS(run_prompts(session, lines));
  const Model& model = session.engine->model();
  if (model.counted_tokens() == 0) return invalid("--data {}: no prompts", flags.data);
  const std::vector<KvScale> scales = scales_of(model, format);
  std::ofstream file(flags.output);
  file << scales_as_json(scales).dump() << "\n";
  file.flush();
  if (!file) return error(Code::io, "--out {}: cannot write", flags.output);
  std::printf("%s: scales of %zu layers for %s, from %lld tokens\n", flags.output.c_str(),
              scales.size(), name(format), static_cast<long long>(model.counted_tokens()));
  return {};
}

class CalibrateCommand final : public Command {
 public:
  explicit CalibrateCommand(CLI::App* program)
      : Command(program->add_subcommand(
            "calibrate", "Scales of an fp8 cache, from the K and V of given prompts.")) {
    add_model_flags(app(), &flags_.model, "Has no effect here.");
    app()
        ->add_option(
            "--data", flags_.data,
            "JSON lines, each {\"messages\": [...]}, {\"prompt\": ...} or {\"text\": ...}.")
        ->required();
    app()
        ->add_option("--out", flags_.output,
                     "Write {\"layers\": [{\"k\", \"v\"}, ...]} here, for --kv-scales: the largest "
                     "values of each layer by the format's largest.")
        ->required();
    app()
        ->add_option("--format", flags_.format, "What the scales are for: fp8_e4m3 or fp8_e5m2.")
        ->check(CLI::IsMember({"fp8", "fp8_e4m3", "fp8_e5m2"}))
        ->capture_default_str();
    app()
        ->add_option("--limit", flags_.limit, "Only the first N lines.")
        ->check(CLI::Range(1, 1 << 30));
  }

  Status run(Isa isa) override { return calibrate(flags_, isa); }

 private:
  CalibrateFlags flags_;
};

}  // namespace

std::unique_ptr<Command> make_calibrate(CLI::App* program) {
  return std::make_unique<CalibrateCommand>(program);
}

}  // namespace ashlar
