#include "weights/kv_scales.h"

#include <gtest/gtest.h>

namespace ashlar {
namespace {

TEST(KvScales, NamesOfTheCacheAreNoWeights) {
  const std::string layer = "model.layers.3.self_attn.";
  for (const char* name :
       {"k_proj.k_scale", "v_proj.v_scale", "k_scale", "v_scale", "qkv_proj.k_scale", "q_scale",
        "k_cache.scale", "v_cache.scale", "q.scale", "kv_scale", "k_zero_point"}) {
    EXPECT_TRUE(is_kv_scale(layer + name)) << name;
  }
  EXPECT_TRUE(is_kv_scale("backbone.layers.0.mixer.k_proj.k_scale"));
  for (const char* name :
       {"k_proj.weight", "k_proj.weight_scale", "k_proj.weight_scale_inv", "k_norm.weight"}) {
    EXPECT_FALSE(is_kv_scale(layer + name)) << name;
  }
  EXPECT_FALSE(is_kv_scale("model.layers.3.mlp.k_scale"));
}

}  // namespace
}  // namespace ashlar
