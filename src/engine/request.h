#pragma once

// A request and what comes back, as plain data moved between threads. The engine thread owns a
// Request from submit() to its last Event.

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/queue.h"
#include "base/result.h"
#include "kernels/sample/sample.h"

namespace ashlar {

enum class RequestId : uint64_t {};

enum class Finish : uint8_t { stop, length, cancelled, failed };

const char* name(Finish finish);  // "stop", "length", "cancelled", "error"

struct Usage {
  int32_t prompt_tokens = 0;
  int32_t completion_tokens = 0;
  int32_t cached_tokens = 0;  // of the prompt, found in the cache when it was first admitted
  int32_t preemptions = 0;    // times its pages were taken and its tokens computed again
};

// One thing that happened to a request. The last one has `finish` set.
struct Event {
  RequestId id = {};
  // When it happened, however long it then waits in its queue.
  std::chrono::steady_clock::time_point at = std::chrono::steady_clock::now();
  std::optional<int32_t> token;  // a generated token, the stop token included
  std::optional<Finish> finish;
  Usage usage;                 // with finish
  std::optional<Error> error;  // with Finish::failed
  std::vector<float>
      prompt_nll;  // with finish, when asked for: -log p(token[i+1] | tokens[..i]), n - 1
  std::vector<float> last_logits;  // with finish, when asked for: after the last prompt token
};

struct Request {
  RequestId id = {};
  std::vector<int32_t> tokens;  // the prompt, at least one
  std::vector<int32_t> marks;   // token counts where other prompts are expected to branch off
  std::string salt;             // prompts of two salts never share pages
  Sampling sampling;
  int32_t max_tokens = 16;  // generated at most; 0: the prompt is computed and nothing generated
  std::vector<int32_t> stop_tokens;  // finish after any of these is generated
  bool want_prompt_nll = false;
  bool want_last_logits = false;
  Queue<Event>* sink = nullptr;  // where its events go; must outlive the request
};

}  // namespace ashlar
