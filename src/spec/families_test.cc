#include "spec/families/families.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>

#include "spec/testing.h"
#include "spec/weights.h"

namespace ashlar {
namespace {

const char* const kMimoHub = R"({"model_type": "mimo_v2_flash", "vocab_size": 320,
  "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 1,
  "head_dim": 24, "v_head_dim": 16, "swa_num_attention_heads": 6, "swa_num_key_value_heads": 2,
  "swa_head_dim": 24, "swa_v_head_dim": 16, "intermediate_size": 96, "moe_intermediate_size": 12,
  "n_routed_experts": 8, "num_experts_per_tok": 3, "routed_scaling_factor": 1.7,
  "attention_value_scale": 0.612, "layernorm_epsilon": 1e-5, "rope_theta": 500000,
  "swa_rope_theta": 10000, "partial_rotary_factor": 0.334, "sliding_window": 17,
  "sliding_window_size": 17, "hybrid_layer_pattern": [0, 1, 0], "moe_layer_freq": [0, 1, 1],
  "add_swa_attention_sink_bias": true, "add_full_attention_sink_bias": false,
  "n_group": 1, "topk_group": 1, "topk_method": "noaux_tc", "scoring_func": "sigmoid",
  "norm_topk_prob": true, "n_shared_experts": null, "torch_dtype": "bfloat16"})";

const char* const kMimoTransformers = R"({"model_type": "mimo_v2_flash", "vocab_size": 320,
  "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 1,
  "head_dim": 24, "v_head_dim": 16, "intermediate_size": 96, "moe_intermediate_size": 12,
  "n_routed_experts": 8, "num_experts_per_tok": 3, "routed_scaling_factor": 1.7,
  "attention_value_scale": 0.612, "rms_norm_eps": 1e-5, "sliding_window": 17,
  "rope_parameters": {
    "full_attention": {"rope_type": "default", "rope_theta": 500000,
                       "partial_rotary_factor": 0.334},
    "sliding_attention": {"rope_type": "default", "rope_theta": 10000,
                          "partial_rotary_factor": 0.334}},
  "layer_types": ["full_attention", "sliding_attention", "full_attention"],
  "mlp_layer_types": ["dense", "sparse", "sparse"], "dtype": "bfloat16"})";

const char* const kLlama = R"({"model_type": "llama", "vocab_size": 32, "hidden_size": 16,
  "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
  "intermediate_size": 24, "max_position_embeddings": 128, "rms_norm_eps": 1e-6,
  "rope_theta": 10000, "tie_word_embeddings": false, "attention_bias": false, "mlp_bias": false,
  "hidden_act": "silu", "torch_dtype": "float16", "eos_token_id": [2, 3]})";

const char* const kQwen = R"({"model_type": "qwen3", "vocab_size": 32, "hidden_size": 16,
  "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
  "intermediate_size": 24, "use_sliding_window": true, "sliding_window": 9,
  "max_window_layers": 3})";

// Everything a spec says, as text, so that two can be compared and the difference read.
std::string describe(const ModelSpec& model) {
  std::string out = fmt::format("{} {} {} {} {} {} {}\n", model.vocab, model.hidden,
                                model.max_positions, model.norm_eps, model.tied_head,
                                name(model.dtype), fmt::join(model.eos_tokens, ","));
  for (const RopeSpec& rope : model.ropes) {
    out += fmt::format("rope {} {}\n", rope.amplitude, fmt::join(rope.inv_freq, ","));
  }
  for (const LayerSpec& layer : model.layers) {
    const AttentionSpec& a = attention_of(layer);
    out += fmt::format("attention {} {} {} {} window {} {} {} {} {} {} {} {} rope {}\n", a.heads,
                       a.kv_heads, a.k_dim, a.v_dim, a.window, a.scale, a.softcap, a.value_scale,
                       a.sinks, a.qk_norm, a.qkv_bias, a.o_bias, a.rope);
    if (const auto* moe = std::get_if<MoeMlp>(&layer.mlp)) {
      out += fmt::format("moe {} {} {} {} {} {} {} {} {}\n", moe->n_experts, moe->top_k,
                         moe->intermediate, static_cast<int>(moe->score), moe->correction_bias,
                         moe->n_group, moe->topk_group, moe->normalize, moe->scaling);
    } else {
      out += fmt::format("dense {}\n", std::get<DenseMlp>(layer.mlp).intermediate);
    }
  }
  WeightTree<char> ignored;
  zip_weights(weight_rows(model), &ignored, [&](const WeightRow& row, char&) {
    out += row.shape.text();
    for (const WeightSource& source : row.sources) {
      out +=
          fmt::format(" {} {} {}", source.tensor, source.tensor_shape.text(), source.first_element);
    }
    out += "\n";
  });
  return out;
}

