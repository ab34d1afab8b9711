#include "cli/plan_cases.h"

#include <algorithm>
#include <array>

#include "kv/uniform.h"

namespace ashlar {
namespace {

struct Kind {
  const char* text;       // in a case's layers
  const char* spec_text;  // in an answer's groups
  UniformKind kind;
};
constexpr std::array kKinds = {
    Kind{"full", "FullAttentionSpec", UniformKind::full},
    Kind{"swa", "SlidingWindowSpec", UniformKind::window},
    Kind{"chunk", "ChunkedLocalAttentionSpec", UniformKind::chunk},
    Kind{"mla", "MLAAttentionSpec", UniformKind::latent},
    Kind{"mamba", "MambaSpec", UniformKind::state},
};
constexpr std::array<std::pair<const char*, KvQuant>, 6> kQuants = {{
    {"NONE", KvQuant::none},
    {"FP8_PER_TENSOR", KvQuant::fp8_per_tensor},
    {"INT8_PER_TOKEN_HEAD", KvQuant::int8_per_token_head},
    {"FP8_PER_TOKEN_HEAD", KvQuant::fp8_per_token_head},
    {"INT4_PER_TOKEN_HEAD", KvQuant::int4_per_token_head},
    {"NVFP4", KvQuant::nvfp4},
}};
constexpr std::array<std::pair<const char*, StateMode>, 3> kModes = {
    {{"none", StateMode::none}, {"all", StateMode::all}, {"align", StateMode::align}}};

// The members of one object, each taken at most once; `finish` finds those nobody asked for. The
// first thing wrong is kept and reported there, so that reading stays a list of keys.
class Members {
 public:
  Members(const Json& json, std::string what) : json_(json), what_(std::move(what)) {
    if (!json.is_object()) wrong(fmt::format("is no object but {}", json.kind()));
  }

  // Null counts as absent.
  const Json* take(std::string_view key) {
    seen_.push_back(key);
    const Json* value = json_.find(key);
    return value && !value->is_null() ? value : nullptr;
  }
  const Json* need(std::string_view key) {
    const Json* value = take(key);
    if (!value) wrong(fmt::format("lacks \"{}\"", key));
    return value;
  }
  int64_t integer(std::string_view key, std::optional<int64_t> otherwise = {}) {
    const Json* value = otherwise ? take(key) : need(key);
    if (!value) return otherwise.value_or(0);
    if (value->is_int()) return value->as_int();
    wrong(fmt::format("has \"{}\" that is no integer but {}", key, value->kind()));
    return 0;
  }
  bool flag(std::string_view key) {
    const Json* value = take(key);
    if (!value) return false;
    if (value->is_bool()) return value->as_bool();
    wrong(fmt::format("has \"{}\" that is no boolean but {}", key, value->kind()));
    return false;
  }
  std::string text(std::string_view key, const char* otherwise) {
    const Json* value = take(key);
    if (!value) return otherwise;
    if (value->is_string()) return value->as_string();
    wrong(fmt::format("has \"{}\" that is no string but {}", key, value->kind()));
    return otherwise;
  }
  template <class Row, size_t n>
  Row one_of(std::string_view key, const std::array<std::pair<const char*, Row>, n>& rows) {
    const std::string value = text(key, rows[0].first);
    for (const auto& [name, row] : rows) {
      if (value == name) return row;
    }
    wrong(fmt::format("has \"{}\" of unknown value \"{}\"", key, excerpt(value)));
    return rows[0].second;
  }
  void wrong(std::string problem) {
    if (problem_.empty()) problem_ = std::move(problem);
  }
  Status finish() {
    if (json_.is_object()) {
      for (const auto& [key, value] : json_.as_object()) {
        if (std::find(seen_.begin(), seen_.end(), key) == seen_.end()) {
          wrong(fmt::format("has \"{}\", which no case has", excerpt(key)));
        }
      }
    }
    return problem_.empty() ? Status() : invalid("{} {}", what_, problem_);
  }

