// ashlar eval: exact match of greedy answers, batched.

#include <cstdio>
#include <fstream>
#include <memory>

#include "cli/account.h"
#include "cli/commands.h"
#include "cli/lines.h"
#include "cli/progress.h"
#include "cli/session.h"
#include "cli/speculation.h"

namespace ashlar {
namespace {

struct EvalFlags {
  ModelFlags model;
  std::string data;
  std::string output;
  bool raw = false;
  int32_t max_tokens = 256;
  int64_t limit = -1;
};

struct Problem {
  text::ChatTokens prompt;
  std::string answer;
  std::vector<int32_t> tokens;  // generated
  std::string text;
  bool correct = false;
};

std::string trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos) return "";
  return std::string(text.substr(begin, text.find_last_not_of(" \t\r\n") + 1 - begin));
}

// What follows the last "####", up to the end of its line.
std::string final_answer(std::string_view text) {
  const size_t mark = text.rfind("####");
  if (mark == std::string_view::npos) return "";
  const std::string_view rest = text.substr(mark + 4);
  return trimmed(rest.substr(0, rest.find('\n')));
}

Result<Problem> read_problem(const Session& session, const Json& line, size_t number, bool raw) {
  Problem problem;
  const Json* answer = line.find("answer");
  if (answer == nullptr || !(answer->is_string() || answer->is_number())) {
    return invalid("--data line {}: expected \"answer\", a string or number", number + 1);
  }
  problem.answer = trimmed(answer->is_string() ? answer->as_string() : answer->dump());
  const Json* prompt = line.find("prompt");
  if (const Json* messages = line.find("messages"); messages != nullptr && !raw) {
    TRY(problem.prompt, session.encode_chat(*messages));
  } else if (prompt != nullptr && prompt->is_string() && (raw || !session.chat)) {
    TRY(problem.prompt.tokens, session.encode(prompt->as_string()));
  } else if (prompt != nullptr && prompt->is_string()) {
    const Json message = Json::Object{{"role", "user"}, {"content", prompt->as_string()}};
    TRY(problem.prompt, session.encode_chat(Json::Array{message}));
  } else {
    return invalid("--data line {}: expected \"messages\" or \"prompt\"{}", number + 1,
                   raw ? " (with --raw only \"prompt\")" : "");
  }
  return problem;
}

Status generate(Session& session, const EvalFlags& flags, std::vector<Problem>* problems) {
  Queue<Event> events;
  for (size_t i = 0; i < problems->size(); ++i) {
    session.engine->submit({.id = RequestId{i},
                            .tokens = (*problems)[i].prompt.tokens,
                            .marks = (*problems)[i].prompt.marks,
                            .max_tokens = flags.max_tokens,
                            .stop_tokens = session.stop_tokens,
                            .sink = &events});
  }
  session.engine->start();
  Progress bar("evaluating");
  int64_t n_done = 0, n_correct = 0;
  while (n_done < static_cast<int64_t>(problems->size())) {
    const std::optional<Event> event = events.pop();
    const auto index = static_cast<size_t>(event->id);
    Problem& problem = (*problems)[index];
    if (event->token) problem.tokens.push_back(*event->token);
    if (!event->finish) continue;
    if (event->error)
      return Error{event->error->code,
                   fmt::format("--data line {}: {}", index + 1, event->error->text)};
    TRY(problem.text, session.tokenizer->decode(problem.tokens, /*skip_special=*/true));
    problem.correct = final_answer(problem.text) == problem.answer;
    n_correct += problem.correct;
    ++n_done;
    bar.update(n_done, static_cast<int64_t>(problems->size()),
               fmt::format("{:.1f} % right",
                           100.0 * static_cast<double>(n_correct) / static_cast<double>(n_done)));
  }
  return {};
}