std::string error_of(const Json& config) {
  const auto model = read_model_spec(config);
  return model ? "" : model.error().text;
}

TEST(Families, TwoSpellingsAreOneModel) {
  const auto hub = read_model_spec(config_text(kMimoHub));
  const auto transformers = read_model_spec(config_text(kMimoTransformers));
  ASSERT_TRUE(hub) << hub.error().text;
  ASSERT_TRUE(transformers) << transformers.error().text;
  EXPECT_EQ(describe(*hub), describe(*transformers));
}

TEST(Families, FusedAndQuantisedConfigsAreRead) {
  for (const auto& [file, n_layers] :
       {std::pair("mimo-v2.5.json", 48u), std::pair("mimo-v2.5-pro.json", 70u)}) {
    const auto model = read_model_spec(config_file(file));
    ASSERT_TRUE(model) << model.error().text;
    EXPECT_EQ(model->quantization.method, "fp8");
    EXPECT_EQ(model->quantization.refusal, "");
    EXPECT_EQ(model->quantization.exempt.size(), n_layers + 1)
        << "every o_proj and a dangling name";
    EXPECT_TRUE(attention_of(model->layers[0]).fused_qkv);
    EXPECT_TRUE(attention_of(model->layers[1]).fused_qkv);
  }
}

TEST(Families, PublishedConfigsAreRead) {
  const auto mimo = read_model_spec(config_file("mimo-v2-flash.json"));
  ASSERT_TRUE(mimo) << mimo.error().text;
  EXPECT_EQ(mimo->layers.size(), 48u);
  EXPECT_EQ(mimo->quantization.method, "fp8");
  const AttentionSpec& full = attention_of(mimo->layers[5]);
  const AttentionSpec& window = attention_of(mimo->layers[6]);
  EXPECT_EQ(std::tie(full.heads, full.kv_heads, full.k_dim, full.v_dim, full.window, full.sinks),
            std::tuple(64, 4, 192, 128, 0, false));
  EXPECT_EQ(std::tie(window.heads, window.kv_heads, window.k_dim, window.window, window.sinks),
            std::tuple(64, 8, 192, 128, true));
  EXPECT_FALSE(full.fused_qkv);
  EXPECT_FLOAT_EQ(window.value_scale, 0.707f);
  EXPECT_FLOAT_EQ(window.scale, 1 / std::sqrt(192.0f));
  EXPECT_EQ(mimo->ropes[0].inv_freq.size(), 32u) << "int(192 * 0.334) = 64 dims turn";
  EXPECT_TRUE(std::holds_alternative<DenseMlp>(mimo->layers[0].mlp));
  EXPECT_EQ(std::get<MoeMlp>(mimo->layers[1].mlp).n_experts, 256);
  EXPECT_EQ(std::get<MoeMlp>(mimo->layers[47].mlp).scaling, 1.0f);

  const auto qwen = read_model_spec(config_file("qwen3-0.6b.json"));
  ASSERT_TRUE(qwen) << qwen.error().text;
  EXPECT_EQ(qwen->layers.size(), 28u);
  EXPECT_TRUE(qwen->tied_head);
  EXPECT_TRUE(attention_of(qwen->layers[0]).qk_norm);
  EXPECT_EQ(attention_of(qwen->layers[27]).window, 0);
  EXPECT_EQ(qwen->eos_tokens, std::vector<int32_t>{151645});

  const auto llama = read_model_spec(config_file("llama-3.1-8b.json"));
  ASSERT_TRUE(llama) << llama.error().text;
  EXPECT_EQ(attention_of(llama->layers[31]).k_dim, 128) << "hidden_size / num_attention_heads";
  EXPECT_EQ(llama->eos_tokens, (std::vector<int32_t>{128001, 128008, 128009}));
}

