#include "weights/load.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "weights/convert.h"
#include "weights/testing.h"

namespace ashlar {
namespace {

bool mentions(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

// All weights as floats, in the order of the tree; checks that each view has its row's shape.
std::vector<std::vector<float>> values_of(const WeightTree<WeightRow>& rows,
                                          const LoadedWeights& loaded) {
  std::vector<const WeightRow*> order;
  WeightTree<char> ignored;
  zip_weights(rows, &ignored, [&](const WeightRow& row, char&) { order.push_back(&row); });
  std::vector<std::vector<float>> values;
  zip_weights(loaded.views, &ignored, [&](const ConstView& view, char&) {
    const WeightRow& row = *order[values.size()];
    values.emplace_back();
    EXPECT_EQ(static_cast<bool>(view), !row.sources.empty());
    if (!view) return;
    EXPECT_EQ(view.shape, row.shape) << row.sources[0].tensor;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(view.data) % static_cast<size_t>(size_of(view.dtype)),
              0u);
    for (int64_t i = 0; i < row.shape.elements(); ++i) {
      values.back().push_back(element(view.data, view.dtype, i));
    }
  });
  return values;
}

std::vector<std::vector<float>> expected_values(const WeightTree<WeightRow>& rows) {
  std::vector<std::vector<float>> values;
  WeightTree<char> ignored;
  zip_weights(rows, &ignored, [&](const WeightRow& row, char&) {
    values.emplace_back();
    for (int64_t i = 0; i < (row.sources.empty() ? 0 : row.shape.elements()); ++i) {
      values.back().push_back(test_value(row.sources.front().tensor, i));
    }
  });
  return values;
}

// Experts stored transposed, gate and up in turn; too narrow for MXFP4.
ModelSpec interleaved_spec() {
  return spec_of(R"({"model_type": "gpt_oss", "vocab_size": 11, "hidden_size": 8,
    "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 6,
    "sliding_window": 5, "intermediate_size": 3, "num_local_experts": 3,
    "num_experts_per_tok": 2, "attention_bias": true})");
}

Result<LoadedWeights> load(const Folder& folder, const ModelSpec& model,
                           const LoadOptions& options = {}) {
  return load_weights(folder.path(), model, weight_rows(model), options);
}

std::string error_of(const Folder& folder, const ModelSpec& model,
                     const LoadOptions& options = {}) {
  const auto loaded = load(folder, model, options);
  return loaded ? "" : loaded.error().text;
}

// A draft's own embedding of the mask token may be there or not; all else must be.
TEST(Load, ADraftMayBringItsMaskEmbedding) {
  const auto json = parse_json(R"({"model_type": "qwen3", "vocab_size": 11, "hidden_size": 8,
    "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4,
    "intermediate_size": 10, "block_size": 4,
    "dflash_config": {"mask_token_id": 10, "target_layer_ids": [0, 1]}})",
                               "config.json");
  const auto model = read_cache_spec(*json);
  ASSERT_TRUE(model) << model.error().text;
  TensorMap tensors = tensors_of(weight_rows(*model), false, "BF16");
  EXPECT_EQ(tensors.at("fc.weight").dims, (std::vector<int64_t>{8, 16}));
  EXPECT_FALSE(tensors.contains("model.embed_tokens.weight"));
  const Folder folder;
  for (const bool own : {true, false}) {
    folder.write("model.safetensors", file_of(tensors));
    const auto loaded = load(folder, *model);
    ASSERT_TRUE(loaded) << loaded.error().text;
    EXPECT_EQ(static_cast<bool>(loaded->views.mask_embedding), own);
    tensors.erase("mask_embedding");
  }
  tensors.erase("fc.weight");
  folder.write("model.safetensors", file_of(tensors));
  EXPECT_TRUE(mentions(error_of(folder, *model), "1 missing: fc.weight"));
}

