// ashlar score: the model's probability of given text, token by token (teacher forcing).

#include <cmath>
#include <cstdio>
#include <memory>

#include "cli/commands.h"
#include "cli/lines.h"
#include "cli/scoring.h"

namespace ashlar {
namespace {

struct ScoreFlags {
  ModelFlags model;
  std::string input;
  bool logits = false;
};

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

void print_line(const Event& event, size_t number) {
  double sum = 0;
  for (const float value : event.prompt_nll) sum += value;
  const double mean = sum / static_cast<double>(std::max<size_t>(1, event.prompt_nll.size()));
  std::printf("line %zu: %zu tokens scored, mean nll %.4f, perplexity %.3f\n", number,
              event.prompt_nll.size(), mean, std::exp(mean));
}

Status score(const ScoreFlags& flags, Isa isa) {
  TRY(const std::vector<Json> lines, read_json_lines(flags.input));
  Queue<Event> events;
  TRY(Session session, open_session(flags.model, isa));
  std::vector<std::vector<int32_t>> prompts;
  for (const Json& line : lines) {
    const std::string where = fmt::format("--input line {}", prompts.size() + 1);
    TRY(std::vector<int32_t> tokens, line_tokens(session, line, where));
    prompts.push_back(std::move(tokens));
  }
  session.engine->start();
  const bool json = flags.model.json || flags.logits;
  double sum = 0;
  int64_t n_scored = 0;
  const auto print = [&](size_t i, const Event& event) -> Status {
    if (event.error)
      return Error{event.error->code, fmt::format("--input line {}: {}", i + 1, event.error->text)};
    for (const float value : event.prompt_nll) sum += value, ++n_scored;
    if (json) {
      std::printf("%s\n", as_json(event, flags.logits).dump().c_str());
    } else {
      print_line(event, i + 1);
    }
    return {};
  };
  TRY_STATUS(score_prompts(*session.engine, std::move(prompts), flags.logits, &events, print));
  if (!json) {
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
