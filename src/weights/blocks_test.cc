// Published shapes and made-up ones: which chunk counts fit, which scales a row has.

#include "weights/blocks.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "weights/convert.h"
#include "weights/load.h"
#include "weights/testing.h"

namespace ashlar {
namespace {

bool mentions(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

const FusedTensor kFull = {"full.qkv", {13568, 4096}, {108, 32}, 4};
const FusedTensor kWindowed = {"windowed.qkv", {14848, 4096}, {116, 32}, 8};

// The windowed layers of one published model fit 1, 2 and 4 chunks; its full layers only 4.
TEST(Chunks, PublishedShapesTell) {
  EXPECT_EQ(*detect_chunks({}), 1);
  EXPECT_EQ(*detect_chunks(std::vector{kFull}), 4);
  EXPECT_EQ(*detect_chunks(std::vector{kWindowed, kFull, kWindowed}), 4);
  EXPECT_EQ(*detect_chunks(std::vector<FusedTensor>{{"qkv", {27136, 6144}, {216, 48}, 8}}), 8);
}

TEST(Chunks, WhatShapesDoNotTellIsRefused) {
  const auto several = detect_chunks(std::vector{kWindowed});
  ASSERT_FALSE(several);
  EXPECT_TRUE(mentions(several.error().text,
                       "windowed.qkv [14848, 4096] with scales [116, 32]: 1 or 2 or 4 chunks fit"))
      << several.error().text;
  FusedTensor odd = kFull;
  odd.scales = {107, 32};
  const auto none = detect_chunks(std::vector{kWindowed, odd});
  ASSERT_FALSE(none);
  EXPECT_TRUE(mentions(none.error().text,
                       "full.qkv [13568, 4096] with scales [107, 32]: no number of chunks has such "
                       "scales (they would be [106, 32] for 1, [106, 32] for 2, [108, 32] for 4)"))
      << none.error().text;
  odd.scales = {108, 31};
  EXPECT_FALSE(detect_chunks(std::vector{odd}));
  const auto apart =
      detect_chunks(std::vector<FusedTensor>{kFull, {"other", {27136, 6144}, {216, 48}, 8}});
  ASSERT_FALSE(apart);
  EXPECT_TRUE(mentions(apart.error().text,
                       "is in 4 chunks, other [27136, 6144] with scales "
                       "[216, 48] in 8"))
      << apart.error().text;
}

// What a published config asks for is what the published files hold.
TEST(Chunks, PublishedConfigsAskForPublishedShapes) {
  const struct {
    const char* file;
    size_t layer;
    int64_t chunks, most_chunks;
    FusedTensor expected;
  } kCases[] = {{"mimo-v2.5.json", 0, 4, 4, kFull},
                {"mimo-v2.5.json", 1, 4, 8, kWindowed},
                {"mimo-v2.5-pro.json", 1, 8, 8, {"", {27136, 6144}, {216, 48}}}};
  for (const auto& test : kCases) {
    const auto text = read_file(std::string(ASHLAR_SOURCE_DIR) + "/tests/configs/" + test.file);
    ASSERT_TRUE(text);
    ModelSpec model = spec_of(*text);
    model.layers = {model.layers[test.layer]};
    const AttentionTree<WeightRow> rows = weight_rows(model).layers[0].attention;
    int64_t n_rows = 0;
    for (const WeightRow* row : {&rows.q, &rows.k, &rows.v}) {
      const WeightSource& source = row->sources.front();
      EXPECT_EQ(source.most_chunks, test.most_chunks);
      EXPECT_EQ(source.tensor_shape, Shape({test.expected.dims[0], test.expected.dims[1]}));
      EXPECT_EQ(scale_dims(source, test.chunks), test.expected.scales);
      const RowParts parts =
          row_parts(in_chunks(source, row->shape.elements(), test.chunks), row->shape[0]);
      EXPECT_EQ(parts.n, test.chunks);
      EXPECT_EQ(parts.first * test.chunks, n_rows);
      EXPECT_EQ(parts.stride, test.expected.dims[0] / test.chunks);
      EXPECT_EQ(code_use(parts, grid_of(source, test.chunks)), CodeUse::view);
      n_rows += row->shape[0];
    }
    EXPECT_EQ(n_rows, test.expected.dims[0]);
  }
}

// Without scales only one count can be told: where there is but one.
TEST(Chunks, ElementsTellNothing) {
  EXPECT_EQ(*detect_chunks(std::vector<FusedTensor>{{"qkv", {24, 8}, {}, 1}}), 1);
  const auto two = detect_chunks(std::vector<FusedTensor>{{"qkv", {24, 8}, {}, 2}});
  ASSERT_FALSE(two);
  EXPECT_TRUE(mentions(two.error().text, "qkv [24, 8]: 1 or 2 chunks fit")) << two.error().text;
}

// A row tree of one matrix that takes `source` of one tensor.
WeightTree<WeightRow> one_row(const WeightSource& source, Shape shape) {
  WeightTree<WeightRow> rows;
  rows.head = {.sources = {source}, .shape = shape};
  return rows;
}

ModelSpec fp8_model() {
  ModelSpec model;
  model.quantization.method = "fp8";
  return model;
}

struct Stored {
  std::vector<int64_t> dims, scale_dims;
  std::string codes;
  std::vector<float> scales;

  Stored(std::vector<int64_t> shape, std::vector<int64_t> of_scales)
      : dims(std::move(shape)), scale_dims(std::move(of_scales)) {
    int64_t n = 1, n_scales = 1;
    for (const int64_t dim : dims) n *= dim;
    for (const int64_t dim : scale_dims) n_scales *= dim;
    for (int64_t i = 0; i < n; ++i) codes.push_back(static_cast<char>(i * 37 % 251 % 126));
    for (int64_t i = 0; i < n_scales; ++i) {
      scales.push_back(0.25f + 0.125f * static_cast<float>(i));
    }
  }
  // Codes of an odd length put what follows them out of line.
  TensorMap tensors(const std::string& scale_type) const {
    return {{"w", {"F8_E4M3", dims, codes}},
            {std::string("w") + kScaleSuffix, tensor_of(scale_type, scale_dims, scales)}};
  }
};

// Of a tensor [E, N, K] or [N, K]: element (r, k) counting rows through all E.
float expected_at(const Stored& s, int64_t r, int64_t k) {
  const int64_t height = s.dims[s.dims.size() - 2], columns = s.dims.back();
  const ScaleGrid grid{.height = height, .columns = columns};
  return to_float(F8E4M3{static_cast<uint8_t>(s.codes[static_cast<size_t>(r * columns + k)])}) *
         s.scales[static_cast<size_t>(grid.row(r) * grid.block_columns() + k / kScaleBlock)];
}

TEST(Blocks, PiecesOfStackedTensorsKeepTheirScales) {
  const Stored stored({3, 200, 131}, {3, 2, 2});
  for (const char* type : {"F32", "BF16"}) {
    const Folder folder;
    folder.write("model.safetensors", file_of(stored.tensors(type)));
    for (const auto& [first, n] : std::vector<std::pair<int64_t, int64_t>>{
             {0, 200}, {0, 100}, {100, 100}, {200, 200}, {500, 100}, {530, 60}}) {
      const auto rows = one_row({"w", {3, 200, 131}, first * 131}, {n, 131});
      const auto loaded = load_weights(folder.path(), fp8_model(), rows, {});
      ASSERT_TRUE(loaded) << loaded.error().text;
      const Matrix& w = loaded->views.head;
      ASSERT_EQ(w.dtype, DType::f8e4m3);
      EXPECT_EQ(w.data, loaded->checkpoint.find("w")->data + first * 131) << "not copied";
      EXPECT_EQ(loaded->owned_bytes, round_up(w.scales.bytes(), 64));
      for (int64_t r = 0; r < n; ++r) {
        for (int64_t k = 0; k < 131; ++k) {
          ASSERT_EQ(value_at(w, r, k), expected_at(stored, first + r, k)) << first << " " << r;
        }
      }
    }
  }
}

// Runs of whole blocks stay codes; runs that cut blocks are multiplied out, to bf16 or what is
// asked for.
TEST(Blocks, RunsAreGatheredOrMultipliedOut) {
  for (const int64_t unit : {128, 64}) {
    const Stored stored({6 * unit, 40}, {ceil_div(6 * unit, 128), 1});
    const Folder folder;
    folder.write("model.safetensors", file_of(stored.tensors("F32")));
    const auto rows =
        one_row({"w", {6 * unit, 40}, unit * 40, unit * 40, 2 * unit * 40}, {3 * unit, 40});
    for (const auto asked : {std::optional<DType>(), std::optional(DType::f32)}) {
      const auto loaded = load_weights(folder.path(), fp8_model(), rows, {.matrix_dtype = asked});
      ASSERT_TRUE(loaded) << loaded.error().text;
      const Matrix& w = loaded->views.head;
      const bool blocks = unit == 128;
      EXPECT_EQ(w.dtype, blocks ? DType::f8e4m3 : asked.value_or(DType::bf16));
      EXPECT_EQ(loaded->mapped_bytes, 0);
      for (int64_t r = 0; r < 3 * unit; ++r) {
        for (int64_t k = 0; k < 40; ++k) {
          float expected = expected_at(stored, unit + r / unit * 2 * unit + r % unit, k);
          if (w.dtype == DType::bf16) expected = to_float(to_bf16(expected));
          ASSERT_EQ(value_at(w, r, k), expected) << unit << " " << r << " " << k;
        }
      }
    }
  }
}

std::string error_of(const TensorMap& tensors, const ModelSpec& model,
                     WeightForm form = WeightForm::matrix) {
  const Folder folder;
  folder.write("model.safetensors", file_of(tensors));
  auto rows = one_row({"w", {200, 131}}, {200, 131});
  rows.head.form = form;
  const auto loaded = load_weights(folder.path(), model, rows, {});
  return loaded ? "" : loaded.error().text;
}

TEST(Blocks, WrongScalesAreRefusedWithBothShapes) {
  const Stored stored({200, 131}, {2, 2});
  const std::string scales = std::string("w") + kScaleSuffix;
  TensorMap tensors = stored.tensors("F32");
  EXPECT_EQ(error_of(tensors, fp8_model()), "");
  tensors[scales].dims = {1, 4};
  EXPECT_TRUE(mentions(error_of(tensors, fp8_model()),
                       "w_scale_inv: checkpoint has [1, 4], w [200, 131] asks for [2, 2]"))
      << error_of(tensors, fp8_model());
  tensors = stored.tensors("F16");
  EXPECT_TRUE(mentions(error_of(tensors, fp8_model()), "w_scale_inv is stored as F16"));
  tensors.erase(scales);
  EXPECT_TRUE(mentions(error_of(tensors, fp8_model()), "1 missing: w_scale_inv"));
  Stored infinite = stored;
  infinite.scales[3] = std::numeric_limits<float>::infinity();
  EXPECT_TRUE(
      mentions(error_of(infinite.tensors("F32"), fp8_model()), "w_scale_inv: element 3 is inf"));
  tensors = stored.tensors("F32");
  EXPECT_TRUE(
      mentions(error_of(tensors, fp8_model(), WeightForm::exact), "w is stored as F8_E4M3"));
  EXPECT_TRUE(
      mentions(error_of(tensors, fp8_model(), WeightForm::table), "w is stored as F8_E4M3"));
}

TEST(Blocks, TheConfigMustAgree) {
  const Stored stored({200, 131}, {2, 2});
  const std::string denied = "1 stored as F8_E4M3 where config.json says they are not: w";
  EXPECT_TRUE(mentions(error_of(stored.tensors("F32"), {}), denied));
  ModelSpec exempt = fp8_model();
  exempt.quantization.exempt = {"w"};
  EXPECT_TRUE(mentions(error_of(stored.tensors("F32"), exempt), denied));
}

TEST(Blocks, OtherQuantisationsAreRefusedByKeyAndValue) {
  const auto refusal = [](const std::string& quantization) {
    return spec_of(fmt::format(R"({{"model_type": "qwen3", "vocab_size": 11, "hidden_size": 8,
      "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4,
      "intermediate_size": 10, "quantization_config": {}}})",
                               quantization))
        .quantization.refusal;
  };
  EXPECT_EQ(refusal(R"({"quant_method": "fp8", "weight_block_size": [128, 128],
                        "modules_to_not_convert": null})"),
            "");
  EXPECT_TRUE(mentions(refusal(R"({"quant_method": "awq"})"), "quant_method = \"awq\""));
  EXPECT_TRUE(mentions(refusal(R"({"quant_method": "fp8", "weight_block_size": [64, 128]})"),
                       "weight_block_size = [64,128]"))
      << refusal(R"({"quant_method": "fp8", "weight_block_size": [64, 128]})");
  EXPECT_TRUE(mentions(refusal(R"({"quant_method": "fp8"})"), "weight_block_size"));
  EXPECT_TRUE(mentions(refusal(R"({"quant_method": "fp8", "weight_block_size": [128, 128],
                                   "store_dtype": "mxfp4"})"),
                       "store_dtype = \"mxfp4\""));
}

}  // namespace
}  // namespace ashlar
