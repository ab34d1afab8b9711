#pragma once

// Published models as a plan sees them: every config under tests/configs, and pairs with drafts.

#include <string>
#include <vector>

#include "kv/plan.h"
#include "kv/plan_uniform.h"
#include "spec/testing.h"

namespace ashlar {

// A target, its draft if any, and their groups.
struct PublishedMix {
  std::vector<ModelSpec> specs;
  CacheFormat format;
  std::vector<CacheGroup> groups;

  explicit PublishedMix(const std::string& name, const std::string& draft = "",
                        CacheFormat cache = {})
      : format(cache) {
    specs.push_back(planned(config_file(name)));
    if (!draft.empty()) specs.push_back(planned(config_file(draft)));
    for (const ModelSpec& spec : specs) {
      auto own = cache_groups(spec, format);
      CHECK(own.has_value(), "{}", own.error().text);
      groups.insert(groups.end(), own->begin(), own->end());
    }
  }
  std::vector<PlannedModel> models() const {
    std::vector<PlannedModel> out;
    for (const ModelSpec& spec : specs) out.push_back({&spec, format});
    return out;
  }
  StepShape shape() const {
    if (specs.size() == 1) return {.step_tokens = 512};
    const int32_t block = specs[1].draft->block_tokens;
    return {.step_tokens = 512, .slack_tokens = block - 1, .state_slots = block};
  }
};

inline std::vector<PublishedMix> published_mixes() {
  std::vector<PublishedMix> mixes;
  for (const std::string& name : published_names()) mixes.emplace_back(name);
  mixes.emplace_back("mimo-v2.5-pro.json", "mimo-v2.5-pro-fp4-dflash.json");
  mixes.emplace_back("mimo-v2.5.json", "mimo-v2.5-dflash.json");
  mixes.emplace_back("qwen3.5-4b.json", "qwen3.5-4b-dflash.json");
  mixes.emplace_back("deepseek-v3-r1.json", "qwen3-8b-dflash-b16.json");
  mixes.emplace_back("qwen3.5-397b-a17b-fp8.json", "", CacheFormat{.ranks = 2});
  return mixes;
}

}  // namespace ashlar
