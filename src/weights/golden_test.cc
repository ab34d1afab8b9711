// Small checkpoints written by transformers, in every spelling we read: folders of
// tests/goldens/models and zoo.

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "weights/convert.h"
#include "weights/load.h"
#include "weights/testing.h"

namespace ashlar {
namespace {

std::vector<std::string> model_folders() {
  std::vector<std::string> folders;
  for (const char* place : {"/tests/goldens/models", "/zoo"}) {
    const std::string root = std::string(ASHLAR_SOURCE_DIR) + place;
    if (!std::filesystem::is_directory(root)) continue;
    for (const auto& entry : std::filesystem::directory_iterator(root)) {
      if (file_exists(entry.path() / "config.json")) folders.push_back(entry.path());
    }
  }
  std::sort(folders.begin(), folders.end());
  return folders;
}

// What the config describes, or why it cannot be built.
Result<ModelSpec> spec_in(const std::string& folder) {
  TRY(const std::string text, read_file(folder + "/config.json"));
  TRY(const Json json, parse_json(text, folder + "/config.json"));
  return read_model_spec(json);
}

TEST(Goldens, EveryCheckpointLoadsOrIsRefusedByItsConfig) {
  int n_loaded = 0;
  for (const std::string& folder : model_folders()) {
    const auto model = spec_in(folder);
    if (!model) {
      EXPECT_EQ(model.error().code, Code::unsupported) << folder << ": " << model.error().text;
      continue;
    }
    const auto rows = weight_rows(*model);
    const auto loaded = load_weights(folder, *model, rows, {});
    ASSERT_TRUE(loaded) << loaded.error().text;
    const auto as_bf16 =
        load_weights(folder, *model, rows, {.matrix_dtype = DType::bf16, .touch_pages = true});
    ASSERT_TRUE(as_bf16) << as_bf16.error().text;
    EXPECT_EQ(as_bf16->views.embedding.dtype, DType::bf16);
    WeightTree<char> ignored;
    zip_weights(loaded->views, &ignored, [&](const ConstView& view, char&) {
      if (view && !is_float(view.dtype)) return;
      for (int64_t i = 0; view && i < view.shape.elements(); ++i) {
        ASSERT_TRUE(std::isfinite(element(view.data, view.dtype, i))) << folder;
      }
    });
    ++n_loaded;
  }
  if (n_loaded == 0) GTEST_SKIP() << "no golden checkpoints in this tree";
  EXPECT_GE(n_loaded, 5);
}

std::vector<float> floats_of(const ConstView& view) {
  std::vector<float> values;
  for (int64_t i = 0; i < view.shape.elements(); ++i) {
    const bool f32 = view.dtype == DType::f32;
    values.push_back(f32 ? reinterpret_cast<const float*>(view.data)[i]
                         : to_float(reinterpret_cast<const Bf16*>(view.data)[i]));
  }
  return values;
}

// The same weights under transformers' keys and under the published checkpoints' keys. Those store
// the router as F32, and a router is used as stored, so values are compared, not bytes.
TEST(Goldens, TwinsHoldTheSameWeights) {
  const LoadOptions as_float{.matrix_dtype = DType::f32};
  int n_twins = 0;
  for (const std::string& folder : model_folders()) {
    const std::string twin = folder + "-hub";
    if (!file_exists(twin + "/config.json")) continue;
    const auto a_model = spec_in(folder), b_model = spec_in(twin);
    ASSERT_TRUE(a_model) << a_model.error().text;
    ASSERT_TRUE(b_model) << b_model.error().text;
    const auto a = load_weights(folder, *a_model, weight_rows(*a_model), as_float);
    const auto b = load_weights(twin, *b_model, weight_rows(*b_model), as_float);
    ASSERT_TRUE(a) << a.error().text;
    ASSERT_TRUE(b) << b.error().text;
    std::vector<ConstView> views;
    WeightTree<char> ignored;
    zip_weights(a->views, &ignored, [&](const ConstView& view, char&) { views.push_back(view); });
    size_t next = 0;
    zip_weights(b->views, &ignored, [&](const ConstView& view, char&) {
      const ConstView& other = views[next++];
      ASSERT_EQ(static_cast<bool>(view), static_cast<bool>(other));
      if (!view) return;
      ASSERT_EQ(view.shape, other.shape);
      EXPECT_EQ(floats_of(view), floats_of(other));
    });
    EXPECT_EQ(next, views.size());
    ++n_twins;
  }
  if (n_twins == 0) GTEST_SKIP() << "no twins in this tree";
}

// Codes with their scales, fused or not, are what the twin holds as bf16: exactly.
TEST(Goldens, CodesHoldWhatTheirTwinsHold) {
  int n_twins = 0, n_chunked = 0, n_codes = 0;
  for (const std::string& folder : model_folders()) {
    const std::string twin = folder + "-twin";
    if (!file_exists(twin + "/config.json")) continue;
    SCOPED_TRACE(folder);
    const auto a_model = spec_in(folder), b_model = spec_in(twin);
    ASSERT_TRUE(a_model) << a_model.error().text;
    ASSERT_TRUE(b_model) << b_model.error().text;
    const auto rows = weight_rows(*b_model);
    const auto a = load_weights(folder, *a_model, weight_rows(*a_model), {});
    const auto b = load_weights(twin, *b_model, rows, {});
    ASSERT_TRUE(a) << a.error().text;
    ASSERT_TRUE(b) << b.error().text;
    std::vector<Matrix> views;
    WeightTree<char> ignored;
    zip_weights(a->views, &ignored, [&](const Matrix& view, char&) { views.push_back(view); });
    size_t next = 0;
    zip_weights(b->views, &ignored, [&](const Matrix& expected, char&) {
      const Matrix& view = views[next++];
      ASSERT_EQ(static_cast<bool>(view), static_cast<bool>(expected));
      if (!view || expected.shape.rank != 2) return;
      ASSERT_EQ(view.shape.elements(), expected.shape.elements());
      n_chunked += view.chunks() > 1;
      n_codes += view.quantised();
      for (int64_t n = 0; n < expected.dim(0); ++n) {
        for (int64_t k = 0; k < expected.dim(1); ++k) {
          ASSERT_EQ(value_at(view, n, k), value_at(expected, n, k)) << next << " " << n << " " << k;
        }
      }
    });
    ++n_twins;
  }
  if (n_twins == 0) GTEST_SKIP() << "no twins in this tree";
  EXPECT_GE(n_twins, 4);
  EXPECT_EQ(n_chunked, 3 * (3 + 2)) << "q, k and v of every fused layer";
  EXPECT_GT(n_codes, 3 * 10);
}

}  // namespace
}  // namespace ashlar