TEST(Families, WeightCountsAreThePublishedOnes) {
  const std::pair<const char*, double> kCases[] = {
      {"mimo-v2-flash.json", 308.9e9}, {"qwen3-0.6b.json", 0.596e9}, {"llama-3.1-8b.json", 8.03e9},
      {"gpt-oss-20b.json", 20.9e9},    {"gpt-oss-120b.json", 117e9}, {"gemma-3-1b.json", 1e9}};
  for (const auto& [file, expected] : kCases) {
    const auto model = read_model_spec(config_file(file));
    ASSERT_TRUE(model) << model.error().text;
    double n = 0;
    WeightTree<char> ignored;
    zip_weights(weight_rows(*model), &ignored, [&](const WeightRow& row, char&) {
      if (!row.sources.empty()) n += static_cast<double>(row.shape.elements());
    });
    EXPECT_NEAR(n / expected, 1, 0.01) << file << ": " << n;
  }
}

TEST(Families, StackedExpertsTileTheirTensors) {
  const auto model = read_model_spec(config_text(kMimoHub));
  ASSERT_TRUE(model) << model.error().text;
  const auto rows = weight_rows(*model);
  const auto& experts = rows.layers[1].moe.experts;
  ASSERT_EQ(experts.size(), 8u);
  int64_t gate_up = 0, down = 0;
  for (const MlpTree<WeightRow>& expert : experts) {
    for (const WeightRow* row : {&expert.gate, &expert.up}) {
      EXPECT_EQ(row->sources[1].tensor, "model.layers.1.mlp.experts.gate_up_proj");
      EXPECT_EQ(row->sources[1].first_element, gate_up);
      gate_up += row->shape.elements();
    }
    EXPECT_EQ(expert.down.sources[1].first_element, down);
    down += expert.down.shape.elements();
  }
  EXPECT_EQ(gate_up, experts[0].gate.sources[1].tensor_shape.elements());
  EXPECT_EQ(down, experts[0].down.sources[1].tensor_shape.elements());
  EXPECT_TRUE(rows.layers[0].moe.experts.empty());
  EXPECT_TRUE(rows.layers[0].attention.sinks.sources.empty());
  EXPECT_EQ(rows.layers[1].attention.sinks.sources.size(), 2u);
}

TEST(Families, WindowsOfQwenStartWhereTheConfigSays) {
  const auto windows = [](const Json& config) {
    std::vector<int32_t> out;
    const auto model = read_model_spec(config);
    CHECK(model.has_value(), "{}", model.error().text);
    for (const LayerSpec& layer : model->layers) out.push_back(attention_of(layer).window);
    return out;
  };
  const Json config = config_text(kQwen);
  EXPECT_EQ(windows(config), (std::vector<int32_t>{0, 0, 0, 9}));
  EXPECT_EQ(windows(with(config, "use_sliding_window", false)), std::vector<int32_t>(4, 0));
  EXPECT_EQ(windows(with(config, "sliding_window", nullptr)), std::vector<int32_t>(4, 0));
  EXPECT_EQ(windows(with(config, "layer_types",
                         Json::Array{"sliding_attention", "full_attention", "full_attention",
                                     "sliding_attention"})),
            (std::vector<int32_t>{9, 0, 0, 9}));
}

