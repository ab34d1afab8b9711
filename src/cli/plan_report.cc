#include "cli/plan_report.h"

#include <algorithm>

#include "base/file.h"
#include "cli/cache_choice.h"

namespace ashlar {
namespace {

Result<ModelSpec> read_spec(const std::string& model) {
  const std::string path = model.ends_with(".json") ? model : model + "/config.json";
  TRY(const std::string text, read_file(path));
  TRY(const Json config, parse_json(text, path));
  return read_cache_spec(config);
}

Result<CacheFormat> read_format(const PlanFlags& flags, DType model) {
  const bool packed = flags.kv_cache_dtype == "fp8_ds_mla";
  TRY(CacheFormat format, parse_cache_format(packed ? "fp8" : flags.kv_cache_dtype, model));
  format.page_tokens = flags.block_size;
  format.ranks = flags.ranks;
  format.packed_latent = packed;
  return format;
}

Result<int64_t> read_memory(const std::string& flag) {
  uint64_t bytes = 0;
  if (!parse_bytes(flag, &bytes) || bytes == 0) {
    return invalid("--memory \"{}\": expected bytes such as 4096, 512MiB or 60GiB", excerpt(flag));
  }
  return static_cast<int64_t>(bytes);
}

// "configs/name.json" and "models/name/" -> "name".
std::string stem(std::string path) {
  while (path.ends_with('/')) path.pop_back();
  path = path.substr(path.rfind('/') + 1);
  return excerpt(path.ends_with(".json") ? path.substr(0, path.size() - 5) : path);
}

std::string title_of(const std::string& path, const ModelSpec& model,
                     const std::optional<ModelSpec>& draft, const CacheFormat& format,
                     int64_t memory) {
  std::string title = fmt::format("{}: {} layers", stem(path), model.layers.size());
  if (draft) {
    title += fmt::format("; draft of {} layers, blocks of {} tokens", draft->layers.size(),
                         draft->draft->block_tokens);
  }
  title += fmt::format("; {} cache", format.packed_latent ? "fp8_ds_mla" : name(format.dtype));
  if (format.ranks > 1) title += fmt::format("; one of {} ranks", format.ranks);
  return title + fmt::format("; {}", human_bytes(static_cast<uint64_t>(memory)));
}

// Fills groups and the shape of a step.
Status add_groups(const ModelSpec& model, const std::optional<ModelSpec>& draft,
                  const CacheFormat& format, PlanReport* report) {
  TRY(report->groups, cache_groups(model, format));
  report->n_target_groups = report->groups.size();
  if (!draft) return {};
  CacheFormat plain = format;
  plain.packed_latent = false;
  TRY(const std::vector<CacheGroup> more, cache_groups(*draft, plain));
  report->groups.insert(report->groups.end(), more.begin(), more.end());
  report->shape.slack_tokens = draft->draft->block_tokens - 1;
  // A state after each row of a step that checks a block, for any of them may be the last one kept.
  report->shape.state_slots = report->has_states() ? draft->draft->block_tokens : 0;
  return {};
}

}  // namespace

std::string grouped(int64_t n) {
  std::string text = std::to_string(n);
  for (size_t i = text.size(); i > (n < 0 ? 4u : 3u);) text.insert(i -= 3, ",");
  return text;
}

std::string short_count(int64_t n) {
  constexpr int64_t kKilo = 1024, kMega = 1024 * 1024;
  if (n >= kMega && n % kMega == 0) return fmt::format("{}M", n / kMega);
  if (n >= kKilo && n % kKilo == 0) return fmt::format("{}k", n / kKilo);
  return std::to_string(n);
}

std::string PlanReport::group_name(size_t group) const {
  const std::string draft = is_draft(group) ? "draft " : "";
  // A second group of the same latent layers holds the keys of their sparse index.
  const auto same = [&](const CacheGroup& g) { return g.layers == groups[group].layers; };
  const auto first = std::find_if(groups.begin(), groups.end(), same) - groups.begin();
  const bool index = groups[group].kind == LayerKind::latent && !is_draft(group) &&
                     static_cast<size_t>(first) < group;
  return draft + (index ? "latent index" : name(groups[group].kind));
}

std::string PlanReport::keeps(size_t group) const {
  const CacheGroup& g = groups[group];
  switch (g.kind) {
    case LayerKind::full:
    case LayerKind::latent: return "all";
    case LayerKind::window: return fmt::format("last {}", g.window);
    case LayerKind::chunk: return fmt::format("chunk {}", g.chunk);
    case LayerKind::state: return shape.state_slots > 0 ? "states" : "a state";
  }
  return "";
}

std::string PlanReport::shape_of(size_t group) const {
  const CacheGroup& g = groups[group];
  if (g.kind == LayerKind::state) return human_bytes(static_cast<uint64_t>(g.state_bytes));
  if (g.kind == LayerKind::latent) return fmt::format("{} latent", g.k_dim);
  return fmt::format("{} x ({} + {})", g.kv_heads, g.k_dim, g.v_dim);
}

bool PlanReport::has_states() const {
  return std::any_of(groups.begin(), groups.end(),
                     [](const CacheGroup& g) { return g.kind == LayerKind::state; });
}

std::vector<std::string> PlanReport::reasons() const {
  std::vector<std::string> out;
  int64_t worst = 0;
  for (size_t g = 0; g < groups.size(); ++g) worst = std::max(worst, arena.slab_remainder(g));
  out.push_back(
      fmt::format("{} slabs of {}, leased to any group; at worst {:.2f} % of one is lost",
                  grouped(arena.n_slabs), human_bytes(static_cast<uint64_t>(arena.slab_bytes)),
                  100.0 * static_cast<double>(worst) / static_cast<double>(arena.slab_bytes)));
  out.push_back(fmt::format("a prefix is reusable at every {} tokens in every group{}", page_tokens,
                            has_states() ? ", where a snapshot of the states was kept" : ""));
  for (const CacheGroup& g : groups) {
    if (g.window == 0 && g.chunk == 0) continue;
    out.push_back(fmt::format(
        "all sequences but the last are computed; its windows still hold a step of {} tokens",
        shape.step_tokens));
    break;
  }
  if (shape.state_slots > 0) {
    out.push_back(fmt::format("beside each state there are {}, one after each token of a block",
                              shape.state_slots));
  }
  return out;
}

Result<PlanReport> make_plan(const PlanFlags& flags) {
  TRY(const ModelSpec model, read_spec(flags.model));
  std::optional<ModelSpec> draft;
  if (!flags.draft.empty()) {
    TRY(draft, read_spec(flags.draft));
    if (!draft->draft) {
      return invalid("--draft {}: a {} that says nothing of blocks to propose (dflash_config)",
                     excerpt(flags.draft), excerpt(draft->model_type));
    }
  }
  TRY(const CacheFormat format, read_format(flags, model.dtype));
  PlanReport report;
  report.layout = flags.layout;
  TRY(report.memory_bytes, read_memory(flags.memory));
  report.max_model_len = flags.max_model_len > 0 ? flags.max_model_len : model.max_positions;
  report.ranks = flags.ranks;
  report.page_tokens = flags.block_size;
  report.shape.step_tokens = flags.step_tokens;
  report.title = title_of(flags.model, model, draft, format, report.memory_bytes);
  TRY_STATUS(add_groups(model, draft, format, &report));
  if (report.groups.empty()) return invalid("{}: no layer keeps anything", excerpt(flags.model));
  TRY(report.arena, arena_layout(report.groups, report.memory_bytes));
  const std::vector<int32_t> lengths = curve_lengths(report.max_model_len);
  for (const int32_t n : lengths) {
    report.points.push_back(plan_point(report.groups, report.arena, n, report.shape));
  }
  report.longest =
      longest_sequence(report.groups, report.arena, report.shape, report.max_model_len);

  CacheFormat draft_format = format;
  draft_format.packed_latent = false;
  std::vector<PlannedModel> models = {{&model, format}};
  if (draft) models.push_back({&*draft, draft_format});
  auto uniform = uniform_plan(models, lengths,
                              {.memory_bytes = report.memory_bytes,
                               .block_tokens = flags.block_size,
                               .step_tokens = flags.step_tokens,
                               .pack = flags.pack,
                               .speculative = report.shape.slack_tokens});
  if (uniform) {
    report.uniform = *std::move(uniform);
  } else if (flags.layout == "uniform") {
    return Error{uniform.error().code, "--layout uniform: " + uniform.error().text};
  } else {
    report.uniform_refusal = uniform.error().text;
  }
  return report;
}

}  // namespace ashlar
