#pragma once

// --speculative-config: what proposes tokens, as the user typed it, and what came of it.

#include <optional>
#include <string>

#include "base/json.h"
#include "engine/engine.h"

namespace ashlar {

struct SpeculationFlags {
  std::string model;                // the draft's folder; empty: the text is looked up
  std::optional<int32_t> n_tokens;  // num_speculative_tokens
  int32_t lookup_max = 4;
  int32_t lookup_min = 2;
};

// {"method": "dflash", "model": DIR, "num_speculative_tokens": N} or {"method": "ngram",
// "num_speculative_tokens": N, "prompt_lookup_max": .., "prompt_lookup_min": ..}. invalid names the
// flag, the key and its value; unknown keys are refused.
Result<SpeculationFlags> parse_speculation(const std::string& text);

// What will propose tokens, read but not loaded.
struct Speculation {
  SpeculationFlags flags;
  Proposals proposals;
  std::optional<ModelSpec> draft;

  // Rows of a step whose logits one sequence may want.
  int32_t logit_rows() const { return 1 + proposals.n_tokens; }
  CacheOptions cache_options() const {
    if (proposals.n_tokens == 0) return {};
    const int32_t rows = draft ? draft->draft->block_tokens : 1 + proposals.n_tokens;
    return {.lookahead_tokens = rows - 1, .state_slots = 1 + proposals.n_tokens};
  }
};

// invalid and not_found name the flag, the file or the numbers; `text` empty: nothing proposes.
Result<Speculation> read_speculation(const std::string& text, const ModelSpec& target);

// How many tokens a step proposes with this draft (null: none, the text is looked up): as asked
// for, or as many as its blocks give. invalid when it is too many.
Result<int32_t> proposed_tokens(const SpeculationFlags& flags, const ModelSpec* draft);

// {method, steps, drafted, accepted, mean_accepted_length, acceptance_per_position}; null when
// nothing proposes. mean_accepted_length counts the model's own token of every step.
Json describe_speculation(const Engine& engine);
// The same as one line of text with its end; empty when nothing proposes.
std::string speculation_text(const Engine& engine);

}  // namespace ashlar
