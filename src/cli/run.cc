// ashlar run: one answer, streamed, or a chat on a terminal.

#include <unistd.h>

#include <cstdio>
#include <iostream>

#include "base/file.h"
#include "cli/account.h"
#include "cli/commands.h"
#include "cli/session.h"
#include "cli/speculation.h"
#include "text/detokenizer.h"

namespace ashlar {
namespace {

struct RunFlags {
  ModelFlags model;
  std::string prompt;
  std::string messages_file;
  std::vector<int32_t> tokens;
  bool raw = false;
  bool ignore_eos = false;
  int32_t max_tokens = 512;
  Sampling sampling;
  bool has_prompt = false;
};

// One request from submit to its last event, streamed to stdout unless `quiet`.
struct Answer {
  std::vector<int32_t> tokens;
  std::string text;
  Finish finish = Finish::stop;
  Usage usage;
  Timing timing;
};

// What a token adds to the text; its number when there is no tokenizer. Ids beyond the tokenizer's
// (models pad their vocabulary) add nothing.
std::string piece_of(text::Detokenizer* detokenizer, int32_t token) {
  if (detokenizer == nullptr) return fmt::format("{} ", token);
  auto piece = detokenizer->push(token);
  return piece ? *std::move(piece) : "";
}

Result<Answer> answer(Session& session, const RunFlags& flags, text::ChatTokens prompt,
                      bool quiet) {
  Queue<Event> events;
  Request request{.tokens = std::move(prompt.tokens),
                  .marks = std::move(prompt.marks),
                  .sampling = flags.sampling,
                  .max_tokens = flags.max_tokens,
                  .sink = &events};
  if (!flags.ignore_eos) request.stop_tokens = session.stop_tokens;
  const std::vector<int32_t> stops = request.stop_tokens;
  std::optional<text::Detokenizer> detokenizer;
  if (session.tokenizer) detokenizer.emplace(*session.tokenizer, /*skip_special=*/true);
  const auto emit = [&](const std::string& piece) {
    if (!quiet) std::fputs(piece.c_str(), stdout), std::fflush(stdout);
  };
  Answer result;
  Stopwatch watch;
  session.engine->submit(std::move(request));
  while (true) {
    const std::optional<Event> event = events.pop();
    CHECK(event.has_value(), "the engine closed a sink");
    if (event->token) {
      if (result.tokens.empty()) result.timing.first_token_seconds = watch.seconds(event->at);
      result.tokens.push_back(*event->token);
      const bool stop = std::find(stops.begin(), stops.end(), *event->token) != stops.end();
      if (stop) continue;
      const std::string piece = piece_of(detokenizer ? &*detokenizer : nullptr, *event->token);
      emit(piece);
      if (detokenizer) result.text += piece;
    }
    if (!event->finish) continue;
    if (event->error) return *event->error;
    if (detokenizer) {
      const std::string rest = detokenizer->finish();
      emit(rest);
      result.text += rest;
    }
    result.finish = *event->finish;
    result.usage = event->usage;
    result.timing.total_seconds = watch.seconds(event->at);
    result.timing.load_seconds = session.load_seconds;
    return result;
  }
}

Json as_json(const Session& session, const Answer& a) {
  Json::Array tokens;
  for (const int32_t token : a.tokens) tokens.emplace_back(token);
  return Json::Object{
      {"tokens", std::move(tokens)},
      {"text", a.text},
      {"finish_reason", name(a.finish)},
      {"usage", Json::Object{{"prompt_tokens", a.usage.prompt_tokens},
                             {"completion_tokens", a.usage.completion_tokens},
                             {"total_tokens", a.usage.prompt_tokens + a.usage.completion_tokens},
                             {"cached_tokens", a.usage.cached_tokens},
                             {"preemptions", a.usage.preemptions}}},
      {"timing", describe(a.timing, a.usage)},
      {"cache", describe_cache(*session.engine)},
      {"kernels", describe_kernels(*session.engine)},
      {"speculative", describe_speculation(*session.engine)}};
}

Json message(const char* role, const std::string& content) {
  return Json::Object{{"role", role}, {"content", content}};
}

Result<Json> read_messages(const std::string& path) {
  TRY(const std::string text, read_file(path));
  TRY(Json json, parse_json(text, path));
  if (const Json* inner = json.find("messages")) return *inner;
  if (!json.is_array())
    return invalid("{}: expected a list of messages, found {}", path, json.kind());
  return json;
}

Result<text::ChatTokens> prompt_tokens(const Session& session, const RunFlags& flags) {
  const int n_given = flags.has_prompt + !flags.messages_file.empty() + !flags.tokens.empty();
  if (n_given != 1)
    return invalid("give exactly one of -p, --messages and --tokens ({} were given)", n_given);
  if (!flags.tokens.empty()) return text::ChatTokens{flags.tokens, {}};
  if (flags.has_prompt) {
    const size_t bad = find_invalid_utf8(flags.prompt);
    if (bad != std::string::npos) {
      return invalid("-p: the prompt is not UTF-8: byte {} is 0x{:02x}", bad,
                     static_cast<unsigned char>(flags.prompt[bad]));
    }
    if (flags.raw || !session.chat) {
      TRY(std::vector<int32_t> tokens, session.encode(flags.prompt));
      return text::ChatTokens{std::move(tokens), {}};
    }
    return session.encode_chat(Json::Array{message("user", flags.prompt)});
  }
  TRY(const Json messages, read_messages(flags.messages_file));
  return session.encode_chat(messages);
}

// A conversation on a terminal: each line is a user turn, the whole conversation is the next
// prompt.
Status chat(Session& session, const RunFlags& flags) {
  if (!session.chat)
    return invalid("this checkpoint has no chat template: give a prompt with -p or --tokens");
  Json::Array messages;
  std::string line;
  std::printf("An empty line or Ctrl-D ends the conversation.\n");
  while (std::printf("\n> "), std::fflush(stdout), std::getline(std::cin, line) && !line.empty()) {
    messages.push_back(message("user", line));
    TRY(text::ChatTokens prompt, session.encode_chat(Json(messages)));
    TRY(const Answer reply, answer(session, flags, std::move(prompt), /*quiet=*/false));
    std::printf("\n");
    messages.push_back(message("assistant", reply.text));
  }
  return {};
}

Status run(const RunFlags& flags, Isa isa) {
  TRY_STATUS(validate(flags.sampling));
  const bool asks_nothing =
      !flags.has_prompt && flags.messages_file.empty() && flags.tokens.empty();
  if (asks_nothing && ::isatty(STDIN_FILENO) == 0) {
    return invalid("no prompt: give -p, --messages or --tokens (without one, a terminal chats)");
  }
  TRY(Session session, open_session(flags.model, isa));
  if (asks_nothing) {
    session.engine->start();
    return chat(session, flags);
  }
  TRY(text::ChatTokens prompt, prompt_tokens(session, flags));
  session.engine->start();
  TRY(const Answer result, answer(session, flags, std::move(prompt), flags.model.json));
  if (flags.model.json) {
    std::printf("%s\n", as_json(session, result).dump().c_str());
  } else {
    std::printf("\n\n%s", account(session, result.usage, result.timing).c_str());
  }
  return {};
}

class RunCommand final : public Command {
 public:
  explicit RunCommand(CLI::App* program)
      : Command(program->add_subcommand("run",
                                        "Answer one prompt, streaming; or chat, on a terminal.")) {
    add_model_flags(
        app(), &flags_.model,
        "Print one object instead: tokens, text, finish_reason, usage, timing, cache, kernels, "
        "speculative.");
    prompt_ = app()->add_option(
        "-p,--prompt", flags_.prompt,
        "The prompt. Goes through the checkpoint's chat template as a user's message when "
        "there is one.");
    app()->add_option("--messages", flags_.messages_file,
                      "A JSON file: a list of {role, content}, or an object with \"messages\".");
    app()
        ->add_option("--tokens", flags_.tokens, "Token ids, as 1,2,3. Needs no tokenizer.")
        ->delimiter(',');
    app()->add_flag("--raw", flags_.raw,
                    "Take the prompt as it stands; special tokens in it are recognised.");
    app()
        ->add_option("--max-tokens", flags_.max_tokens, "Tokens to generate at most.")
        ->check(CLI::Range(0, 1 << 24))
        ->capture_default_str();
    app()
        ->add_option("--temperature", flags_.sampling.temperature, "0 is greedy.")
        ->capture_default_str();
    app()
        ->add_option("--top-k", flags_.sampling.top_k, "Draw among the k likeliest tokens. 0: all.")
        ->capture_default_str();
    app()
        ->add_option("--top-p", flags_.sampling.top_p,
                     "Draw among the likeliest tokens that hold this probability.")
        ->capture_default_str();
    app()
        ->add_option("--min-p", flags_.sampling.min_p,
                     "Drop tokens less likely than this part of the likeliest one's probability.")
        ->capture_default_str();
    app()
        ->add_option("--seed", flags_.sampling.seed, "Same seed, same tokens.")
        ->capture_default_str();
    app()->add_flag("--ignore-eos", flags_.ignore_eos, "Do not stop at the end-of-text tokens.");
  }

  Status run(Isa isa) override {
    flags_.has_prompt = prompt_->count() > 0;
    return ashlar::run(flags_, isa);
  }

 private:
  RunFlags flags_;
  CLI::Option* prompt_ = nullptr;
};

}  // namespace

std::unique_ptr<Command> make_run(CLI::App* program) {
  return std::make_unique<RunCommand>(program);
}

}  // namespace ashlar