TEST(Load, EveryTypeAndSpellingGivesTheSameWeights) {
  for (const ModelSpec& model :
       {dense_spec(), dense_spec(true), routed_spec(), interleaved_spec()}) {
    const auto rows = weight_rows(model);
    const auto expected = expected_values(rows);
    for (const bool stacked : {false, true}) {
      for (const char* dtype : {"F32", "BF16", "F16"}) {
        const Folder folder;
        folder.write("model.safetensors", file_of(tensors_of(rows, stacked, dtype, dtype)));
        auto loaded = load(folder, model);
        ASSERT_TRUE(loaded) << loaded.error().text;
        const LoadedWeights moved = *std::move(loaded);
        EXPECT_EQ(values_of(rows, moved), expected) << dtype;
        for (const DType wanted : {DType::f32, DType::bf16, DType::f16}) {
          const auto converted = load(folder, model, {.matrix_dtype = wanted});
          ASSERT_TRUE(converted) << converted.error().text;
          EXPECT_EQ(converted->views.embedding.dtype, wanted);
          EXPECT_EQ(values_of(rows, *converted), expected) << dtype;
        }
      }
    }
  }
}

TEST(Load, ShardsGiveTheSameWeightsAsOneFile) {
  const ModelSpec model = routed_spec();
  const auto rows = weight_rows(model);
  std::array<TensorMap, 3> shards;
  Json::Object map;
  for (auto& [name, tensor] : tensors_of(rows, false, "BF16")) {
    const size_t shard = map.size() % 3;
    map.emplace_back(name, fmt::format("s{}", shard));
    shards[shard][name] = tensor;
  }
  const Folder folder;
  for (size_t i = 0; i < 3; ++i) folder.write(fmt::format("s{}", i), file_of(shards[i]));
  folder.write("model.safetensors.index.json", Json(Json::Object{{"weight_map", map}}).dump());
  const auto loaded = load(folder, model);
  ASSERT_TRUE(loaded) << loaded.error().text;
  EXPECT_EQ(values_of(rows, *loaded), expected_values(rows));
}

TEST(Load, WhatFitsIsNotCopied) {
  const ModelSpec model = routed_spec();
  const auto rows = weight_rows(model);
  const Folder folder;
  folder.write("model.safetensors", file_of(tensors_of(rows, true, "BF16")));
  const auto loaded = load(folder, model);
  ASSERT_TRUE(loaded) << loaded.error().text;
  int64_t matrix_bytes = 0, n_vectors = 0;
  WeightTree<char> ignored;
  zip_weights(rows, &ignored, [&](const WeightRow& row, char&) {
    if (row.sources.empty()) return;
    if (row.form != WeightForm::vector) matrix_bytes += row.shape.elements() * 2;
    n_vectors += row.form == WeightForm::vector;
  });
  EXPECT_EQ(loaded->mapped_bytes, matrix_bytes);
  EXPECT_EQ(loaded->owned_bytes, n_vectors * 64) << "each of these vectors fits 64 bytes";
  const auto* stacked = loaded->checkpoint.find("model.layers.1.mlp.experts.gate_up_proj");
  ASSERT_NE(stacked, nullptr);
  EXPECT_EQ(loaded->views.layers[1].moe.experts[0].gate.data, stacked->data);
  EXPECT_EQ(loaded->views.layers[1].moe.experts[2].up.data, stacked->data + 5 * 3 * 8 * 2);
  EXPECT_EQ(loaded->views.layers[0].mixer_norm.dtype, DType::f32);
}

// Two projections whose rows alternate in one tensor, three rows of two columns a run; and a norm
// that is stored as its difference from one.
TEST(Load, RunsAreGatheredAndNormsCompleted) {
  ModelSpec model;
  WeightTree<WeightRow> rows;
  const Shape fused{12, 2};
  rows.embedding = {.sources = {{"fused", fused, 0, 6, 12}}, .shape = {6, 2}};
  rows.head = {.sources = {{"fused", fused, 6, 6, 12}}, .shape = {6, 2}};
  rows.norm = {.sources = {{"norm", {2}}}, .shape = {2}, .form = WeightForm::vector, .add = 1};
  std::vector<float> values(24);
  std::iota(values.begin(), values.end(), 0.0f);
  for (const char* dtype : {"BF16", "F32"}) {
    const Folder folder;
    folder.write("model.safetensors", file_of({{"fused", tensor_of(dtype, {12, 2}, values)},
                                               {"norm", tensor_of("BF16", {2}, {0.5f, -0.25f})}}));
    const auto loaded = load_weights(folder.path(), model, rows, {.matrix_dtype = DType::f32});
    ASSERT_TRUE(loaded) << loaded.error().text;
    EXPECT_EQ(values_of(rows, *loaded),
              (std::vector<std::vector<float>>{{0, 1, 2, 3, 4, 5, 12, 13, 14, 15, 16, 17},
                                               {1.5f, 0.75f},
                                               {6, 7, 8, 9, 10, 11, 18, 19, 20, 21, 22, 23},
                                               {},
                                               {},
                                               {}}));
  }
}

