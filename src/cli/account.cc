#include "cli/account.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/attention_needs.h"
#include "cli/speculation.h"

namespace ashlar {
namespace {

double decode_rate(const Timing& timing, const Usage& usage) {
  const double seconds = timing.total_seconds - timing.first_token_seconds;
  return usage.completion_tokens > 1 && seconds > 0 ? (usage.completion_tokens - 1) / seconds : 0;
}

// "1 x (80 + 0)", or "1 x (80 + 0), 2 x (32 + 32)" where layers differ.
std::string dims(const CacheGroup& group) {
  std::vector<std::string> shapes;
  for (int64_t i = 0; i < group.n_layers(); ++i) {
    const CacheGroup& row = group.row(i);
    std::string shape = fmt::format("{} x ({} + {})", row.kv_heads, row.k_dim, row.v_dim);
    if (std::find(shapes.begin(), shapes.end(), shape) == shapes.end())
      shapes.push_back(std::move(shape));
  }
  return fmt::format("{}", fmt::join(shapes, ", "));
}

// "16", or "32, 16" where groups differ.
std::string page_lengths(std::span<const CacheGroup> groups) {
  std::vector<int32_t> lengths;
  for (const CacheGroup& group : groups) {
    if (std::find(lengths.begin(), lengths.end(), group.page_tokens) == lengths.end())
      lengths.push_back(group.page_tokens);
  }
  return fmt::format("{}", fmt::join(lengths, ", "));
}

// The body that serves a group's layers.
std::string group_kernel(const Engine& engine, const CacheGroup& group) {
  const bool draft = is_draft(engine, group);
  const Model& target = engine.model();
  const Model& model = draft ? *engine.proposer().draft() : target;
  const size_t first = draft ? target.spec().layers.size() : 0;
  if (!group.has_tokens()) return body_name(model.ops(), DType::f32, DType::f32);
  const Device device{.isa = model.ops().attention_isa};
  const std::vector<LayerNeed> needs =
      attention_needs(model.spec(), {&group, 1}, device.kind, model.options().compute, first);
  CHECK(!needs.empty(), "a group of {} layers, none of the model", group.n_layers());
  const auto pick = pick_attention(device, needs.front().need);
  return fmt::format("{} {}", model.ops().backend, pick ? pick->row->name : "none");
}

}  // namespace

Json describe(const Timing& timing, const Usage& usage) {
  return Json::Object{{"load_s", timing.load_seconds},
                      {"ttft_s", timing.first_token_seconds},
                      {"total_s", timing.total_seconds},
                      {"decode_tokens_per_s", decode_rate(timing, usage)}};
}

Json describe_kernels(const Engine& engine) {
  const Model& model = engine.model();
  const DType compute = model.options().compute;
  Json::Array rows;
  const auto add = [&](std::string work, int64_t n_layers, std::string kernel) {
    rows.push_back(Json::Object{
        {"work", std::move(work)}, {"layers", n_layers}, {"kernel", std::move(kernel)}});
  };
  for (const CacheGroup& group : engine.cache().groups()) {
    add(fmt::format("{} attention", name(group.kind)), group.n_layers(),
        group_kernel(engine, group));
  }
  int64_t n_moe = 0;
  for (const LayerSpec& layer : model.spec().layers) {
    n_moe += std::holds_alternative<MoeMlp>(layer.mlp);
  }
  // Codes are multiplied as bf16 is.
  const DType stored = model.matrix_dtype();
  const bool codes = stored == DType::f8e4m3 || stored == DType::u8;
  const std::string products = body_name(model.ops(), compute, codes ? DType::bf16 : stored);
  add("projections", static_cast<int64_t>(model.spec().layers.size()), products);
  if (n_moe > 0) add("experts", n_moe, products);
  return rows;
}

std::string account(const Session& session, const Usage& usage, const Timing& timing) {
  const Engine& engine = *session.engine;
  std::string out = fmt::format(
      "prompt {} tokens, generated {}; first token {}, then {:.1f} tokens/s; model {} loaded in "
      "{}\n",
      usage.prompt_tokens, usage.completion_tokens, human_seconds(timing.first_token_seconds),
      decode_rate(timing, usage), human_bytes(static_cast<uint64_t>(session.weight_bytes)),
      human_seconds(timing.load_seconds));
  out += speculation_text(engine);
  const Json kernels = describe_kernels(engine);
  const auto& groups = engine.cache().groups();
  const ArenaLayout& layout = engine.cache().arena().layout();
  out += fmt::format("cache {}, {} layout, pages of {} tokens\n",
                     human_bytes(static_cast<uint64_t>(layout.arena_bytes())), layout.name,
                     page_lengths(groups));
  out += fmt::format("  {:<10} {:>6} {:>7}  {:<16} {:<9} {:>11} {:>11}  {}\n", "group", "layers",
                     "window", "heads x (K + V)", "dtype", "page", "peak used", "kernel");
  for (size_t g = 0; g < groups.size(); ++g) {
    const CacheGroup& group = groups[g];
    const int64_t peak = engine.stats().peak_pages[g] * layout.groups[g].page_bytes;
    out += fmt::format("  {:<10} {:>6} {:>7}  {:<16} {:<9} {:>11} {:>11}  {}\n",
                       is_draft(engine, group) ? "draft" : name(group.kind), group.n_layers(),
                       group.window > 0 ? fmt::format("{}", group.window) : "-", dims(group),
                       name(group.dtype),
                       human_bytes(static_cast<uint64_t>(layout.groups[g].page_bytes)),
                       human_bytes(static_cast<uint64_t>(peak)),
                       kernels.as_array()[g].find("kernel")->as_string());
  }
  for (size_t i = groups.size(); i < kernels.as_array().size(); ++i) {
    const Json& row = kernels.as_array()[i];
    out += fmt::format("{}, {} layers: {}\n", row.find("work")->as_string(),
                       row.find("layers")->as_int(), row.find("kernel")->as_string());
  }
  return out;
}

}  // namespace ashlar
