// Experts as the released checkpoints store them, MXFP4 codes with their scales, against the same
// numbers in bf16 under transformers' names: one model, two spellings.

#include <cmath>

#include "checkpoint.h"
#include "spec/weights.h"
#include "weights/load.h"
#include "weights/testing.h"

namespace ashlar {
namespace {

constexpr const char* kSource = "tests/goldens/models/gpt-oss-yarn";
constexpr float kCodes[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};

TensorMap tensors_in(const std::string& folder) {
  const auto checkpoint = Checkpoint::open(source_path(folder));
  CHECK(checkpoint, "{}", checkpoint ? "" : checkpoint.error().text);
  TensorMap tensors;
  for (const CheckpointTensor& tensor : checkpoint->tensors()) {
    const TensorEntry& entry = *tensor.entry;
    tensors[entry.name] = {entry.type->name, entry.dims,
                           std::string(reinterpret_cast<const char*>(tensor.data),
                                       static_cast<size_t>(entry.end - entry.begin))};
  }
  return tensors;
}

// The code nearest to a value of at most 6 or so.
uint8_t code_of(float value) {
  uint8_t best = 0;
  for (uint8_t i = 1; i < 8; ++i) {
    if (std::abs(std::abs(value) - kCodes[i]) < std::abs(std::abs(value) - kCodes[best])) best = i;
  }
  return static_cast<uint8_t>(best | (value < 0 ? 8 : 0));
}

// A tensor [E, K, N] of bf16, as codes [E, N, K/32, 16] with scales [E, N, K/32]; its own numbers
// become those that the codes mean.
struct Quantised {
  TensorData codes, scales;

  explicit Quantised(TensorData* tensor) {
    const int64_t experts = tensor->dims[0], k = tensor->dims[1], n = tensor->dims[2];
    CHECK(tensor->dtype == "BF16" && k % kScaleGroup == 0);
    codes = {"U8", {experts, n, k / kScaleGroup, 16}, {}};
    scales = {"U8", {experts, n, k / kScaleGroup}, {}};
    auto* values = reinterpret_cast<Bf16*>(tensor->bytes.data());
    for (int64_t row = 0; row < experts * n; ++row) {
      for (int64_t group = 0; group < k; group += kScaleGroup) {
        quantise(values + (row / n * k + group) * n + row % n, n);
      }
    }
  }

 private:
  // The 32 numbers that lie `stride` apart.
  void quantise(Bf16* values, int64_t stride) {
    float largest = 1e-30f;
    for (int64_t i = 0; i < kScaleGroup; ++i) {
      largest = std::max(largest, std::abs(to_float(values[i * stride])));
    }
    const int exponent = std::ilogb(largest) - 2;
    scales.bytes.push_back(static_cast<char>(exponent + 127));
    for (int64_t i = 0; i < kScaleGroup; ++i) {
      Bf16& value = values[i * stride];
      const uint8_t code = code_of(std::ldexp(to_float(value), -exponent));
      const float meant = std::ldexp(kCodes[code & 7], exponent);
      value = to_bf16((code & 8) != 0 ? -meant : meant);
      if (i % 2 == 0) codes.bytes.push_back(0);
      codes.bytes.back() = static_cast<char>(codes.bytes.back() | code << (i % 2 * 4));
    }
  }
};

struct Spellings {
  TensorMap released, twin;

