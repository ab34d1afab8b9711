#include "cli/session.h"

#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <ctime>

#include "base/file.h"
#include "base/log.h"
#include "cli/attention_needs.h"
#include "cli/cache_choice.h"
#include "cli/progress.h"
#include "cli/speculation.h"
#include "engine/layer_caches.h"
#include "kv/uniform_cache.h"
#include "spec/groups.h"

namespace ashlar {
namespace {

// Without --memory: room for many long chats, but never what would push the machine into swap.
constexpr uint64_t kDefaultMemory = uint64_t{4} << 30;

Result<uint64_t> free_memory() {
  TRY(const std::string text, read_file("/proc/meminfo"));
  unsigned long long kib = 0;
  const size_t at = text.find("MemAvailable:");
  if (at == std::string::npos || std::sscanf(text.c_str() + at, "MemAvailable: %llu", &kib) != 1) {
    return kDefaultMemory;
  }
  return uint64_t{kib} << 10;
}

Result<int64_t> cache_memory(const std::string& flag) {
  uint64_t bytes = 0;
  if (!flag.empty()) {
    if (!parse_bytes(flag, &bytes) || bytes == 0) {
      return invalid("--memory \"{}\": expected bytes such as 4096, 512MiB or 60GiB",
                     excerpt(flag));
    }
    return static_cast<int64_t>(bytes);
  }
  TRY(const uint64_t available, free_memory());
  return static_cast<int64_t>(std::min(kDefaultMemory, available / 2));
}

// An 8-bit cache without scales is watched for so many tokens before it is judged.
constexpr int64_t kWatchedTokens = 1000;

struct DTypes {
  DType compute;
  DType model;                  // what an unasked cache stores
  std::optional<DType> matrix;  // matrices are converted to this at load
};

Result<DTypes> choose_dtypes(const ModelFlags& flags, DType checkpoint) {
  DTypes types{};
  DType model = checkpoint;
  if (flags.dtype != "auto") {
    TRY(model, parse_dtype(flags.dtype));
  }
  types.compute = model == DType::bf16 ? DType::bf16 : DType::f32;
  types.model = model;
  if (flags.dtype == "bfloat16") types.matrix = DType::bf16;
  return types;
}

Result<Json> read_json(const std::string& path) {
  TRY(const std::string text, read_file(path));
  return parse_json(text, path);
}

bool is_folder_path(const std::string& model) { return !model.ends_with(".json"); }

Result<Json> read_config(const std::string& model) {
  return read_json(is_folder_path(model) ? model + "/config.json" : model);
}

// Of the model, or of the draft: `path` says which.
Result<LoadedWeights> read_weights(const ModelFlags& flags, const std::string& path,
                                   const ModelSpec& spec, const DTypes& types, Pool& pool) {
  const WeightTree<WeightRow> rows = weight_rows(spec);
  if (flags.load_format == "dummy") {
    return dummy_weights(rows, types.matrix.value_or(spec.dtype), /*seed=*/1, pool);
  }
  if (!is_folder_path(path)) {
    return invalid(
        "{}: a config alone has no weights: give the checkpoint's folder, or --load-format dummy",
        path);
  }
  Progress bar("loading");
  TRY(LoadedWeights weights,
      load_weights(path, spec, rows,
                   {.matrix_dtype = types.matrix,
                    .touch_pages = true,
                    .pool = &pool,
                    .progress = [&](int64_t done, int64_t total) { bar.update(done, total); }}));
  if (const SkippedTensors& skipped = weights.skipped; skipped.n > 0) {
    log_info("skipped {} tensors, {}, that text generation does not use: {}", skipped.n,
             human_bytes(static_cast<uint64_t>(skipped.bytes)), fmt::join(skipped.rules, ", "));
  }
  return weights;
}

Result<CacheLayout> choose_layout(const ModelFlags& flags, const ModelSpec& spec,
                                  const Speculation& speculation, const CacheFormat& format,
                                  int64_t memory) {
  const std::optional<ModelSpec>& draft = speculation.draft;
  if (flags.layout == "uniform") {
    std::vector<PlannedModel> models = {{&spec, format}};
    if (draft) models.push_back({&*draft, draft_format(format)});
    auto layout = uniform_cache_layout(models, {.memory_bytes = memory,
                                                .block_tokens = flags.block_size,
                                                .step_tokens = flags.max_step_tokens,
                                                .pack = flags.pack});
    if (!layout) return Error{layout.error().code, "--layout uniform: " + layout.error().text};
    return layout;
  }
  if (flags.pack != 1) {
    return invalid(
        "--attn-pack-size {}: only pages of the uniform layout are made of so many "
        "layers; add --layout uniform",
        flags.pack);
  }
  TRY(std::vector<CacheGroup> groups,
      draft ? cache_groups(spec, *draft, format) : cache_groups(spec, format));
  return arena_cache_layout(std::move(groups), memory);
}

// States are computed in float; the convolution's inputs are kept as the cache keeps values.
void choose_state_dtypes(ModelSpec* spec, DType cache) {
  for (LayerSpec& layer : spec->layers) {
    auto* state = std::get_if<StateSpec>(&layer.mixer);
    if (state == nullptr) continue;
    state->recurrent_dtype = DType::f32;
    state->conv_dtype = cache == DType::f32 || cache == DType::f16 ? DType::f32 : DType::bf16;
  }
}

Result<Proposer> open_proposer(const ModelFlags& flags, Speculation speculation, const Ops& ops,
                               const DTypes& types, const Cache& cache, const Model& target,
                               Pool& pool) {
  const Proposals& proposals = speculation.proposals;
  if (proposals.n_tokens == 0) return Proposer();
  if (!speculation.draft) return Proposer(proposals);
  ModelSpec& spec = *speculation.draft;
  TRY(LoadedWeights weights, read_weights(flags, speculation.flags.model, spec, types, pool));
  const ModelOptions options{
      .compute = types.compute,
      .max_step_tokens = std::max(flags.max_step_tokens, spec.draft->block_tokens),
      .max_logit_rows = std::max(128, proposals.n_tokens),
      .count_tokens = target.options().count_tokens};
  std::vector<LayerCache> caches = layer_caches(cache, spec, target.spec().layers.size());
  TRY(Model draft,
      Model::create(std::move(spec), std::move(weights), ops, options, std::move(caches)));
  draft.borrow_ends(target);
  return Proposer(proposals, std::move(draft));
}

// The machine's ops, with the attention that --attention-backend names.
Result<Ops> choose_ops(const ModelFlags& flags, Isa isa, DType compute, const Cache& cache,
                       const ModelSpec& spec, const std::optional<ModelSpec>& draft) {
  const std::string& named = flags.attention_backend;
  if (named.empty()) return cpu_ops(isa);
  const auto cpu = Device::Kind::cpu;
  std::vector<LayerNeed> needs = attention_needs(spec, cache.groups(), cpu, compute);
  if (draft) {
    for (LayerNeed& need :
         attention_needs(*draft, cache.groups(), cpu, compute, spec.layers.size()))
      needs.push_back(std::move(need));
  }
  Isa chosen = isa;
  for (const LayerNeed& layer : needs) {
    const auto pick = pick_attention({.isa = isa}, layer.need, named);
    if (!pick) return Error{pick.error().code, "--attention-backend: " + pick.error().text};
    chosen = pick->row->least.isa;
  }
  return with_attention(cpu_ops(isa), chosen);
}

// Logits of every row that may want them, but no more of them than a step can well use.
int32_t most_logit_rows(const ModelFlags& flags, const Speculation& speculation, int32_t vocab) {
  constexpr int64_t kMostBytes = int64_t{256} << 20;
  const int32_t least = std::max(flags.max_running, 128);
  const int64_t wanted =
      std::min(int64_t{flags.max_running} * speculation.logit_rows(), kMostBytes / (4 * vocab));
  return static_cast<int32_t>(std::max<int64_t>(least, wanted));
}

// The tokenizer, the template and the stop tokens of a checkpoint folder; each may be absent.
Status open_text(const std::string& folder, const ModelSpec& spec, Session* session) {
  session->stop_tokens = spec.eos_tokens;
  if (file_exists(folder + "/generation_config.json")) {
    TRY(const Json json, read_json(folder + "/generation_config.json"));
    const Json* eos = json.find("eos_token_id");
    const Json::Array ids = eos == nullptr    ? Json::Array{}
                            : eos->is_array() ? eos->as_array()
                                              : Json::Array{*eos};
    for (const Json& id : ids) {
      if (id.is_int()) session->stop_tokens.push_back(static_cast<int32_t>(id.as_int()));
    }
  }
  if (!file_exists(folder + "/tokenizer.json")) return {};
  TRY(session->tokenizer, text::Tokenizer::load(folder));
  auto chat = text::Chat::load(folder);
  if (chat) {
    session->chat = *std::move(chat);
  } else if (chat.error().code != Code::not_found) {
    return chat.error();
  }
  return {};
}

// What prompts found in the cache, and for which reasons not.
Json describe_reuse(const CacheStats& stats) {
  Json::Object misses;
  for (int i = 0; i < kMisses; ++i) {
    misses.emplace_back(name(static_cast<Miss>(i)), stats.miss_tokens[static_cast<size_t>(i)]);
  }
  return Json::Object{{"lookups", stats.n_matches},
                      {"prompt_tokens", stats.prompt_tokens},
                      {"hit_tokens", stats.hit_tokens},
                      {"miss_tokens", std::move(misses)}};
}

// The layers of a group that differ in shape, one by one.
Json describe_rows(const CacheGroup& group) {
  Json::Array rows;
  for (const CacheGroup& row : group.rows) {
    rows.push_back(Json::Object{{"layer", row.layers[0]},
                                {"kv_heads", row.kv_heads},
                                {"k_dim", row.k_dim},
                                {"v_dim", row.v_dim},
                                {"dtype", name(row.dtype)},
                                {"bytes_per_token", row.token_bytes()}});
  }
  return rows;
}

}  // namespace

Result<Session> open_session(const ModelFlags& flags, Isa isa) {
  const auto start = std::chrono::steady_clock::now();
  TRY(const Json config, read_config(flags.model));
  TRY(ModelSpec spec, read_model_spec(config));
  TRY(Speculation speculation, read_speculation(flags.speculative_config, spec));
  TRY(const DTypes types, choose_dtypes(flags, spec.dtype));
  TRY(const int64_t memory, cache_memory(flags.memory));
  Session session;
  if (is_folder_path(flags.model)) TRY_STATUS(open_text(flags.model, spec, &session));
  TRY(const CacheFormat format, choose_cache_format(flags, types.model));
  choose_state_dtypes(&spec, is_f8(format.dtype) ? types.model : format.dtype);
  TRY(CacheLayout layout, choose_layout(flags, spec, speculation, format, memory));
  TRY(Cache cache, Cache::create(std::move(layout), speculation.cache_options()));
  TRY(const Ops ops, choose_ops(flags, isa, types.compute, cache, spec, speculation.draft));
  const int n_threads = flags.threads > 0 ? flags.threads : available_threads();
  Pool pool(n_threads);
  TRY(LoadedWeights weights, read_weights(flags, flags.model, spec, types, pool));
  session.weight_bytes = weights.mapped_bytes + weights.owned_bytes;
  TRY(const KvScales scales, choose_kv_scales(flags.kv_scales, format, spec, weights.checkpoint));
  const bool unscaled = is_f8(format.dtype) && !format.token_scales && !scales.given;
  ModelOptions options{.compute = types.compute,
                       .max_step_tokens = flags.max_step_tokens,
                       .max_logit_rows = most_logit_rows(flags, speculation, spec.vocab),
                       .count_tokens = std::max(flags.count_tokens, unscaled ? kWatchedTokens : 0)};
  if (speculation.draft) options.taps = speculation.draft->draft->taps;
  std::vector<LayerCache> caches = layer_caches(cache, spec);
  for (size_t i = 0; i < caches.size(); ++i) {
    if (!is_f8(caches[i].kv.dtype)) continue;
    caches[i].kv.k_scale = scales.layers[i].k;
    caches[i].kv.v_scale = scales.layers[i].v;
  }
  TRY(Model model,
      Model::create(std::move(spec), std::move(weights), ops, options, std::move(caches)));
  TRY(Proposer proposer,
      open_proposer(flags, std::move(speculation), ops, types, cache, model, pool));
  const Budget budget{.step_tokens = flags.max_step_tokens,
                      .chunk_tokens = flags.max_step_tokens,
                      .max_running = flags.max_running,
                      .logit_rows = options.max_logit_rows};
  session.engine = std::make_unique<Engine>(std::move(model), std::move(cache), budget, n_threads,
                                            std::move(proposer));
  session.load_seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return session;
}

Result<std::vector<int32_t>> Session::encode(const std::string& prompt) const {
  if (!tokenizer) {
    return error(Code::not_found,
                 "this checkpoint has no tokenizer.json: give token ids with --tokens");
  }
  return tokenizer->encode(prompt, {.add_special_tokens = true, .parse_special = true});
}

Result<text::ChatTokens> Session::encode_chat(const Json& messages) const {
  if (!tokenizer) {
    return error(Code::not_found,
                 "this checkpoint has no tokenizer.json: give token ids with --tokens");
  }
  if (!chat)
    return error(Code::not_found, "this checkpoint has no chat template: use -p with --raw");
  text::RenderOptions options;
  const std::time_t now = std::time(nullptr);
  ::localtime_r(&now, &options.now);
  TRY(const text::Rendered rendered, chat->render({.messages = messages}, options));
  return text::encode_chat(*tokenizer, rendered);
}

bool is_draft(const Engine& engine, const CacheGroup& group) {
  return group.layers.front() >= std::ssize(engine.model().spec().layers);
}

Json describe_cache(const Engine& engine) {
  const Cache& cache = engine.cache();
  const ArenaLayout& layout = cache.arena().layout();
  Json::Array groups;
  for (size_t g = 0; g < cache.groups().size(); ++g) {
    const CacheGroup& group = cache.groups()[g];
    const GroupLayout& place = layout.groups[g];
    const int64_t peak = engine.stats().peak_pages[g];
    groups.push_back(Json::Object{{"kind", name(group.kind)},
                                  {"draft", is_draft(engine, group)},
                                  {"layers", group.n_layers()},
                                  {"kv_heads", group.kv_heads},
                                  {"k_dim", group.k_dim},
                                  {"v_dim", group.v_dim},
                                  {"window", group.window},
                                  {"dtype", name(group.dtype)},
                                  {"page_tokens", group.page_tokens},
                                  {"page_bytes", place.page_bytes},
                                  {"padding_bytes", place.page_bytes - place.page_data_bytes},
                                  {"slab_remainder_bytes", layout.slab_remainder(g)},
                                  {"bytes_per_token", group.token_bytes()},
                                  {"peak_pages", peak},
                                  {"peak_bytes", peak * place.page_bytes}});
    if (!group.rows.empty()) groups.back().as_object().emplace_back("rows", describe_rows(group));
  }
  const bool equal_blocks = std::string_view(layout.name) == "uniform";
  return Json::Object{{"layout", layout.name},
                      {"memory_bytes", layout.arena_bytes()},
                      {equal_blocks ? "block_bytes" : "slab_bytes", layout.slab_bytes},
                      {equal_blocks ? "blocks" : "slabs", layout.n_slabs},
                      {"grain_tokens", cache.block_tokens()},
                      {"groups", std::move(groups)},
                      {"reuse", describe_reuse(cache.stats())}};
}

}  // namespace ashlar
