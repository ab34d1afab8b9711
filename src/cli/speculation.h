#pragma once

// --speculative-config: what proposes tokens, as the user typed it, and what came of it.

#include <optional>
#include <string>

#include "base/json.h"
#include "engine/engine.h"

namespace ashlar {

struct SpeculationFlags {
  std::string model;               // the draft's folder; empty: the text is looked up
  std::optional<int32_t> n_tokens;  // num_speculative_tokens
  int32_t lookup_max = 4;
  int32_t lookup_min = 2;
};

// {"method": "dflash", "model": DIR, "num_speculative_tokens": N} or {"method": "ngram",
// "num_speculative_tokens": N, "prompt_lookup_max": .., "prompt_lookup_min": ..}. invalid names the
// flag, the key and its value; unknown keys are refused.
Result<SpeculationFlags> parse_speculation(const std::string& text);

// How many tokens a step proposes with this draft (null: none, the text is looked up): as asked
// for, or as many as its blocks give. invalid when it is too many.
Result<int32_t> proposed_tokens(const SpeculationFlags& flags, const ModelSpec* draft);

// {method, steps, drafted, accepted, mean_accepted_length, acceptance_per_position}; null when
// nothing proposes. mean_accepted_length counts the model's own token of every step.
Json describe_speculation(const Engine& engine);
// The same as one line of text with its end; empty when nothing proposes.
std::string speculation_text(const Engine& engine);

}  // namespace ashlar