TEST(Families, AnUnknownArchitectureListsTheKnownOnes) {
  const auto model = read_model_spec(with(config_text(kLlama), "model_type", "gpt2"));
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().code, Code::unsupported);
  EXPECT_TRUE(mentions(model.error().text, "model_type = \"gpt2\"")) << model.error().text;
  for (const Family& family : families()) {
    EXPECT_TRUE(mentions(model.error().text, family.model_type)) << model.error().text;
  }
  EXPECT_TRUE(mentions(error_of(with(config_text(kLlama), "model_type", std::nullopt)),
                       "model_type is missing"));
  EXPECT_TRUE(mentions(error_of(Json(3)), "expected an object, found integer"));
}

TEST(Families, UnsupportedValuesAreNamed) {
  const struct {
    const char* base;
    const char* key;
    Json value;
    const char* expected;
  } kCases[] = {
      {kLlama, "hidden_act", "gelu", "hidden_act = \"gelu\": supported: \"silu\""},
      {kLlama, "torch_dtype", "int8", "\"int8\": known are float32"},
      {kLlama, "rope_scaling", Json::Object{{"rope_type", "dynamic"}, {"factor", 2}},
       "rope_type = \"dynamic\": supported: \"default\", \"linear\", \"llama3\", \"yarn\""},
      {kMimoHub, "scoring_func", "softmax", "scoring_func = \"softmax\""},
      {kMimoHub, "topk_method", "greedy", "topk_method = \"greedy\""},
      {kMimoHub, "n_shared_experts", 1, "n_shared_experts = 1"},
      {kMimoHub, "attention_projection_layout", "fused_kv", "supported: \"split\", \"fused_qkv\""},
      {kMimoHub, "rope_scaling", Json::Object{{"type", "yarn"}}, "rope_scaling = "},
      {kMimoTransformers, "layer_types", Json::Array{"full_attention", "chunked", "chunked"},
       "layer_types = "},
      {kQwen, "layer_types", Json::Array{"a", "b", "c", "d"}, "layer_types = "},
  };
  for (const auto& test : kCases) {
    const auto model = read_model_spec(with(config_text(test.base), test.key, test.value));
    ASSERT_FALSE(model) << test.key;
    EXPECT_EQ(model.error().code, Code::unsupported) << test.key;
    EXPECT_TRUE(mentions(model.error().text, test.expected)) << model.error().text;
  }
}

TEST(Families, MissingKeysAreNamed) {
  const std::pair<const char*, std::vector<const char*>> kCases[] = {
      {kLlama,
       {"vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
        "intermediate_size"}},
      {kQwen, {"vocab_size", "hidden_size", "num_attention_heads", "intermediate_size"}},
      {kMimoHub,
       {"num_key_value_heads", "n_routed_experts", "num_experts_per_tok", "moe_intermediate_size",
        "intermediate_size"}},
      {kMimoTransformers, {"num_key_value_heads", "n_routed_experts"}},
  };
  for (const auto& [base, keys] : kCases) {
    ASSERT_EQ(error_of(config_text(base)), "");
    for (const char* key : keys) {
      for (const std::optional<Json>& value :
           {std::optional<Json>(), std::optional<Json>(nullptr)}) {
        const std::string error = error_of(with(config_text(base), key, value));
        EXPECT_TRUE(mentions(error, std::string("config.json: ") + key)) << key << ": " << error;
      }
    }
  }
}

// Every key of every base config, given a value of another kind, is refused by name.
TEST(Families, WrongTypesAreNamed) {
  for (const char* base : {kLlama, kQwen, kMimoHub, kMimoTransformers}) {
    const Json config = config_text(base);
    for (const auto& [key, value] : config.as_object()) {
      if (key == "sliding_window_size" || key == "n_shared_experts") continue;  // not always read
      Json wrong = Json::Object{};
      if (value.is_object()) wrong = "text";
      const std::string error = error_of(with(config, key, wrong));
      EXPECT_TRUE(mentions(error, key)) << key << ": " << error;
    }
  }
}

