#include "spec/groups.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>

#include "spec/testing.h"

namespace ashlar {
namespace {

std::vector<int32_t> integers(const Json& list) {
  std::vector<int32_t> out;
  for (const Json& item : list.as_array()) out.push_back(static_cast<int32_t>(item.as_int()));
  return out;
}

int64_t number(const Json& object, const char* key) {
  const Json* value = object.find(key);
  CHECK(value != nullptr && value->is_int(), "{} in {}", key, object.dump());
  return value->as_int();
}

// The kind of a planned group, and what its recurrence is called there.
struct PlannedKind {
  const char* text;
  LayerKind kind;
  Recurrence recurrence = Recurrence::delta;
};
constexpr PlannedKind kPlannedKinds[] = {
    {"full_attention", LayerKind::full},
    {"sliding_window", LayerKind::window},
    {"mla", LayerKind::latent},
    {"dsa_indexer_key_cache", LayerKind::latent},
    {"mamba1", LayerKind::state, Recurrence::channel_scan},
    {"mamba2", LayerKind::state, Recurrence::head_scan},
    {"gated_delta_net", LayerKind::state, Recurrence::delta},
    {"kda", LayerKind::state, Recurrence::channel_delta},
};

PlannedKind planned_kind(const Json& planned) {
  const std::string& text = planned.find("kind")->as_string();
  for (const PlannedKind& row : kPlannedKinds) {
    if (text == row.text) return row;
  }
  CHECK(false, "planned kind {}", text);
  return {};
}

std::vector<int64_t> dims(const Shape& shape) {
  return {shape.dims.begin(), shape.dims.begin() + shape.rank};
}

void expect_state(const ModelSpec& model, const CacheGroup& group, const Json& planned) {
  const auto& state = std::get<StateSpec>(model.layers[static_cast<size_t>(group.layers[0])].mixer);
  EXPECT_EQ(state.recurrence, planned_kind(planned).recurrence);
  std::vector<int32_t> recurrent = integers(*planned.find("recurrent_shape"));
  if (recurrent.size() == 2) recurrent.insert(recurrent.begin() + 1, 1);  // one value per channel
  const auto conv = integers(*planned.find("conv_state_shape"));
  EXPECT_EQ(dims(state.conv_shape()), std::vector<int64_t>(conv.begin(), conv.end()));
  EXPECT_EQ(dims(state.recurrent_shape()),
            std::vector<int64_t>(recurrent.begin(), recurrent.end()));
  EXPECT_STREQ(name(state.conv_dtype), planned.find("conv_dtype")->as_string().c_str());
  EXPECT_STREQ(name(state.recurrent_dtype), planned.find("recurrent_dtype")->as_string().c_str());
  EXPECT_EQ(group.state_bytes, number(*planned.find("bytes_per_seq_per_layer"), "total"));
}

void expect_group(const ModelSpec& model, const CacheGroup& group, const Json& planned,
                  const char* dtype_key) {
  EXPECT_EQ(group.kind, planned_kind(planned).kind);
  if (group.kind == LayerKind::state) return expect_state(model, group, planned);
  EXPECT_EQ(group.token_bytes() / group.n_layers(),
            number(*planned.find("bytes_per_token_per_layer"), dtype_key));
  if (group.kind == LayerKind::latent) {
    EXPECT_EQ(group.k_dim, number(planned, "elements_per_token_per_layer"));
    return;
  }
  EXPECT_EQ(group.kv_heads, number(planned, "kv_heads"));
  EXPECT_EQ(group.k_dim, number(planned, "k_head_dim"));
  EXPECT_EQ(group.v_dim, number(planned, "v_head_dim"));
  EXPECT_EQ(group.window, planned.find("window")->is_null() ? 0 : number(planned, "window"));
}

// A published config and, under "_plan", what its cache must come to.
class PublishedGroups : public testing::TestWithParam<std::string> {};

TEST_P(PublishedGroups, AreThePlannedOnes) {
  const Json config = config_file(GetParam());
  const ModelSpec model = planned(config);
  const Json& plan = *config.find("_plan");
  const Json& totals = *plan.find("totals");
  for (const auto& [dtype, key] : {std::pair{DType::bf16, "bf16"}, {DType::f8e4m3, "fp8"}}) {
    const auto groups = cache_groups(model, dtype, 16);
    size_t found = 0;
    int64_t token_bytes = 0, window_bytes = 0, state_bytes = 0;
    for (const Json& planned : plan.find("groups")->as_array()) {
      if (planned.find("kind")->as_string() == "mlp_only") continue;  // keeps nothing
      const auto layers = integers(*planned.find("layers"));
      const bool index = planned.find("kind")->as_string() == "dsa_indexer_key_cache";
      const auto group = std::find_if(groups.begin(), groups.end(), [&](const CacheGroup& g) {
        return g.layers == layers && (g.kind != LayerKind::latent || (g.k_dim == 128) == index);
      });
      ASSERT_NE(group, groups.end()) << planned.dump();
      ++found;
      expect_group(model, *group, planned, key);
      if (index) continue;  // the published totals leave it out
      if (group->window == 0) token_bytes += group->token_bytes();
      window_bytes += group->window * group->token_bytes();
      if (group->kind == LayerKind::state) state_bytes += group->n_layers() * group->state_bytes;
    }
    EXPECT_EQ(found, groups.size());
    EXPECT_EQ(token_bytes,
              number(totals, fmt::format("unbounded_kv_bytes_per_token_{}", key).c_str()));
    EXPECT_EQ(state_bytes, number(totals, "recurrent_state_bytes_per_seq"));
    if (dtype == DType::bf16) {
      EXPECT_EQ(window_bytes, number(totals, "window_kv_bytes_per_seq_bf16"));
    }
  }
}

// Every token row in the packed format, where a model has latents; refused by name where not.
TEST_P(PublishedGroups, PackedLatentRows) {
  const Json config = config_file(GetParam());
  const auto groups = cache_groups(planned(config), CacheFormat{.packed_latent = true});
  bool has_latent = false;
  for (const Json& planned : config.find("_plan")->find("groups")->as_array()) {
    if (planned.find("kind")->as_string() != "mla") continue;
    has_latent = true;
    ASSERT_TRUE(groups) << groups.error().text;
    const auto layers = integers(*planned.find("layers"));
    const auto group = std::find_if(groups->begin(), groups->end(), [&](const CacheGroup& g) {
      return g.layers == layers && g.k_dim == 576;
    });
    ASSERT_NE(group, groups->end());
    EXPECT_EQ(group->token_bytes() / group->n_layers(),
              number(*planned.find("bytes_per_token_per_layer"), "fp8_ds_mla"));
  }
  if (has_latent) return;
  ASSERT_FALSE(groups);
  EXPECT_EQ(groups.error().code, Code::unsupported);
}

// A model that cannot run says so, with what can; one that can is read alike by both readers.
TEST_P(PublishedGroups, RunOrSayWhyNot) {
  const Json config = config_file(GetParam());
  const ModelSpec spec = planned(config);
  const auto model = read_model_spec(config);
  EXPECT_EQ(model.has_value(), spec.plan_only.empty());
  if (model) return;
  EXPECT_EQ(model.error().code, Code::unsupported);
  const char* why = spec.draft ? "a draft runs beside its target" : "can be planned, not run yet";
  for (const char* part : {why, "architectures that run are llama, "}) {
    EXPECT_NE(model.error().text.find(part), std::string::npos) << model.error().text;
  }
}

INSTANTIATE_TEST_SUITE_P(Groups, PublishedGroups, testing::ValuesIn(published_names()),
                         [](const auto& test) {
                           std::string id = test.param;
                           for (char& c : id) c = std::isalnum(c) ? c : '_';
                           return id;
                         });

TEST(Groups, AllPublishedConfigsAreHere) { EXPECT_EQ(published_names().size(), 43u); }

CacheGroup kind_of(const std::vector<CacheGroup>& groups, LayerKind kind) {
  for (const CacheGroup& group : groups) {
    if (group.kind == kind) return group;
  }
  CHECK(false, "no {} group", name(kind));
  return {};
}

// One rank's share: heads divided, replicated when ranks exceed them, latents whole.
TEST(Groups, RanksDivideOrReplicate) {
  const auto share = [](const char* file, int32_t ranks, LayerKind kind) {
    const auto groups = cache_groups(planned(config_file(file)), CacheFormat{.ranks = ranks});
    CHECK(groups.has_value(), "{}", groups.error().text);
    return kind_of(*groups, kind);
  };
  const char* const qwen = "qwen3.5-397b-a17b-fp8.json";
  EXPECT_EQ(share(qwen, 2, LayerKind::full).token_bytes(), 15 * 1024);
  EXPECT_EQ(share(qwen, 8, LayerKind::full).token_bytes(), 15 * 1024) << "2 heads on 8 ranks";
  EXPECT_EQ(share(qwen, 2, LayerKind::state).state_bytes, 2'134'016);
  EXPECT_EQ(share(qwen, 8, LayerKind::state).state_bytes, 4'268'032 / 8);
  EXPECT_EQ(share("mimo-v2-flash.json", 8, LayerKind::full).kv_heads, 1);
  EXPECT_EQ(share("mimo-v2-flash.json", 8, LayerKind::window).kv_heads, 1);
  EXPECT_EQ(share("deepseek-v3-r1.json", 8, LayerKind::latent).token_bytes(), 61 * 1152);
  // One group of B and C on each rank: (128 / 4 heads) * 64 + 2 * 128 channels.
  EXPECT_EQ(share("bamba-9b.json", 4, LayerKind::state).state_bytes,
            3 * (32 * 64 + 2 * 128) * 2 + 32 * 64 * 128 * 4);

  const auto three = cache_groups(planned(config_file("qwen3-8b.json")), CacheFormat{.ranks = 3});
  ASSERT_FALSE(three);
  EXPECT_NE(three.error().text.find("tensor parallel size 3: layer 0 has 32 heads"),
            std::string::npos)
      << three.error().text;
}

TEST(Groups, MimoPagesInBytes) {
  const auto groups = cache_groups(planned(config_file("mimo-v2-flash.json")), DType::bf16, 16);
  EXPECT_EQ(groups[0].token_bytes(), 9 * 2560);
  EXPECT_EQ(groups[0].page_bytes(), 368'640);
  EXPECT_EQ(groups[1].token_bytes(), 39 * 5120);
  EXPECT_EQ(groups[1].page_bytes(), 3'194'880);
}

AttentionSpec attention(int32_t kv_heads, int32_t k_dim, int32_t v_dim, int32_t window) {
  return {
      .heads = kv_heads, .kv_heads = kv_heads, .k_dim = k_dim, .v_dim = v_dim, .window = window};
}

// Any mix of geometries: the groups partition the layers, in order, and the bytes add up.
TEST(Groups, EveryGeometryIsAGroupOfItsOwn) {
  ModelSpec model;
  for (const AttentionSpec& a :
       {attention(2, 24, 16, 0), attention(2, 24, 16, 17), attention(2, 24, 16, 18),
        attention(2, 24, 16, 0), attention(1, 24, 16, 0), attention(2, 16, 24, 0),
        attention(2, 24, 16, 17)}) {
    model.layers.push_back({.mixer = a, .mlp = {}});
  }
  for (const int32_t page_tokens : {1, 3, 16, 100}) {
    const auto groups = cache_groups(model, DType::bf16, page_tokens);
    ASSERT_EQ(groups.size(), 5u);
    EXPECT_EQ(groups[0].layers, (std::vector<int32_t>{0, 3}));
    EXPECT_EQ(groups[1].layers, (std::vector<int32_t>{1, 6}));
    EXPECT_EQ(groups[2].layers, (std::vector<int32_t>{2}));
    EXPECT_EQ(groups[4].layers, (std::vector<int32_t>{5}));
    for (const CacheGroup& group : groups) {
      EXPECT_EQ(group.page_data_bytes(), group.token_bytes() * page_tokens);
      EXPECT_EQ(group.page_data_bytes(),
                group.n_layers() * group.kv_heads * page_tokens * (group.k_dim + group.v_dim) * 2);
      EXPECT_GE(group.page_bytes(), group.page_data_bytes());
      EXPECT_LT(group.page_bytes(), group.page_data_bytes() + 256);
      EXPECT_EQ(group.page_bytes() % 256, 0);
    }
  }
  EXPECT_TRUE(cache_groups(ModelSpec(), DType::bf16, 16).empty());
}

}  // namespace
}  // namespace ashlar