  Spellings() : twin(tensors_in(kSource)) {
    for (auto& [name, tensor] : twin) {
      if (!name.ends_with("gate_up_proj") && !name.ends_with("down_proj")) {
        released[name] = tensor;
        continue;
      }
      Quantised quantised(&tensor);
      released[name + "_blocks"] = std::move(quantised.codes);
      released[name + "_scales"] = std::move(quantised.scales);
    }
  }
};

Json config_of(bool released) {
  Json config = read_test_json(std::string(kSource) + "/config.json");
  if (released) {
    config.as_object().emplace_back("quantization_config", Json::Object{{"quant_method", "mxfp4"}});
  }
  return config;
}

void write(const Folder& folder, const TensorMap& tensors, bool released) {
  folder.write("config.json", config_of(released).dump());
  folder.write("model.safetensors", file_of(tensors));
}

std::vector<Outcome> outcomes_of(const Folder& folder, ModelFlags flags) {
  flags.model = folder.path();
  Session session = open_checkpoint(flags);
  const Json json = read_test_json(std::string(kSource) + "/golden.json");
  std::vector<Request> requests;
  for (const Json& prompt : json.find("prompts")->as_array()) {
    requests.push_back(
        {.tokens = ids_of(*prompt.find("tokens")), .max_tokens = 1, .want_prompt_nll = true});
  }
  return run_all(*session.engine, std::move(requests));
}

double mean_difference(const std::vector<Outcome>& a, const std::vector<Outcome>& b) {
  double sum = 0;
  int64_t n = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    CHECK(a[i].nll.size() == b[i].nll.size() && a[i].error.empty(), "{}", a[i].error);
    for (size_t t = 0; t < a[i].nll.size(); ++t, ++n) sum += std::abs(a[i].nll[t] - b[i].nll[t]);
  }
  return sum / static_cast<double>(n);
}

TEST(Mxfp4, CodesAndWhatTheyMeanGiveTheSameLosses) {
  const Spellings spellings;
  const Folder released, twin;
  write(released, spellings.released, true);
  write(twin, spellings.twin, false);
  const ModelFlags kFloat = {.dtype = "float32", .kv_cache_dtype = "float32"};
  const auto exact = outcomes_of(twin, kFloat);
  EXPECT_LE(mean_difference(outcomes_of(released, kFloat), exact), 2e-5);
  EXPECT_LE(mean_difference(outcomes_of(released, {}), outcomes_of(twin, {})), 3e-2);
}

TEST(Mxfp4, CodesStayWhereTheyLie) {
  const Spellings spellings;
  const Folder folder;
  write(folder, spellings.released, true);
  const auto model = read_model_spec(config_of(true));
  ASSERT_TRUE(model) << model.error().text;
  for (const std::optional<DType> type : {std::optional<DType>(), std::optional(DType::f32)}) {
    const auto loaded = load_weights(folder.path(), *model, weight_rows(*model),
                                     {.matrix_dtype = type, .touch_pages = true});
    ASSERT_TRUE(loaded) << loaded.error().text;
    const auto* codes = loaded->checkpoint.find("model.layers.1.mlp.experts.gate_up_proj_blocks");
    const auto* scales = loaded->checkpoint.find("model.layers.1.mlp.experts.gate_up_proj_scales");
    const MlpTree<Matrix>& expert = loaded->views.layers[1].moe.experts[2];
    EXPECT_EQ(expert.gate.data, codes->data + 2 * 64 * 32);
    EXPECT_EQ(expert.up.data, expert.gate.data + 32);
    EXPECT_EQ(expert.up.scales.data, scales->data + 2 * 64 * 2 + 2);
    EXPECT_EQ(expert.up.stride(0), 2 * 32);
    EXPECT_EQ(expert.up.scales.stride(0), 2 * 2);
    EXPECT_EQ(expert.down.shape, (Shape{64, 16}));
    EXPECT_EQ(expert.down.width(), 32);
  }
}

TEST(Mxfp4, WhatDoesNotFitIsNamed) {
  const Spellings spellings;
  const std::string name = "model.layers.0.mlp.experts.down_proj";
  const auto error_of = [](const TensorMap& tensors) {
    const Folder folder;
    write(folder, tensors, true);
    const auto model = read_model_spec(config_of(true));
    CHECK(model);
    const auto loaded = load_weights(folder.path(), *model, weight_rows(*model), {});
    return loaded ? std::string() : loaded.error().text;
  };
  TensorMap tensors = spellings.released;
  tensors.erase(name + "_scales");
  EXPECT_NE(error_of(tensors).find(name + "_scales"), std::string::npos) << error_of(tensors);
  tensors = spellings.released;
  tensors[name + "_blocks"].dims = {6, 64, 2, 8};
  EXPECT_NE(error_of(tensors).find("config asks for [6, 64, 1, 16]"), std::string::npos);
  tensors[name + "_blocks"] = spellings.released.at(name + "_blocks");
  tensors[name + "_scales"].dtype = "I8";
  EXPECT_NE(error_of(tensors).find(name + "_scales is stored as I8"), std::string::npos);
}

}  // namespace
}  // namespace ashlar