TEST(Load, LongerNamesOfANestedModelAreFound) {
  ModelSpec model = dense_spec();
  const auto rows = weight_rows(model);
  model.renamed_prefixes = {{"model.language_model.", "model."}, {"language_model.", ""}};
  model.ignored_prefixes = {"visual.", "model.layers.2."};
  for (const bool inner : {false, true}) {
    TensorMap tensors;
    for (auto& [name, tensor] : tensors_of(rows, false, "BF16")) {
      const std::string longer = inner && name.starts_with("model.")
                                     ? "model.language_model." + name.substr(6)
                                     : (inner ? name : "language_model." + name);
      tensors[longer] = tensor;
    }
    tensors["visual.patch"] = tensor_of("F32", {1}, {0});
    tensors["language_model.model.layers.2.enorm"] = tensor_of("F32", {1}, {0});
    const Folder folder;
    folder.write("model.safetensors", file_of(tensors));
    const auto loaded = load_weights(folder.path(), model, rows, {});
    ASSERT_TRUE(loaded) << loaded.error().text;
    EXPECT_EQ(values_of(rows, *loaded), expected_values(rows));
  }
}

TEST(Load, MisalignedTensorsAreCopied) {
  const ModelSpec model = dense_spec();
  const auto rows = weight_rows(model);
  for (const char* dtype : {"BF16", "F32"}) {
    for (const size_t padding : {1, 2, 3}) {
      const Folder folder;
      folder.write("model.safetensors", file_of(tensors_of(rows, false, dtype, dtype), padding));
      const auto loaded = load(folder, model);
      ASSERT_TRUE(loaded) << loaded.error().text;
      EXPECT_EQ(values_of(rows, *loaded), expected_values(rows)) << dtype << " " << padding;
      EXPECT_EQ(loaded->mapped_bytes == 0, padding != 2 || dtype == std::string("F32"));
    }
  }
}

TEST(Load, ThreadsAndTouchingChangeNothing) {
  const ModelSpec model = routed_spec();
  const auto rows = weight_rows(model);
  const Folder folder;
  folder.write("model.safetensors", file_of(tensors_of(rows, true, "F16")));
  Pool pool(3);
  for (const bool touch : {false, true}) {
    std::vector<std::pair<int64_t, int64_t>> reports;
    const auto loaded =
        load(folder, model,
             {.matrix_dtype = touch ? std::optional<DType>() : DType::bf16,
              .touch_pages = touch,
              .pool = &pool,
              .progress = [&](int64_t done, int64_t total) { reports.emplace_back(done, total); }});
    ASSERT_TRUE(loaded) << loaded.error().text;
    EXPECT_EQ(values_of(rows, *loaded), expected_values(rows));
    ASSERT_FALSE(reports.empty());
    EXPECT_EQ(reports.back().first, reports.back().second);
    EXPECT_GT(reports.back().second, 0);
    for (size_t i = 1; i < reports.size(); ++i) EXPECT_GT(reports[i].first, reports[i - 1].first);
  }
}

