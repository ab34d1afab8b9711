// ashlar eval: exact match of greedy answers and perplexity of text, for one configuration or for
// several side by side.

#include <cstdio>
#include <fstream>
#include <memory>

#include "cli/account.h"
#include "cli/commands.h"
#include "cli/configurations.h"
#include "cli/eval_problems.h"
#include "cli/eval_report.h"
#include "cli/lines.h"
#include "cli/speculation.h"

namespace ashlar {
namespace {

struct EvalFlags {
  ModelFlags model;
  ProblemFlags problems;
  TextFlags text;
  std::string output;
  std::vector<std::string> rows;
};

// Everything a run needs beside its configuration.
struct EvalInput {
  const EvalFlags& flags;
  Isa isa;
  std::vector<Json> lines;  // of --data
  std::ofstream output;
};

// What a token takes of the cache while every layer still keeps it.
double bytes_per_token(const Cache& cache) {
  double bytes = 0;
  for (size_t g = 0; g < cache.groups().size(); ++g) {
    const CacheGroup& group = cache.groups()[g];
    if (!group.has_tokens()) continue;
    bytes += static_cast<double>(cache.arena().layout().groups[g].page_bytes) / group.page_tokens;
  }
  return bytes;
}

// `row` < 0: the only one.
Status write_answers(const std::vector<Problem>& problems, int64_t row, EvalInput* input) {
  if (input->flags.output.empty()) return {};
  for (const Problem& p : problems) {
    Json::Object line = {{"text", p.text}, {"answer", p.answer}, {"correct", p.correct}};
    if (row >= 0) line.emplace_back("row", row);
    input->output << Json(std::move(line)).dump() << "\n";
  }
  input->output.flush();
  if (!input->output) return error(Code::io, "--output {}: cannot write", input->flags.output);
  return {};
}

Result<ExactMatch> match(Session& session, int64_t row, EvalInput* input, Queue<Event>* sink) {
  const ProblemFlags& flags = input->flags.problems;
  TRY(std::vector<Problem> problems, read_problems(session, input->lines, flags.raw));
  const Stopwatch watch;
  TRY_STATUS(answer_problems(session, flags.max_tokens, sink, &problems));
  ExactMatch exact{.n = std::ssize(problems), .seconds = watch.seconds()};
  TRY_STATUS(write_answers(problems, row, input));
  for (Problem& problem : problems) {
    exact.n_correct += problem.correct;
    exact.n_tokens += std::ssize(problem.tokens);
    exact.n_prompt_tokens += std::ssize(problem.prompt.tokens);
    exact.answers.push_back(std::move(problem.tokens));
  }
  return exact;
}

// Opens the model, whose files stay mapped in the system's memory from row to row, and runs it.
Result<EvalRow> run_row(const Configuration& configuration, int64_t number, EvalInput* input) {
  EvalRow row{.configuration = configuration};
  Queue<Event> sink;  // outlives the session's engine
  TRY(Session session, open_session(configuration.flags, input->isa));
  session.engine->start();
  if (!input->lines.empty()) {
    TRY(row.exact, match(session, number, input, &sink));
    row.speculative = describe_speculation(*session.engine);
    row.speculation_text = speculation_text(*session.engine);
  }
  if (!input->flags.text.file.empty()) {
    TRY(row.loss, text_loss(session, input->flags.text, &sink));
  }
  row.bytes_per_token = bytes_per_token(session.engine->cache());
  row.cache = describe_cache(*session.engine);
  return row;
}

// The table that is printed as its rows come; where both are wanted, the losses' follows.
void print_tables(const EvalFlags& flags, const std::vector<EvalRow>& rows, size_t from,
                  const std::vector<Configuration>& configurations) {
  const bool exact = rows.front().exact.has_value(), loss = rows.front().loss.has_value();
  const EvalTable first(exact ? EvalTable::Of::exact : EvalTable::Of::loss, configurations);
  const auto print_losses_of = [&] {
    std::printf("%s\n", describe(*rows.front().loss, flags.text).c_str());
  };
  if (from == 0) {
    if (!exact) print_losses_of();
    std::printf("%s", first.head().c_str());
  }
  for (size_t i = from; i < rows.size(); ++i)
    std::printf("%s", first.row(rows[i], rows.front()).c_str());
  std::fflush(stdout);
  if (!exact || !loss || rows.size() < configurations.size()) return;
  const EvalTable second(EvalTable::Of::loss, configurations);
  std::printf("\n");
  print_losses_of();
  std::printf("%s", second.head().c_str());
  for (const EvalRow& row : rows) {
    if (row.refused.empty()) std::printf("%s", second.row(row, rows.front()).c_str());
  }
}

Status compare(const std::vector<Configuration>& configurations, EvalInput* input) {
  const EvalFlags& flags = input->flags;
  std::vector<EvalRow> rows;
  for (const Configuration& configuration : configurations) {
    auto row = run_row(configuration, std::ssize(rows), input);
    if (!row && rows.empty()) {
      return Error{row.error().code, fmt::format("the first configuration, which the others are "
                                                 "compared with: {}",
                                                 row.error().text)};
    }
    if (!row) row = EvalRow{.configuration = configuration, .refused = row.error().text};
    rows.push_back(*std::move(row));
    if (!flags.model.json) print_tables(flags, rows, rows.size() - 1, configurations);
  }
  if (!flags.model.json) return {};
  Json::Array array;
  for (const EvalRow& row : rows) array.push_back(as_json_row(row, rows.front(), flags.text));
  std::printf("%s\n", Json(std::move(array)).dump().c_str());
  return {};
}

Status evaluate(const EvalFlags& flags, const CLI::App& app, Isa isa) {
  if (flags.problems.data.empty() && flags.text.file.empty()) {
    return invalid("nothing to evaluate: give --data, --perplexity or both");
  }
  if (flags.text.stride >= flags.text.context) {
    return invalid("--stride {}: a token of a window of {} would follow nothing: at most {}",
                   flags.text.stride, flags.text.context, flags.text.context - 1);
  }
  TRY(const auto configurations, list_configurations(app, flags.model, flags.rows));
  EvalInput input{.flags = flags, .isa = isa, .lines = {}, .output = {}};
  if (!flags.problems.data.empty()) {
    TRY(input.lines, read_json_lines(flags.problems.data, flags.problems.limit));
  }
  if (!flags.output.empty()) input.output.open(flags.output);
  if (configurations.size() > 1) return compare(configurations, &input);
  TRY(const EvalRow row, run_row(configurations.front(), -1, &input));
  const std::string text = flags.model.json ? as_json(row, flags.text).dump() + "\n"  //
                                            : as_text(row, flags.text);
  std::printf("%s", text.c_str());
  return {};
}

class EvalCommand final : public Command {
 public:
  explicit EvalCommand(CLI::App* program)
      : Command(program->add_subcommand(
            "eval", "Exact match of answers and perplexity; compares configurations.")) {
    add_model_flags(
        app(), &flags_.model,
        "Print one object: n, exact_match, correct, prompt_tokens, generated_tokens, seconds, "
        "tokens_per_s, perplexity, cache_bytes_per_token, cache, speculative. Of several "
        "configurations: a list of them, each with configuration, label and difference, or error.");
    add_configuration_flags(app(), &flags_.rows);
    add_problem_flags();
    add_text_flags();
  }

