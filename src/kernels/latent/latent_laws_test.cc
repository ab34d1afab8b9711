// Bit for bit: a row's result depends on its own query and rows and on nothing else.

#include <gtest/gtest.h>

#include "kernels/latent/latent_testing.h"

namespace ashlar {
namespace {

struct Variant {
  LatentShape shape;
  DType dtype;
};

constexpr Variant kVariants[] = {{{16, 64, 16}, DType::bf16}, {{16, 64, 16}, DType::f8e4m3},
                                 {{7, 48, 16}, DType::bf16},  {{66, 24, 8}, DType::f8e4m3},
                                 {{3, 33, 5}, DType::f8e4m3}, {{5, 48, 16}, DType::f32}};

TEST(LatentLaws, ABatchOfOneEqualsABatchOfMany) {
  Random random(1);
  for (const Variant& v : kVariants) {
    const LatentCase all =
        random_latents(v.shape, {{1, 1300}, {5, 40}, {1, 1}, {20, 600}}, v.dtype, random);
    for (const Isa isa : available_isas()) {
      const std::vector<float> together = run_latent(latent_cpu(isa), all);
      std::vector<float> alone;
      for (size_t i = 0; i < all.rows.lengths.size(); ++i) {
        const LatentCase one = chunk_of(all, i, 0, all.rows.lengths[i].q_len);
        const std::vector<float> out = run_latent(latent_cpu(isa), one);
        alone.insert(alone.end(), out.begin(), out.end());
      }
      EXPECT_EQ(together, alone) << name(isa) << " " << text(all);
    }
  }
}

TEST(LatentLaws, APrefillEqualsItsChunks) {
  Random random(2);
  for (const Variant& v : kVariants) {
    const LatentCase whole = random_latents(v.shape, {{24, 540}}, v.dtype, random);
    for (const Isa isa : available_isas()) {
      const std::vector<float> expected = run_latent(latent_cpu(isa), whole, 16, 1);
      for (const int32_t chunk : {1, 7, 16}) {
        std::vector<float> actual;
        for (int32_t begin = 0; begin < 24; begin += chunk) {
          const LatentCase part = chunk_of(whole, 0, begin, std::min(24, begin + chunk));
          const std::vector<float> out = run_latent(latent_cpu(isa), part, 16, 1);
          actual.insert(actual.end(), out.begin(), out.end());
        }
        EXPECT_EQ(actual, expected) << name(isa) << " chunks of " << chunk << " " << text(whole);
      }
    }
  }
}

TEST(LatentLaws, PageSizesPlacesAndThreadsDoNotMatter) {
  Random random(3);
  for (const Variant& v : kVariants) {
    const LatentCase c = random_latents(v.shape, {{1, 1100}, {13, 90}, {2, 65}}, v.dtype, random);
    for (const Isa isa : available_isas()) {
      const std::vector<float> expected = run_latent(latent_cpu(isa), c, 1100, 1);
      for (const int32_t page_tokens : {1, 5, 64}) {
        EXPECT_EQ(run_latent(latent_cpu(isa), c, page_tokens, 3), expected)
            << name(isa) << " pages of " << page_tokens << " " << text(c);
      }
    }
  }
}

}  // namespace
}  // namespace ashlar
