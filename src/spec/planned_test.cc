// Models that can be planned: every spelling of their configs, and the values that matter to a
// cache but not to its bytes.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>

#include "spec/families/families.h"
#include "spec/groups.h"
#include "spec/testing.h"

namespace ashlar {
namespace {

std::string error_of(const Json& config) {
  const auto model = read_cache_spec(config);
  return model ? "" : model.error().text;
}

// What a cache keeps of a model, as text.
std::string kept(const ModelSpec& model) {
  std::string out;
  for (const CacheGroup& g : cache_groups(model, DType::bf16, 16)) {
    out += fmt::format("{} {}x({}+{}) w{} c{} s{} layers {}\n", name(g.kind), g.kv_heads, g.k_dim,
                       g.v_dim, g.window, g.chunk, g.state_bytes, fmt::join(g.layers, ","));
  }
  return out;
}

TEST(Planned, NestedModelsTakeWhatTheyLackFromAround) {
  const Json nested = config_file("gemma-3-4b.json");
  const ModelSpec model = planned(nested);
  EXPECT_EQ(model.eos_tokens, (std::vector<int32_t>{1, 106})) << "stands around the text model";
  EXPECT_EQ(model.hidden, 2560);
  Json flat = *nested.find("text_config");
  EXPECT_EQ(kept(planned(flat)), kept(model));
  // Without a type of its own the text model is what is around it.
  Json untyped = with(flat, "model_type", std::nullopt);
  EXPECT_EQ(kept(planned(with(nested, "text_config", untyped))), kept(model));
  EXPECT_TRUE(mentions(error_of(with(nested, "text_config", with(flat, "hidden_size", 0))),
                       "config.json: text_config: hidden_size = 0"));
  // A model that runs alone runs out of another's folder too, where its tensors have longer names.
  const Json inner = config_file("llama-3.1-8b.json");
  const Json outer = Json::Object{{"model_type", "wrapper"}, {"text_config", inner}};
  EXPECT_EQ(kept(planned(outer)), kept(planned(inner)));
  const auto runs = read_model_spec(outer);
  ASSERT_TRUE(runs);
  EXPECT_FALSE(runs->renamed_prefixes.empty());
}

TEST(Planned, SparseConfigsTakeTheirClassDefaults) {
  const ModelSpec model = planned(config_text(R"({"model_type": "gemma3", "text_config":
      {"hidden_size": 2560, "num_hidden_layers": 12, "sliding_window": 1024,
       "num_attention_heads": null}})"));
  EXPECT_EQ(kept(model),
            "window 4x(256+256) w1024 c0 s0 layers 0,1,2,3,4,6,7,8,9,10\n"
            "full 4x(256+256) w0 c0 s0 layers 5,11\n");
  EXPECT_EQ(model.vocab, 262208);
  EXPECT_TRUE(model.tied_head);
  EXPECT_EQ(attention_of(model.layers[0]).heads, 8);
  EXPECT_FLOAT_EQ(attention_of(model.layers[0]).scale, 1 / 16.0f);
}

TEST(Planned, RopesOfEverySpelling) {
  const Json flat = config_file("gemma-3-12b.json");
  const ModelSpec a = planned(flat);
  Json text = *flat.find("text_config");
  for (const char* key : {"rope_theta", "rope_local_base_freq", "rope_scaling"}) {
    text = with(text, key, std::nullopt);
  }
  const Json by_type = config_text(R"({"full_attention": {"rope_type": "linear", "factor": 8.0,
      "rope_theta": 1000000}, "sliding_attention": {"rope_type": "default", "rope_theta": 10000}})");
  const ModelSpec b = planned(with(text, "rope_parameters", by_type));
  EXPECT_EQ(a.ropes, b.ropes);
  ASSERT_EQ(a.ropes.size(), 2u);
  EXPECT_FLOAT_EQ(a.ropes[0].inv_freq[0], 1 / 8.0f);
  EXPECT_FLOAT_EQ(a.ropes[1].inv_freq[0], 1);

  const Json deepseek = config_file("deepseek-v3-r1.json");
  Json scaling = *deepseek.find("rope_scaling");
  scaling = with(with(scaling, "type", std::nullopt), "rope_type", "yarn");
  scaling = with(scaling, "rope_theta", *deepseek.find("rope_theta"));
  const Json resaved =
      with(with(deepseek, "rope_scaling", std::nullopt), "rope_parameters", scaling);
  const ModelSpec c = planned(deepseek), d = planned(resaved);
  EXPECT_EQ(c.ropes, d.ropes);
  EXPECT_EQ(c.ropes[0].style, RopeStyle::interleaved);
  EXPECT_FLOAT_EQ(c.ropes[0].amplitude, 1);
  for (const ModelSpec* model : {&c, &d}) {
    EXPECT_NEAR(std::get<LatentSpec>(model->layers[0].mixer).scale * std::sqrt(192.0),
                1.3689 * 1.3689, 2e-4);
  }
}

TEST(Planned, LatentsOfWrappersAndIndexes) {
  const ModelSpec wrapped = planned(config_file("kimi-k2.5.json"));
  EXPECT_EQ(wrapped.norm_eps, 1e-5f);
  EXPECT_EQ(kept(wrapped), kept(planned(config_file("kimi-k2-instruct.json"))));
  const auto sparse =
      std::get<LatentSpec>(planned(config_file("deepseek-v3.2.json")).layers[60].mixer);
  EXPECT_EQ(std::tie(sparse.index_dim, sparse.index_heads, sparse.index_topk, sparse.q_lora),
            std::tuple(128, 64, 2048, 1536));
  const auto lite =
      std::get<LatentSpec>(planned(config_file("deepseek-v2-lite.json")).layers[0].mixer);
  EXPECT_EQ(std::tie(lite.heads, lite.q_lora, lite.nope_dim, lite.v_dim),
            std::tuple(16, 0, 128, 128));
  const auto unrotated =
      std::get<LatentSpec>(planned(config_file("kimi-linear-48b-a3b.json")).layers[3].mixer);
  EXPECT_EQ(unrotated.rope, kNoRope);
}

