#include "cli/speculation.h"

#include <algorithm>
#include <numeric>

#include "base/file.h"
#include "spec/config.h"

namespace ashlar {
namespace {

constexpr int32_t kMostTokens = 64;  // of a look-up
constexpr int32_t kUsualTokens = 5;  // where the user names none

Status check_keys(const Json& config, std::initializer_list<std::string_view> known) {
  for (const auto& [key, value] : config.as_object()) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    std::string list;
    for (const std::string_view name : known)
      list += (list.empty() ? "" : ", ") + std::string(name);
    return invalid("--speculative-config: {} is not known: the keys of this method are {}",
                   excerpt(key), list);
  }
  return {};
}

// Some drafts come with a vector of their own for the mask, beside their weights.
Status check_mask(const std::string& folder, const ModelSpec& draft) {
  const std::string file = folder + "/mask_embedding.pt";
  if (!file_exists(file)) return {};
  return unsupported(
      "--speculative-config: {}: a mask vector in a file of its own is not read; copy it into row "
      "{} (mask_token_id) of the target's embedding, embed_tokens.weight, and remove the file",
      file, draft.draft->mask_token);
}

}  // namespace

Result<SpeculationFlags> parse_speculation(const std::string& text) {
  TRY(const Json json, parse_json(text, "--speculative-config"));
  if (!json.is_object()) {
    return invalid("--speculative-config {}: expected an object, as {}", excerpt(text),
                   R"({"method": "ngram", "num_speculative_tokens": 5})");
  }
  const ConfigReader config(json, "--speculative-config");
  TRY_STATUS(config.require_text("method", "", {"dflash", "ngram"}));
  TRY(const std::string method, config.text_or("method", ""));
  SpeculationFlags flags;
  if (config.has("num_speculative_tokens")) {
    TRY(flags.n_tokens, config.integer("num_speculative_tokens", 1, 4095));
  }
  if (method == "dflash") {
    TRY_STATUS(check_keys(json, {"method", "model", "num_speculative_tokens"}));
    TRY(flags.model, config.text_or("model", ""));
    if (flags.model.empty())
      return invalid("--speculative-config: model is missing: the draft's folder");
    return flags;
  }
  TRY_STATUS(check_keys(
      json, {"method", "num_speculative_tokens", "prompt_lookup_max", "prompt_lookup_min"}));
  TRY(flags.lookup_max, config.integer_or("prompt_lookup_max", flags.lookup_max, 1, 1024));
  TRY(flags.lookup_min, config.integer_or("prompt_lookup_min",
                                          std::min(flags.lookup_min, flags.lookup_max), 1, 1024));
  if (flags.lookup_min > flags.lookup_max) {
    return invalid("--speculative-config: prompt_lookup_min {} exceeds prompt_lookup_max {}",
                   flags.lookup_min, flags.lookup_max);
  }
  return flags;
}

Result<int32_t> proposed_tokens(const SpeculationFlags& flags, const ModelSpec* draft) {
  const int32_t most = draft == nullptr ? kMostTokens : draft->draft->block_tokens - 1;
  const int32_t n = flags.n_tokens.value_or(draft == nullptr ? kUsualTokens : most);
  if (n <= most) return n;
  if (draft == nullptr) {
    return invalid("--speculative-config: num_speculative_tokens {}: at most {}", n, most);
  }
  return invalid(
      "--speculative-config: num_speculative_tokens {}: the draft's blocks of {} tokens propose at "
      "most {}",
      n, most + 1, most);
}

Result<Speculation> read_speculation(const std::string& text, const ModelSpec& target) {
  Speculation speculation;
  if (text.empty()) return speculation;
  TRY(speculation.flags, parse_speculation(text));
  if (!speculation.flags.model.empty()) {
    const std::string& model = speculation.flags.model;
    const std::string path = model.ends_with(".json") ? model : model + "/config.json";
    TRY(const std::string file, read_file(path));
    TRY(const Json config, parse_json(file, path));
    TRY(speculation.draft, read_draft_spec(config, target));
    if (path != model) TRY_STATUS(check_mask(model, *speculation.draft));
  }
  const ModelSpec* draft = speculation.draft ? &*speculation.draft : nullptr;
  Proposals& proposals = speculation.proposals;
  TRY(proposals.n_tokens, proposed_tokens(speculation.flags, draft));
  proposals.lookup_max = speculation.flags.lookup_max;
  proposals.lookup_min = speculation.flags.lookup_min;
  return speculation;
}

Json describe_speculation(const Engine& engine) {
  if (engine.proposer().n_tokens() == 0) return {};
  const EngineStats& stats = engine.stats();
  const int64_t accepted =
      std::accumulate(stats.n_accepted.begin(), stats.n_accepted.end(), int64_t{0});
  const auto rounds = static_cast<double>(std::max<int64_t>(1, stats.n_rounds));
  Json::Array by_position;
  for (const int64_t n : stats.n_accepted)
    by_position.emplace_back(static_cast<double>(n) / rounds);
  return Json::Object{{"method", engine.proposer().method()},
                      {"steps", stats.n_rounds},
                      {"drafted", stats.n_drafted},
                      {"accepted", accepted},
                      {"mean_accepted_length", 1 + static_cast<double>(accepted) / rounds},
                      {"acceptance_per_position", std::move(by_position)}};
}

std::string speculation_text(const Engine& engine) {
  const Json json = describe_speculation(engine);
  if (!json.is_object()) return "";
  std::string positions;
  for (const Json& share : json.find("acceptance_per_position")->as_array())
    positions += fmt::format(" {:.0f}", 100 * share.as_double());
  return fmt::format(
      "speculative ({}): {} tokens proposed in {} steps, {} accepted; {:.2f} tokens a step; "
      "accepted by position, %:{}\n",
      engine.proposer().method(), json.find("drafted")->as_int(), json.find("steps")->as_int(),
      json.find("accepted")->as_int(), json.find("mean_accepted_length")->as_double(), positions);
}

}  // namespace ashlar
