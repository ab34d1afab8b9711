// ashlar score: the model's probability of given text, token by token (teacher forcing).

#include <cstdio>
#include <memory>

#include "cli/commands.h"
#include "cli/lines.h"
#include "cli/progress.h"
#include "cli/session.h"

namespace ashlar {
namespace {

struct ScoreFlags {
  ModelFlags model;
  std::string input;
  bool logits = false;
};

Result<std::vector<int32_t>> line_tokens(const Session& session, const Json& line, size_t number) {
  if (const Json* text = line.find("text"); text != nullptr && text->is_string()) {
    return session.encode(text->as_string());
  }
  const Json* tokens = line.find("tokens");
  if (tokens == nullptr || !tokens->is_array()) {
    return invalid("--input line {}: expected \"tokens\" (a list of ids) or \"text\"", number + 1);
  }
  std::vector<int32_t> ids;
  for (const Json& token : tokens->as_array()) {
    if (!token.is_int() || token.as_int() < 0 || token.as_int() > (1 << 30)) {
      return invalid("--input line {}: token {} is {}: expected an id", number + 1, ids.size(),
                     excerpt(token.dump()));
    }
    ids.push_back(static_cast<int32_t>(token.as_int()));
  }
  return ids;
}

Json as_json(const Event& event, bool logits) {
  Json::Array nll;
  for (const float value : event.prompt_nll) nll.emplace_back(static_cast<double>(value));
  Json::Object object = {{"nll", std::move(nll)}};
  if (logits) {
    Json::Array last;
    for (const float value : event.last_logits) last.emplace_back(static_cast<double>(value));
    object.emplace_back("last_logits", std::move(last));
  }
  return object;
}

Status score(const ScoreFlags& flags, Isa isa) {
  TRY(const std::vector<Json> lines, read_json_lines(flags.input));
  TRY(Session session, open_session(flags.model, isa));
  session.engine->start();
  Progress bar("scoring");
  double sum = 0;
  int64_t n_scored = 0;
  Queue<Event> events;
  for (size_t i = 0; i < lines.size(); ++i) {
    TRY(std::vector<int32_t> tokens, line_tokens(session, lines[i], i));
    session.engine->submit({.tokens = std::move(tokens),
                            .max_tokens = 0,
                            .want_prompt_nll = true,
                            .want_last_logits = flags.logits,
                            .sink = &events});
    const std::optional<Event> event = events.pop();
    if (event->error)
      return Error{event->error->code,
                   fmt::format("--input line {}: {}", i + 1, event->error->text)};
    for (const float value : event->prompt_nll) sum += value, ++n_scored;
    if (flags.model.json || flags.logits) {
      std::printf("%s\n", as_json(*event, flags.logits).dump().c_str());
    } else {
      double line_sum = 0;
      for (const float value : event->prompt_nll) line_sum += value;
      const double n = static_cast<double>(std::max<size_t>(1, event->prompt_nll.size()));
      std::printf("line %zu: %zu tokens scored, mean nll %.4f, perplexity %.3f\n", i + 1,
                  event->prompt_nll.size(), line_sum / n, std::exp(line_sum / n));
    }
    bar.update(static_cast<int64_t>(i + 1), static_cast<int64_t>(lines.size()));
  }
  if (!flags.model.json && !flags.logits) {
    const double mean = sum / static_cast<double>(std::max<int64_t>(1, n_scored));
    std::printf("all: %lld tokens scored, mean nll %.4f, perplexity %.3f\n",
                static_cast<long long>(n_scored), mean, std::exp(mean));
  }
  return {};
}

class ScoreCommand final : public Command {
 public:
  explicit ScoreCommand(CLI::App* program)
      : Command(
            program->add_subcommand("score", "Negative log-likelihood of given tokens or text.")) {
    add_model_flags(
        app(), &flags_.model,
        "Print per line {\"nll\": [n - 1 floats]}: natural log, token i + 1 given tokens up to i.");
    app()
        ->add_option("--input", flags_.input,
                     "JSON lines, each {\"tokens\": [...]} or {\"text\": ...}.")
        ->required();
    app()->add_flag("--logits", flags_.logits,
                    "Add \"last_logits\": the logits after the last token. Implies --json.");
  }

  Status run(Isa isa) override { return score(flags_, isa); }

 private:
  ScoreFlags flags_;
};

}  // namespace

std::unique_ptr<Command> make_score(CLI::App* program) {
  return std::make_unique<ScoreCommand>(program);
}

}  // namespace ashlar