TEST(Families, AbsurdSizesAreRefused) {
  const int64_t huge = int64_t{1} << 40;
  for (const char* base : {kLlama, kQwen, kMimoHub, kMimoTransformers}) {
    const Json config = config_text(base);
    for (const auto& [key, value] : config.as_object()) {
      if (!value.is_int() || key == "sliding_window_size" || key == "eos_token_id") continue;
      if (key.ends_with("theta")) continue;
      for (const int64_t absurd : {int64_t{-1}, huge, std::numeric_limits<int64_t>::min()}) {
        EXPECT_TRUE(mentions(error_of(with(config, key, absurd)), key)) << key << " " << absurd;
      }
      if (key == "max_window_layers") continue;
      EXPECT_NE(error_of(with(config, key, 0)), "") << key;
    }
  }
  const std::pair<const char*, Json> kNumbers[] = {{"layernorm_epsilon", -1e-5},
                                                   {"layernorm_epsilon", 1e300},
                                                   {"rope_theta", 1},
                                                   {"rope_theta", -1e6},
                                                   {"rope_theta", 1e300},
                                                   {"partial_rotary_factor", 0},
                                                   {"partial_rotary_factor", 1.5},
                                                   {"attention_value_scale", 1e300},
                                                   {"routed_scaling_factor", -1e300}};
  for (const auto& [key, value] : kNumbers) {
    EXPECT_TRUE(mentions(error_of(with(config_text(kMimoHub), key, value)), key)) << key;
  }
}

TEST(Families, RowsInMemoryAreBounded) {
  Json config = with(config_text(kMimoTransformers), "num_hidden_layers", 4096);
  config = with(config, "layer_types", std::nullopt);
  config = with(config, "mlp_layer_types", std::nullopt);
  const auto many = read_model_spec(with(config, "n_routed_experts", 65536));
  ASSERT_FALSE(many);
  EXPECT_EQ(many.error().code, Code::unsupported);
  EXPECT_TRUE(mentions(many.error().text,
                       "805109760 expert matrices in 4096 layers: at most 131072 are supported"))
      << many.error().text;
  const auto some = read_model_spec(with(config, "n_routed_experts", 10));
  EXPECT_TRUE(some) << some.error().text;
}

TEST(Families, InconsistentSizesAreRefused) {
  const struct {
    const char* base;
    const char* key;
    Json value;
    const char* expected;
  } kCases[] = {
      {kLlama, "num_key_value_heads", 3, "layer 0: 4 query heads do not divide among 3 KV heads"},
      {kQwen, "num_attention_heads", 256, "layer 0: 128 query heads per KV head: at most 64"},
      {kLlama, "hidden_size", 3, "layer 0: hidden size 3 leaves nothing for each of 4 heads"},
      {kLlama, "head_dim", 5, "layer 0: 6 rotary dims exceed the head's 5"},
      {kMimoHub, "swa_num_key_value_heads", 4, "layer 1: 6 query heads do not divide among 4"},
      {kMimoHub, "num_experts_per_tok", 9, "layer 1: top 9 of 8 experts"},
      {kMimoHub, "n_group", 3, "8 experts in 3 groups"},
      {kMimoHub, "topk_group", 2, "in 1 groups, 2 groups kept"},
      {kMimoHub, "n_group", 4, "layer 1: top 3 experts but the kept groups hold 2"},
      {kMimoHub, "hybrid_layer_pattern", Json::Array{0, 1}, "expected a list of 3 integers"},
      {kMimoHub, "hybrid_layer_pattern", Json::Array{0, 1, 2}, "expected only 0 and 1"},
      {kMimoHub, "moe_layer_freq", Json::Array{0, 1, std::numeric_limits<int64_t>::min()},
       "expected a list of integers"},
      {kLlama, "eos_token_id", Json::Array{1, -2}, "expected a token id or a list of them"},
  };
  for (const auto& test : kCases) {
    const auto model = read_model_spec(with(config_text(test.base), test.key, test.value));
    ASSERT_FALSE(model) << test.key;
    EXPECT_TRUE(mentions(model.error().text, test.expected)) << model.error().text;
  }
}

}  // namespace
}  // namespace ashlar
