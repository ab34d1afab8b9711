// The plan as JSON. Sizes are bytes of one rank; "live" is what a later query may read.

#include "cli/plan_report.h"

namespace ashlar {
namespace {

Json group_json(const PlanReport& report, size_t g) {
  const CacheGroup& group = report.groups[g];
  Json::Array layers;
  for (const int32_t layer : group.layers) layers.emplace_back(layer);
  Json::Object json = {{"kind", name(group.kind)},
                       {"draft", report.is_draft(g)},
                       {"layers", std::move(layers)},
                       {"page_bytes", group.page_bytes()},
                       {"page_data_bytes", group.page_data_bytes()},
                       {"alignment_bytes", group.page_bytes() - group.page_data_bytes()},
                       {"pages_per_slab", report.arena.groups[g].pages_per_slab},
                       {"slab_remainder_bytes", report.arena.slab_remainder(g)}};
  if (!group.has_tokens()) {
    json.emplace_back("state_bytes", group.state_bytes);
    return json;
  }
  json.emplace_back("dtype", name(group.dtype));
  json.emplace_back("kv_heads", group.kv_heads);
  json.emplace_back("k_dim", group.k_dim);
  json.emplace_back("v_dim", group.v_dim);
  json.emplace_back("window", group.window);
  json.emplace_back("chunk", group.chunk);
  json.emplace_back("page_tokens", group.page_tokens);
  json.emplace_back("token_bytes", group.token_bytes());
  return json;
}

Json curve_json(const PlanReport& report) {
  Json::Array curve;
  for (const PlanPoint& point : report.points) {
    curve.push_back(Json::Object{
        {"length", point.n_tokens},
        {"sequences", point.n_sequences},
        {"tokens", point.n_sequences * point.n_tokens},
        {"sequence_bytes", point.bytes},
        {"live_bytes", point.live_bytes},
        {"wasted_bytes", point.n_sequences * (point.bytes - point.live_bytes)},
        {"group_pages", Json::Array(point.pages.begin(), point.pages.end())},
        {"group_bytes", Json::Array(point.group_bytes.begin(), point.group_bytes.end())}});
  }
  return curve;
}

Json texts(const std::vector<std::string>& list) { return Json::Array(list.begin(), list.end()); }

Json arena_json(const PlanReport& report) {
  Json::Array groups;
  for (size_t g = 0; g < report.groups.size(); ++g) groups.push_back(group_json(report, g));
  return Json::Object{{"slab_bytes", report.arena.slab_bytes},
                      {"slabs", report.arena.n_slabs},
                      {"unused_bytes", report.memory_bytes - report.arena.arena_bytes()},
                      {"groups", std::move(groups)},
                      {"smallest_reusable_prefix", report.page_tokens},
                      {"longest_sequence", report.longest},
                      {"curve", curve_json(report)},
                      {"reasons", texts(report.reasons())}};
}

Json uniform_json(const PlanReport& report) {
  if (!report.uniform) return Json::Object{{"error", report.uniform_refusal}};
  const UniformPlan& plan = *report.uniform;
  Json::Array groups, curve;
  for (const UniformGroup& group : plan.layout.groups) {
    groups.push_back(Json::Object{{"kind", name(group.spec.kind)},
                                  {"layers", group.n_packs()},
                                  {"block_tokens", group.spec.block_tokens},
                                  {"page_bytes", page_bytes(group)},
                                  {"page_data_bytes", page_data_bytes(group)}});
  }
  for (size_t i = 0; i < plan.points.size(); ++i) {
    const UniformPoint& point = plan.points[i];
    // Fewer bytes than may be read: where it keeps one state fewer than the arena.
    const int64_t wasted = std::max<int64_t>(0, point.bytes - report.points[i].live_bytes);
    curve.push_back(Json::Object{{"length", point.n_tokens},
                                 {"sequences", point.n_sequences},
                                 {"tokens", point.n_sequences * point.n_tokens},
                                 {"max_concurrency", point.max_concurrency},
                                 {"sequence_bytes", point.bytes},
                                 {"wasted_bytes", point.n_sequences * wasted}});
  }
  return Json::Object{{"blocks", plan.layout.n_blocks},
                      {"groups", std::move(groups)},
                      {"smallest_reusable_prefix", plan.grain.schedule_tokens},
                      {"curve", std::move(curve)},
                      {"reasons", texts(plan.reasons)}};
}

}  // namespace

Json plan_json(const PlanReport& report) {
  return Json::Object{{"title", report.title},
                      {"layout", report.layout},
                      {"memory_bytes", report.memory_bytes},
                      {"max_model_len", report.max_model_len},
                      {"tensor_parallel_size", report.ranks},
                      {"step_tokens", report.shape.step_tokens},
                      {"arena", arena_json(report)},
                      {"uniform", uniform_json(report)}};
}

}  // namespace ashlar
