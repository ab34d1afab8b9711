// The bench's cases as data; needs no card.

#include "bench/attention_cuda/cases.h"

#include <gtest/gtest.h>

#include <set>
#include <string_view>

namespace ashlar::bench {
namespace {

TEST(BenchCases, NamesAreTheirOwnAndRatiosNameThem) {
  std::set<std::string_view> names;
  for (const Case& c : cases()) EXPECT_TRUE(names.insert(c.name).second) << c.name;
  for (const Ratio& ratio : ratios()) {
    EXPECT_EQ(names.count(ratio.of), 1u) << ratio.of;
    EXPECT_EQ(names.count(ratio.over), 1u) << ratio.over;
  }
}

TEST(BenchCases, ABodyOfHopperBeforeThePlainOneTakesEach) {
  for (const Case& c : cases()) {
    const auto pick = pick_attention({.kind = Device::Kind::cuda, .sm = 90}, need_of(c));
    ASSERT_TRUE(pick) << c.name << ": " << pick.error().text;
    EXPECT_STRNE(pick->row->name, "cuda_plain") << c.name;
  }
}

TEST(BenchCases, WorkIsBytesAndProductsOfWhatIsSeen) {
  const AttnShape shape{.heads = 8, .kv_heads = 2, .k_dim = 24, .v_dim = 16};
  Case c{.layer = {.shape = shape}, .batch = {{3, 2, 10}}};
  EXPECT_EQ(work_of(c).bytes, 3 * (2 * 10 * 40 * 2 + 2 * 8 * 40 * 2));
  EXPECT_EQ(work_of(c).flops, 3 * 2 * (10 + 9) * 8 * 40);
  c.layer.shape.window = 4;
  c.storage = {.dtype = DType::f8e4m3, .token_scales = true};
  EXPECT_EQ(work_of(c).bytes, 3 * (2 * 5 * (40 + 8) + 2 * 8 * 40 * 2));
  EXPECT_EQ(work_of(c).flops, 3 * 2 * (4 + 4) * 8 * 40);
  c = {.layer = {.form = AttentionForm::latent, .shape = {.heads = 8, .k_dim = 24, .v_dim = 16}},
       .batch = {{1, 1, 10}}};
  EXPECT_EQ(work_of(c).bytes, 10 * 24 * 2 + 8 * 40 * 2);
  EXPECT_EQ(work_of(c).flops, 2 * 10 * 8 * 40);
}

}  // namespace
}  // namespace ashlar::bench