 private:
  const Json& json_;
  std::string what_;
  std::string problem_;
  std::vector<std::string_view> seen_;
};

void read_states(Members& members, UniformSpec* spec) {
  const Json* shapes = members.need("shapes");
  const Json* sizes = members.need("esz");
  if (!shapes || !sizes) return;
  if (!shapes->is_array() || !sizes->is_array() ||
      shapes->as_array().size() != sizes->as_array().size()) {
    return members.wrong("needs \"shapes\" and \"esz\" as lists of one length");
  }
  for (size_t i = 0; i < sizes->as_array().size(); ++i) {
    const Json& shape = shapes->as_array()[i];
    const Json& size = sizes->as_array()[i];
    if (!size.is_int() || !shape.is_array()) return members.wrong("has a state without numbers");
    StateTensor state{.element_bytes = size.as_int()};
    for (const Json& extent : shape.as_array()) {
      if (!extent.is_int()) return members.wrong("has a state extent that is no integer");
      state.shape.push_back(extent.as_int());
    }
    spec->states.push_back(std::move(state));
  }
  spec->mode = members.one_of("mode", kModes);
  spec->speculative_blocks = members.integer("spec", 0);
}

void read_attention(Members& members, UniformSpec* spec) {
  spec->kv_heads = members.integer("kv_heads");
  spec->k_dim = members.integer("head_size");
  const bool own_v = spec->kind == UniformKind::full || spec->kind == UniformKind::window;
  spec->v_dim = own_v ? members.integer("head_size_v", spec->k_dim) : spec->k_dim;
  spec->element_bytes = members.integer("esz");
  spec->quant = members.one_of("quant", kQuants);
  spec->strided = members.flag("block_stride");
  if (spec->kind == UniformKind::window) spec->window = members.integer("window");
  if (spec->kind == UniformKind::chunk) spec->chunk = members.integer("chunk");
  if (spec->kind == UniformKind::latent) spec->cache_format = members.text("cache_dtype_str", "");
}

Result<UniformLayer> read_layer(const std::string& name, const Json& json) {
  Members members(json, fmt::format("layer {}", excerpt(name)));
  UniformLayer layer{.name = name};
  const std::string kind = members.text("kind", "");
  const auto row =
      std::find_if(kKinds.begin(), kKinds.end(), [&](const Kind& k) { return kind == k.text; });
  if (row == kKinds.end()) {
    return invalid("layer {}: kind \"{}\" is none of full, swa, chunk, mla, mamba", excerpt(name),
                   excerpt(kind));
  }
  layer.spec.kind = row->kind;
  layer.spec.block_tokens = members.integer("block_size");
  layer.spec.padded_page_bytes = members.integer("page_size_padded", 0);
  layer.spec.attends() ? read_attention(members, &layer.spec) : read_states(members, &layer.spec);
  TRY_STATUS(members.finish());
  return layer;
}

struct Case {
  std::vector<UniformLayer> layers;
  int64_t memory_bytes = 0;
  UniformOptions options;
};

std::optional<int64_t> optional_integer(Members& members, std::string_view key) {
  if (!members.take(key)) return {};
  return members.integer(key);
}

Result<Case> read_case(const Json& input) {
  Members members(input, "a case's input");
  Case c;
  c.memory_bytes = members.integer("memory");
  c.options = {.max_model_len = members.integer("max_model_len"),
               .max_in_flight_tokens = members.integer("max_in_flight_tokens"),
               .cache_block_tokens = members.integer("cache_block_size", 16),
               .disable_hybrid = members.flag("disable_hybrid"),
               .n_blocks = optional_integer(members, "num_gpu_blocks_override"),
               .prefix_match_unit = optional_integer(members, "prefix_match_unit"),
               .state_mode = members.one_of("mamba_cache_mode", kModes),
               .context_ranks = members.integer("dcp", 1),
               .pack = members.integer("attn_pack_size", 1)};
  members.take("max_num_batched_tokens");  // stated, but it counts only through those in flight
  const Json* layers = members.need("layers");
  if (layers && !layers->is_object()) members.wrong("has \"layers\" that are no object");
  TRY_STATUS(members.finish());
  for (const auto& [name, json] : layers->as_object()) {
    TRY(UniformLayer layer, read_layer(name, json));
    c.layers.push_back(std::move(layer));
  }
  return c;
}

Json::Array texts(std::span<const std::string> names) {
  return Json::Array(names.begin(), names.end());
}

Json spec_json(const UniformSpec& spec) {
  const auto row = std::find_if(kKinds.begin(), kKinds.end(),
                                [&](const Kind& k) { return spec.kind == k.kind; });
  Json::Object json = {
      {"type", row->spec_text}, {"block_size", spec.block_tokens}, {"page", page_bytes(spec)}};
  if (spec.padded_page_bytes > 0) json.emplace_back("padded", spec.padded_page_bytes);
  if (spec.window > 0) json.emplace_back("window", spec.window);
  return json;
}

Json group_json(const UniformGroup& group) {
  Json::Array layers;
  for (const auto& pack : group.packs) {
    layers.insert(layers.end(), pack.begin(), pack.end());
  }
  Json spec = spec_json(group.spec);
  if (group.mixed()) {
    Json::Object members;
    for (const LayerPack& member : group.members) {
      for (const std::string& layer : member.layers) {
        members.emplace_back(layer, spec_json(member.spec));
      }
    }
    spec = Json::Object{{"type", "UniformTypeKVCacheSpecs"},
                        {"block_size", group.spec.block_tokens},
                        {"page", page_bytes(group)},
                        {"members", std::move(members)}};
  }
  return Json::Object{{"layers", std::move(layers)}, {"spec", std::move(spec)}};
}

// uniform_groups.h says which exception of the reference each code stands for.
const char* error_name(Code code) {
  switch (code) {
    case Code::unsupported: return "NotImplementedError";
    case Code::not_found: return "AssertionError";
    default: return "ValueError";
  }
}

void add_layout(const UniformLayout& layout, Json::Object* answer) {
  answer->emplace_back("num_blocks", layout.n_blocks);
  Json::Array groups;
  for (const UniformGroup& group : layout.groups) groups.push_back(group_json(group));
  answer->emplace_back("groups", std::move(groups));
  Json::Array tensors;
  for (const UniformTensor& tensor : layout.tensors) {
    tensors.push_back(Json::Object{{"size", tensor.size_bytes},
                                   {"shared_by", texts(tensor.shared_by)},
                                   {"offset", 0},
                                   {"block_stride", 0}});
  }
  answer->emplace_back("tensors", std::move(tensors));
}

void add_grain(const UniformLayout& layout, const UniformOptions& options, Json::Object* answer) {
  const auto grain = uniform_grain(layout.groups, options);
  if (!grain) {
    answer->emplace_back("block_size_error", grain.error().text);
    return;
  }
  answer->emplace_back("scheduler_block_size", grain->schedule_tokens);
  answer->emplace_back("hash_block_size", grain->hash_tokens);
}

Json refused(Json::Object answer, const Error& error) {
  answer.emplace_back("error", error_name(error.code));
  answer.emplace_back("message", error.text);
  return answer;
}

}  // namespace

Result<Json> uniform_case(const Json& input) {
  TRY(Case c, read_case(input));
  Json::Object answer;
  Json::Object pages;
  for (const UniformLayer& layer : c.layers) {
    if (const Status ok = check_spec(layer.spec, layer.name); !ok) {
      if (ok.error().code == Code::invalid) return ok.error();
      return refused({}, ok.error());
    }
    pages.emplace_back(layer.name, page_bytes(layer.spec));
  }
  answer.emplace_back("layer_pages", std::move(pages));

  const auto layout = uniform_layout(c.layers, c.memory_bytes, c.options);
  if (!layout) return refused(std::move(answer), layout.error());
  const auto capacity = uniform_capacity(*layout, c.options.limits());
  if (!capacity) return refused(std::move(answer), capacity.error());
  add_layout(*layout, &answer);
  answer.emplace_back("blocks_per_request", Json::Array(capacity->blocks_per_request.begin(),
                                                        capacity->blocks_per_request.end()));
  answer.emplace_back("max_concurrency", capacity->max_concurrency);
  answer.emplace_back("kv_tokens", capacity->kv_tokens);
  add_grain(*layout, c.options, &answer);
  return Json(std::move(answer));
}

}  // namespace ashlar
