#pragma once

// What the whole-model tests share: open a checkpoint, run requests to their end, compare.

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "base/file.h"
#include "cli/session.h"

namespace ashlar {

inline std::string source_path(const std::string& relative) {
  return std::string(ASHLAR_SOURCE_DIR) + "/" + relative;
}

inline Json read_test_json(const std::string& relative) {
  const auto text = read_file(source_path(relative));
  CHECK(text, "{}", text ? "" : text.error().text);
  auto json = parse_json(*text, relative);
  CHECK(json, "{}", json ? "" : json.error().text);
  return *std::move(json);
}

inline std::vector<int32_t> ids_of(const Json& list) {
  std::vector<int32_t> ids;
  for (const Json& id : list.as_array()) ids.push_back(static_cast<int32_t>(id.as_int()));
  return ids;
}

inline Session open_checkpoint(ModelFlags flags, Isa isa = best_isa()) {
  if (!flags.model.starts_with("/")) flags.model = source_path(flags.model);
  if (flags.memory.empty()) flags.memory = "64MiB";
  if (flags.threads == 0) flags.threads = 2;
  auto session = open_session(flags, isa);
  CHECK(session, "{}", session ? "" : session.error().text);
  return *std::move(session);
}

// What a request gave, exact.
struct Outcome {
  std::vector<int32_t> tokens;
  std::vector<float> nll;
  std::vector<float> last_logits;
  std::optional<Finish> finish;
  Usage usage;
  std::string error;
  // Everything but how often it was preempted.
  bool same(const Outcome& other) const {
    return tokens == other.tokens && nll == other.nll && last_logits == other.last_logits &&
           finish == other.finish && error == other.error;
  }
};

// Submits all requests at once and drives the engine until it is idle, auditing after every step.
inline std::vector<Outcome> run_all(Engine& engine, std::vector<Request> requests) {
  Queue<Event> events;
  std::vector<Outcome> outcomes(requests.size());
  for (size_t i = 0; i < requests.size(); ++i) {
    requests[i].id = RequestId{i};
    requests[i].sink = &events;
    engine.submit(std::move(requests[i]));
  }
  while (engine.step()) engine.audit();
  for (Event& event : events.take_all()) {
    Outcome& outcome = outcomes[static_cast<size_t>(event.id)];
    if (event.token) outcome.tokens.push_back(*event.token);
    if (!event.finish) continue;
    outcome.nll = std::move(event.prompt_nll);
    outcome.last_logits = std::move(event.last_logits);
    outcome.finish = event.finish;
    outcome.usage = event.usage;
    if (event.error) outcome.error = event.error->text;
  }
  return outcomes;
}

}  // namespace ashlar
