#include "cli/eval_problems.h"

#include "cli/progress.h"

namespace ashlar {
namespace {

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

}  // namespace

Result<std::vector<Problem>> read_problems(const Session& session, const std::vector<Json>& lines,
                                           bool raw) {
  if (!session.tokenizer) return invalid("--data needs a checkpoint with a tokenizer.json");
  std::vector<Problem> problems;
  for (size_t i = 0; i < lines.size(); ++i) {
    TRY(Problem problem, read_problem(session, lines[i], i, raw));
    problems.push_back(std::move(problem));
  }
  return problems;
}

Status answer_problems(Session& session, int32_t max_tokens, Queue<Event>* sink,
                       std::vector<Problem>* problems) {
  for (size_t i = 0; i < problems->size(); ++i) {
    session.engine->submit({.id = RequestId{i},
                            .tokens = (*problems)[i].prompt.tokens,
                            .marks = (*problems)[i].prompt.marks,
                            .max_tokens = max_tokens,
                            .stop_tokens = session.stop_tokens,
                            .sink = sink});
  }
  Progress bar("evaluating");
  int64_t n_done = 0, n_correct = 0;
  while (n_done < std::ssize(*problems)) {
    const std::optional<Event> event = sink->pop();
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
    bar.update(n_done, std::ssize(*problems),
               fmt::format("{:.1f} % right",
                           100.0 * static_cast<double>(n_correct) / static_cast<double>(n_done)));
  }
  return {};
}

}  // namespace ashlar