Status write_answers(const std::string& path, const std::vector<Problem>& problems) {
  std::ofstream file(path);
  for (const Problem& p : problems) {
    file
        << Json(Json::Object{{"text", p.text}, {"answer", p.answer}, {"correct", p.correct}}).dump()
        << "\n";
  }
  file.flush();
  if (!file) return error(Code::io, "--output {}: cannot write", path);
  return {};
}

Status evaluate(const EvalFlags& flags, Isa isa) {
  TRY(const std::vector<Json> lines, read_json_lines(flags.data, flags.limit));
  TRY(Session session, open_session(flags.model, isa));
  if (!session.tokenizer) return invalid("eval needs a checkpoint with a tokenizer.json");
  std::vector<Problem> problems;
  for (size_t i = 0; i < lines.size(); ++i) {
    TRY(Problem problem, read_problem(session, lines[i], i, flags.raw));
    problems.push_back(std::move(problem));
  }
  const Stopwatch watch;
  TRY_STATUS(generate(session, flags, &problems));
  const double seconds = watch.seconds();
  int64_t n_correct = 0, n_tokens = 0, n_prompt = 0;
  for (const Problem& problem : problems) {
    n_correct += problem.correct;
    n_tokens += static_cast<int64_t>(problem.tokens.size());
    n_prompt += static_cast<int64_t>(problem.prompt.tokens.size());
  }
  if (!flags.output.empty()) TRY_STATUS(write_answers(flags.output, problems));
  const double n = static_cast<double>(problems.size());
  const double exact = static_cast<double>(n_correct) / n;
  const double rate = static_cast<double>(n_tokens) / seconds;
  if (flags.model.json) {
    const Json result = Json::Object{{"n", static_cast<int64_t>(problems.size())},
                                     {"exact_match", exact},
                                     {"correct", n_correct},
                                     {"prompt_tokens", n_prompt},
                                     {"generated_tokens", n_tokens},
                                     {"seconds", seconds},
                                     {"tokens_per_s", rate},
                                     {"cache", describe_cache(*session.engine)},
                                     {"speculative", describe_speculation(*session.engine)}};
    std::printf("%s\n", result.dump().c_str());
    return {};
  }
  std::printf("exact match %.1f %% (%lld of %zu); %lld tokens generated in %s, %.0f tokens/s\n",
              100 * exact, static_cast<long long>(n_correct), problems.size(),
              static_cast<long long>(n_tokens), human_seconds(seconds).c_str(), rate);
  std::printf("%s", speculation_text(*session.engine).c_str());
  return {};
}

class EvalCommand final : public Command {
 public:
  explicit EvalCommand(CLI::App* program)
      : Command(program->add_subcommand("eval",
                                        "Exact match of greedy answers on a file of problems.")) {
    add_model_flags(
        app(), &flags_.model,
        "Print one object: n, exact_match, correct, prompt_tokens, generated_tokens, seconds, "
        "tokens_per_s, cache, speculative.");
    app()
        ->add_option("--data", flags_.data,
                     "JSON lines, each {\"messages\": [...]} or {\"prompt\": ...}, and \"answer\": "
                     "compared with what "
                     "follows the last #### of the reply.")
        ->required();
    app()->add_flag("--raw", flags_.raw,
                    "Take \"prompt\" as it stands, without the chat template.");
    app()
        ->add_option("--max-tokens", flags_.max_tokens, "Tokens to generate per problem at most.")
        ->check(CLI::Range(1, 1 << 24))
        ->capture_default_str();
    app()
        ->add_option("--limit", flags_.limit, "Only the first N problems.")
        ->check(CLI::Range(1, 1 << 30));
    app()->add_option("--output", flags_.output,
                      "Write every reply here, as JSON lines {text, answer, correct}.");
  }

  Status run(Isa isa) override { return evaluate(flags_, isa); }

 private:
  EvalFlags flags_;
};

}  // namespace

std::unique_ptr<Command> make_eval(CLI::App* program) {
  return std::make_unique<EvalCommand>(program);
}

}  // namespace ashlar