TEST(Load, AllDifferencesAreToldTogether) {
  const ModelSpec model = routed_spec();
  const auto rows = weight_rows(model);
  TensorMap tensors = tensors_of(rows, true, "BF16");
  tensors.erase("model.norm.weight");
  tensors.erase("model.layers.1.mlp.experts.down_proj");
  tensors["model.layers.0.self_attn.q_proj.weight"].dims = {6, 16};
  tensors["model.layers.1.mlp.experts.gate_up_proj"].dims = {3, 3, 2, 8};
  tensors["extra"] = tensor_of("F32", {1}, {1});
  tensors["model.mtp.layers.0.x"] = tensor_of("F32", {1}, {1});
  tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = tensor_of("F32", {1}, {1});
  tensors["model.embed_tokens.weight"] = {"F8_E4M3", {11, 8}, std::string(88, '\0')};
  const Folder folder;
  folder.write("model.safetensors", file_of(tensors));
  const auto loaded = load(folder, model);
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().code, Code::invalid);
  const std::string& text = loaded.error().text;
  EXPECT_TRUE(text.starts_with(folder.path() + ": the weights do not fit config.json:")) << text;
  EXPECT_TRUE(mentions(text,
                       "4 missing: model.norm.weight, "
                       "model.layers.1.mlp.experts.0.down_proj.weight or "
                       "model.layers.1.mlp.experts.down_proj, "))
      << text;
  EXPECT_TRUE(mentions(text, "1 unexpected: extra\n")) << text;
  EXPECT_TRUE(mentions(text,
                       "2 of another shape: model.layers.0.self_attn.q_proj.weight: "
                       "checkpoint has [6, 16], config asks for [12, 8], "
                       "model.layers.1.mlp.experts.gate_up_proj: checkpoint has "
                       "[3, 3, 2, 8], config asks for [3, 6, 8]\n"))
      << text;
  EXPECT_TRUE(mentions(text,
                       "1 of an unsupported type (float32, bfloat16 and float16 are "
                       "supported): model.embed_tokens.weight is stored as F8_E4M3"))
      << text;
}

TEST(Load, BothSpellingsAtOnceAreTooMany) {
  const ModelSpec model = routed_spec();
  TensorMap tensors = tensors_of(weight_rows(model), true, "BF16");
  tensors.merge(tensors_of(weight_rows(model), false, "BF16"));
  const Folder folder;
  folder.write("model.safetensors", file_of(tensors));
  EXPECT_TRUE(mentions(error_of(folder, model),
                       "3 unexpected: "
                       "model.layers.1.mlp.experts.down_proj"))
      << error_of(folder, model);
}

TEST(Load, ATiedModelMayStillStoreItsHead) {
  const Folder folder;
  TensorMap tensors = tensors_of(weight_rows(dense_spec(false)), false, "BF16");
  folder.write("model.safetensors", file_of(tensors));
  const auto loaded = load(folder, dense_spec(true));
  ASSERT_TRUE(loaded) << loaded.error().text;
  EXPECT_FALSE(loaded->views.head);
  tensors.erase("lm_head.weight");
  folder.write("model.safetensors", file_of(tensors));
  EXPECT_TRUE(mentions(error_of(folder, dense_spec(false)), "1 missing: lm_head.weight"));
}

TEST(Load, IgnoredTensorsMayBeAnything) {
  const ModelSpec model = routed_spec();
  TensorMap tensors = tensors_of(weight_rows(model), false, "BF16");
  tensors["visual.patch"] = {"C64", {1, 1, 1, 1, 1, 2}, std::string(16, '\xff')};
  tensors["visual.second"] = tensors["visual.patch"];
  tensors["a.rotary_emb.inv_freq"] = {"F64", {}, std::string(8, '\xff')};
  const Folder folder;
  folder.write("model.safetensors", file_of(tensors));
  const auto loaded = load(folder, model);
  ASSERT_TRUE(loaded) << loaded.error().text;
  EXPECT_EQ(loaded->skipped.n, 3);
  EXPECT_EQ(loaded->skipped.bytes, 16 + 16 + 8);
  EXPECT_EQ(loaded->skipped.rules, (std::vector<std::string>{".rotary_emb.inv_freq", "visual."}));
}

TEST(Load, VectorsMustBeFinite) {
  const ModelSpec model = dense_spec();
  for (const char* dtype : {"F32", "BF16", "F16"}) {
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      const std::string name = "model.layers.1.self_attn.k_norm.weight";
      TensorMap tensors = tensors_of(weight_rows(model), false, "BF16");
      tensors[name] = tensor_of(dtype, {4}, {1, 1, bad, bad});
      const Folder folder;
      folder.write("model.safetensors", file_of(tensors));
      EXPECT_TRUE(mentions(error_of(folder, model), name + ": element 2 is "))
          << error_of(folder, model);
    }
  }
}