  Status run(Isa isa) override { return evaluate(flags_, *app(), isa); }

 private:
  void add_problem_flags() {
    ProblemFlags& problems = flags_.problems;
    app()->add_option("--data", problems.data,
                      "JSON lines, each {\"messages\": [...]} or {\"prompt\": ...}, and "
                      "\"answer\": compared with what follows the last #### of the reply.");
    app()->add_flag("--raw", problems.raw,
                    "Take \"prompt\" as it stands, without the chat template.");
    app()
        ->add_option("--max-tokens", problems.max_tokens, "Tokens to generate per problem at most.")
        ->check(CLI::Range(1, 1 << 24))
        ->capture_default_str();
    app()
        ->add_option("--limit", problems.limit, "Only the first N problems.")
        ->check(CLI::Range(1, 1 << 30));
    app()->add_option("--output", flags_.output,
                      "Write every reply here, as JSON lines {text, answer, correct}; of several "
                      "configurations with their row, counted from 0.");
  }

  void add_text_flags() {
    TextFlags& text = flags_.text;
    app()->add_option("--perplexity", text.file,
                      "The loss of this text: a file of plain text, or, when it ends in .jsonl, "
                      "lines {\"text\": ...} or {\"tokens\": [...]}. Every token but a text's "
                      "first counts once, in the first window that holds it.");
    app()
        ->add_option("--context", text.context, "Tokens of a window of --perplexity at most.")
        ->check(CLI::Range(2, 1 << 24))
        ->capture_default_str();
    app()
        ->add_option("--stride", text.stride,
                     "Tokens from a window's begin to the next one's: each sees at least context - "
                     "stride tokens before those it counts.")
        ->check(CLI::Range(1, 1 << 24))
        ->capture_default_str();
  }

  EvalFlags flags_;
};

}  // namespace

std::unique_ptr<Command> make_eval(CLI::App* program) {
  return std::make_unique<EvalCommand>(program);
}

}  // namespace ashlar
