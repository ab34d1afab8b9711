#pragma once

// What `ashlar plan` found out, and its three faces: a table for people, JSON for programs, a
// drawing.

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "kv/plan.h"
#include "kv/plan_uniform.h"

namespace ashlar {

struct PlanFlags {
  std::string model;  // a config.json, or a folder with one
  std::string draft;
  std::string memory = "60GiB";
  std::string kv_cache_dtype = "auto";
  std::string layout = "arena";
  int32_t max_model_len = 0;  // 0: the model's
  int32_t ranks = 1;
  int32_t block_size = 16;
  int32_t pack = 1;
  int32_t step_tokens = 512;
};

struct PlanReport {
  std::string title;  // what was planned, in one line
  std::string layout;
  int64_t memory_bytes = 0;
  int32_t max_model_len = 0;
  int32_t ranks = 1;
  int32_t page_tokens = 16;
  StepShape shape;

  std::vector<CacheGroup> groups;  // the model's, then the draft's
  size_t n_target_groups = 0;
  ArenaLayout arena;
  std::vector<PlanPoint> points;  // by curve_lengths(max_model_len)
  int32_t longest = 0;            // sequence that fits, up to max_model_len

  std::optional<UniformPlan> uniform;
  std::string uniform_refusal;  // why there is none

  bool is_draft(size_t group) const { return group >= n_target_groups; }
  // "full", "draft window".
  std::string group_name(size_t group) const;
  // "all", "last 128", "one state per layer".
  std::string keeps(size_t group) const;
  // "8 x (192 + 128)"; what a token or a state is made of.
  std::string shape_of(size_t group) const;
  bool has_states() const;
  // Why the arena's numbers are what they are, as sentences.
  std::vector<std::string> reasons() const;
};

// Errors: a file or flag, by name; a model with nothing to cache; --layout uniform where that
// layout refuses.
Result<PlanReport> make_plan(const PlanFlags& flags);

std::string plan_table(const PlanReport& report);  // at most 100 columns
Json plan_json(const PlanReport& report);
std::string plan_svg(const PlanReport& report);

// 8192 -> "8k", 1048576 -> "1M", 1000 -> "1000".
std::string short_count(int64_t n);
// 1234567 -> "1,234,567".
std::string grouped(int64_t n);

}  // namespace ashlar