TEST(Load, ValuesThatATypeCannotHoldAreRefused) {
  const ModelSpec model = dense_spec();
  const std::string name = "model.layers.0.mlp.up_proj.weight";
  TensorMap tensors = tensors_of(weight_rows(model), false, "F32");
  std::vector<float> values(80, 1.0f);
  values[7] = std::numeric_limits<float>::infinity();  // infinity stays what it is
  values[33] = -70000.0f;
  tensors[name] = tensor_of("F32", {10, 8}, values);
  const Folder folder;
  folder.write("model.safetensors", file_of(tensors));
  EXPECT_EQ(error_of(folder, model), "");
  EXPECT_EQ(error_of(folder, model, {.matrix_dtype = DType::bf16}), "");
  const std::string error = error_of(folder, model, {.matrix_dtype = DType::f16});
  EXPECT_TRUE(mentions(error, name + ": element 33 is -70000, which float16 cannot hold")) << error;
}

TEST(Load, WhatIsNotBuiltIsUnsupported) {
  ModelSpec model = dense_spec();
  const Folder folder;
  TensorMap tensors = tensors_of(weight_rows(model), false, "F32");
  const auto fp8 = load(folder, model, {.matrix_dtype = DType::f8e4m3});
  EXPECT_EQ(fp8.error().code, Code::unsupported);
  EXPECT_TRUE(mentions(fp8.error().text, "float8_e4m3"));
  tensors["model.norm.weight"] = {"F64", {8}, std::string(64, '\0')};
  folder.write("model.safetensors", file_of(tensors));
  const auto f64 = load(folder, model);
  EXPECT_EQ(f64.error().code, Code::unsupported);
  EXPECT_TRUE(mentions(f64.error().text, "model.norm.weight is stored as F64"));
  model.quantization.refusal = "quant_method = \"x\": supported: \"fp8\"";
  const auto quantised = load(folder, model);
  EXPECT_EQ(quantised.error().code, Code::unsupported);
  EXPECT_TRUE(mentions(quantised.error().text, "cannot be loaded: quant_method = \"x\""));
}

TEST(Convert, EveryValueOf16BitsConvertsAsTheScalarsDo) {
  std::vector<uint16_t> all(65536);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint16_t>(i);
  const std::string shifted = "x" + bytes_of(all);  // misaligned on purpose
  const std::byte* source = as_bytes(shifted).data() + 1;
  std::vector<float> wide(all.size());
  std::vector<uint16_t> narrow(all.size());
  auto* wide_bytes = reinterpret_cast<std::byte*>(wide.data());
  auto* narrow_bytes = reinterpret_cast<std::byte*>(narrow.data());
  const auto bits = [](float value) { return std::bit_cast<uint32_t>(value); };

  EXPECT_EQ(convert_elements(source, DType::bf16, wide_bytes, DType::f32, 65536), -1);
  for (size_t i = 0; i < all.size(); ++i) EXPECT_EQ(bits(wide[i]), bits(to_float(Bf16{all[i]})));
  EXPECT_EQ(convert_elements(source, DType::f16, wide_bytes, DType::f32, 65536), -1);
  for (size_t i = 0; i < all.size(); ++i) EXPECT_EQ(bits(wide[i]), bits(to_float(F16{all[i]})));
  EXPECT_EQ(convert_elements(source, DType::f16, narrow_bytes, DType::bf16, 65536), -1);
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(narrow[i], to_bf16(to_float(F16{all[i]})).bits);
  }
  EXPECT_EQ(convert_elements(source, DType::bf16, narrow_bytes, DType::bf16, 65536), -1);
  EXPECT_EQ(narrow, all);
}

TEST(Convert, OverflowNamesTheFirstElement) {
  const std::vector<float> values = {1, std::numeric_limits<float>::infinity(), 65519, -65520,
                                     1e9f};
  std::vector<uint16_t> out(values.size());
  const auto convert = [&](DType to) {
    return convert_elements(reinterpret_cast<const std::byte*>(values.data()), DType::f32,
                            reinterpret_cast<std::byte*>(out.data()), to, 5);
  };
  EXPECT_EQ(convert(DType::f16), 3);
  EXPECT_EQ(convert(DType::bf16), -1);
  EXPECT_EQ(find_not_finite(values.data(), 5), 1);
  EXPECT_EQ(find_not_finite(values.data(), 1), -1);
}

}  // namespace
}  // namespace ashlar