TEST(Planned, ChunkedLocalLayers) {
  const Json base = config_text(R"({"model_type": "llama4", "text_config": {"hidden_size": 5120,
      "model_type": "llama4_text", "num_hidden_layers": 8, "num_attention_heads": 40,
      "num_key_value_heads": 8, "vocab_size": 202048, "rope_theta": 500000,
      "max_position_embeddings": 262144}})");
  const std::string expected =
      "chunk 8x(128+128) w0 c8192 s0 layers 0,1,2,4,5,6\n"
      "full 8x(128+128) w0 c0 s0 layers 3,7\n";
  EXPECT_EQ(kept(planned(base)), expected);
  const Json& text = *base.find("text_config");
  const Json bits = Json::Array{1, 1, 1, 0, 1, 1, 1, 0};
  EXPECT_EQ(kept(planned(with(text, "no_rope_layers", bits))), expected);
  EXPECT_EQ(kept(planned(with(text, "no_rope_layers", Json::Array{}))), expected);
  EXPECT_EQ(attention_of(planned(text).layers[3]).rope, kNoRope);
}

TEST(Planned, DraftsSayWhatTheyNeed) {
  const ModelSpec draft = planned(config_file("mimo-v2.5-pro-fp4-dflash.json"));
  ASSERT_TRUE(draft.draft);
  EXPECT_EQ(draft.draft->block_tokens, 8);
  EXPECT_EQ(draft.draft->taps, (std::vector<int32_t>{0, 15, 31, 47, 69}));
  EXPECT_EQ(kept(draft), "window 8x(128+128) w1024 c0 s0 layers 0,1,2,3,4\n");
  EXPECT_TRUE(attention_of(draft.layers[0]).sinks);
  EXPECT_EQ(draft.ropes[0].inv_freq.size(), 32u) << "half of 128 dims turn";
  const ModelSpec nested = planned(config_file("qwen3.8-27b-dflash2.json"));
  EXPECT_EQ(nested.draft->block_tokens, 8) << "block_size stands in dflash_config";
  EXPECT_EQ(planned(config_file("qwen3-8b-dflash-b16.json")).draft->block_tokens, 16);
  EXPECT_FALSE(planned(config_file("qwen3-8b.json")).draft);
}

TEST(Planned, WhatCannotBeIsNamed) {
  const struct {
    const char* file;
    const char* key;
    std::optional<Json> value;
    const char* expected;
  } kCases[] = {
      {"deepseek-v2-lite.json", "kv_lora_rank", std::nullopt, "kv_lora_rank is missing"},
      {"deepseek-v2-lite.json", "qk_rope_head_dim", 0, "qk_rope_head_dim = 0"},
      {"nemotron-h-8b.json", "hybrid_override_pattern", "M-M*", "expected 52 letters"},
      {"nemotron-h-8b.json", "mamba_num_heads", "many", "mamba_num_heads = \"many\""},
      {"bamba-9b.json", "attn_layer_indices", Json::Array{32}, "expected layers below 32"},
      {"bamba-9b.json", "attn_rotary_emb", 256, "exceeds the head"},
      {"granite-4.0-h-small.json", "layer_types", Json::Array{}, "a list of 40 strings"},
      {"jamba-v0.1.json", "mamba_expand", 65, "mamba_expand = 65"},
      {"qwen3-next-80b-a3b.json", "linear_num_value_heads", 24, "multiple of linear_num_key_heads"},
      {"qwen3-next-80b-a3b.json", "mamba_ssm_dtype", "int3", "int3"},
      {"gpt-oss-20b.json", "sliding_window", std::nullopt, "sliding_window is missing"},
      {"kimi-linear-48b-a3b.json", "mla_use_nope", false, "only true is known"},
      {"kimi-linear-48b-a3b.json", "linear_attn_config",
       Json::Object{{"num_heads", 2},
                    {"head_dim", 8},
                    {"short_conv_kernel_size", 4},
                    {"kda_layers", Json::Array{1, 2}},
                    {"full_attn_layers", Json::Array{2}}},
       "layer 2 stands twice"},
      {"qwen3-8b-dflash-b16.json", "dflash_config", Json::Object{}, "mask_token_id is missing"},
      {"gemma-3-1b.json", "query_pre_attn_scalar", 1e-300, "logits would be scaled by inf"},
      {"gemma-3-1b.json", "hidden_activation", "relu", "supported: \"gelu_pytorch_tanh\""},
      {"gemma-3-1b.json", "final_logit_softcapping", 30, "this family has none"},
      {"gemma-3-1b.json", "use_bidirectional_attention", true, "supported: false"},
      {"gpt-oss-20b.json", "hidden_act", "gelu", "supported: \"silu\""},
      {"gpt-oss-20b.json", "swiglu_limit", -7, "must exceed 0"},
      {"gpt-oss-20b.json", "num_experts_per_tok", 33, "top 33 of 32 experts"},
  };
  for (const auto& test : kCases) {
    const std::string error = error_of(with(config_file(test.file), test.key, test.value));
    EXPECT_TRUE(mentions(error, test.expected)) << test.file << ": " << error;
  }
}

}  // namespace
}  // namespace ashlar
