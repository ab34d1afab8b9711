// Every CUDA row of the table of backends, over the whole grid of its contract, against sums in
// double: each test asks every row what it takes. Skipped where there is no GPU.

#include <set>

#include "kernels/cuda/rows_testing.cuh"
#include "kernels/latent/latent_testing.h"

namespace ashlar {
namespace {

constexpr std::pair<int32_t, int32_t> kWidths[] = {{64, 64},   {96, 96}, {128, 128}, {192, 128},
                                                   {256, 256}, {48, 32}, {80, 80},   {20, 12}};

// Around every edge of chunks, pages, tiles and splits: single tokens and a few.
const std::vector<SeqLength> kSteps = {
    {1, 1},   {1, 15},  {1, 16},  {1, 17},  {0, 33},  {1, 31},  {1, 33},  {1, 63},  {1, 64},
    {1, 65},  {0, 0},   {1, 127}, {1, 128}, {1, 129}, {1, 255}, {1, 257}, {1, 511}, {1, 512},
    {1, 513}, {8, 512}, {2, 2},   {8, 8},   {3, 514}, {5, 40},  {1, 1100}};
// The same around prompts and chunks of them, with steps among them.
const std::vector<SeqLength> kPrompts = {{15, 15},  {16, 16},   {1, 129},  {17, 17},  {63, 63},
                                         {64, 64},  {65, 65},   {1, 1},    {0, 20},   {127, 127},
                                         {33, 300}, {129, 129}, {64, 129}, {70, 513}, {1, 700}};

// A few of each for cases of many heads.
const std::vector<SeqLength> kFewSteps = {{1, 300}, {1, 1}, {4, 600}, {1, 64}, {2, 17}};
const std::vector<SeqLength> kBlocks = {{8, 8}, {8, 600}, {1, 40}};
const std::vector<SeqLength> kFewPrompts = {{17, 90}, {1, 300}, {40, 40}};

TEST_F(CudaRows, TheReferenceOnTheDeviceIsTheReference) {
  Random random(1);
  for (const bool own : {false, true}) {
    for (const int32_t window : {0, 30}) {
      const AttnShape shape{.heads = 4, .kv_heads = 2, .k_dim = 48, .v_dim = 32, .window = window};
      RowCase c =
          heads_case(shape, {{3, 70}, {1, 1}, {20, 20}}, own ? kRowTypes[2] : kRowTypes[0], random);
      c.c.token_scales = own, c.c.softcap = own ? 4.0f : 0.0f;
      c.c.sinks = random.normal(shape.heads);
      EXPECT_LT(relative_error(DeviceCase(c, {}).reference(), reference(c.c, c.types.q)), 1e-6)
          << c.text();
    }
  }
  RowCase c = latent_case(3, {{2, 40}, {1, 1}}, kRowTypes[3], random);
  const LatentCase on_host{.shape = {.heads = 3, .latent = kLatentWidth, .rope = kLatentRope},
                           .rows = c.c};
  LatentCase rounded = on_host;
  rounded.rows.q = from_half_bits(to_half_bits(c.c.q, c.types.q), c.types.q);
  rounded.rows.compute = DType::f32;
  EXPECT_LT(relative_error(DeviceCase(c, {}).reference(), run_latent(latent_ref, rounded)), 1e-6);
}

TEST_F(CudaRows, WidthsTypesAndPages) {
  Random random(2);
  for (const auto& [k_dim, v_dim] : kWidths) {
    for (const RowTypes& types : kRowTypes) {
      const AttnShape shape{.heads = 4, .kv_heads = 2, .k_dim = k_dim, .v_dim = v_dim};
      for (const std::vector<SeqLength>& lengths : {kSteps, kPrompts})
        expect_rows_match(heads_case(shape, lengths, types, random), {16, 32, 64});
    }
  }
}

TEST_F(CudaRows, LatentsTypesAndPages) {
  Random random(3);
  for (const RowTypes& types : kRowTypes) {
    expect_rows_match(latent_case(16, kSteps, types, random), {16, 32, 64});
    expect_rows_match(latent_case(64, kFewSteps, types, random), {16, 32, 64});
    expect_rows_match(latent_case(5, kPrompts, types, random), {16, 64});
  }
}

TEST_F(CudaRows, Groups) {
  Random random(4);
  for (const int32_t group : {1, 2, 3, 8, 16, 20, 128}) {
    for (const RowTypes& types : kRowTypes) {
      for (const std::vector<SeqLength>& lengths : {kFewSteps, kFewPrompts}) {
        const int32_t kv_heads = group > 20 ? 1 : 2;
        AttnShape shape{
            .heads = kv_heads * group, .kv_heads = kv_heads, .k_dim = 192, .v_dim = 128};
        RowCase c = heads_case(shape, lengths, types, random);
        c.c.sinks = random.normal(shape.heads, 3.0f);
        expect_rows_match(c, {16});
        shape.k_dim = 128;
        expect_rows_match(heads_case(shape, lengths, types, random), {64});
      }
    }
  }
}

TEST_F(CudaRows, LongPages) {
  Random random(14);
  const AttnShape shape{.heads = 8, .kv_heads = 2, .k_dim = 192, .v_dim = 128};
  for (const RowTypes& types : {kRowTypes[0], kRowTypes[2]}) {
    expect_rows_match(heads_case(shape, kFewSteps, types, random), {128, 256, 2048});
    expect_rows_match(heads_case(shape, kFewPrompts, types, random), {128, 256, 2048});
  }
}

// Where splits of `split` tokens begin and end, and where groups of them may: a body may add some
// splits up before it adds them to the rest.
std::vector<SeqLength> around(int32_t split) {
  std::vector<SeqLength> lengths;
  for (const int32_t n : {1, 2, 3, 4, 8, 9}) {
    if (n > 2 && n * split > 10000) continue;
    for (const int32_t near : {-1, 0, 1}) lengths.push_back({1 + (near & 1), n * split + near});
  }
  return lengths;
}

TEST_F(CudaRows, AroundTheSplitsOfEachRow) {
  Random random(15);
  const AttnShape shape{.heads = 16, .kv_heads = 1, .k_dim = 192, .v_dim = 128};
  for (const RowTypes& types : {kRowTypes[0], kRowTypes[2]}) {
    std::set<std::pair<int32_t, int32_t>> splits;  // heads over latents (0: heads of their own)
    for (const int32_t over_latents : {0, 16, 128}) {
      const std::vector<SeqLength> one = {{1, 9}};
      const DeviceCase on_device(over_latents > 0 ? latent_case(over_latents, one, types, random)
                                                  : heads_case(shape, one, types, random),
                                 {});
      each_row(on_device, [&](const CudaRow& row) {
        splits.insert({over_latents, row.plan(on_device.kv(), {}, 132).tiling.kv_split});
      });
    }
    for (const auto& [over_latents, split] : splits) {
      if (split == 0) continue;
      expect_rows_match(over_latents > 0 ? latent_case(over_latents, around(split), types, random)
                                         : heads_case(shape, around(split), types, random),
                        {32});
    }
  }
}

TEST_F(CudaRows, HeadsOverLatents) {
  Random random(5);
  for (const int32_t heads : {1, 2, 8, 20, 63, 65, 100, 128}) {
    for (const RowTypes& types : {kRowTypes[0], kRowTypes[2], kRowTypes[4]}) {
      expect_rows_match(latent_case(heads, kFewSteps, types, random), {32});
      expect_rows_match(latent_case(heads, kFewPrompts, types, random), {64});
    }
  }
}

TEST_F(CudaRows, WindowsAroundPages) {
  Random random(6);
  for (const int32_t window : {1, 2, 15, 16, 17, 31, 33, 63, 64, 65, 100, 127, 128, 129, 600}) {
    for (const RowTypes& types : {kRowTypes[0], kRowTypes[2], kRowTypes[4]}) {
      const AttnShape shape{
          .heads = 16, .kv_heads = 2, .k_dim = 128, .v_dim = 128, .window = window};
      std::vector<SeqLength> steps = {{1, 1}, {1, 700}, {5, 333}};
      for (const int32_t more : {-1, 0, 1, 14, 15, 16, 17, 31, 47, 63, 64, 65})
        steps.push_back({1, window + more});
      if (window == 1) steps.erase(steps.begin() + 3);  // of no token
      for (const std::vector<SeqLength>& lengths : {steps, {{40, 200}, {130, 130}, {1, 300}}}) {
        RowCase c = heads_case(shape, lengths, types, random);
        c.c.sinks = random.normal(shape.heads);
        expect_rows_match(c, {16, 32, 64});
      }
    }
  }
}

TEST_F(CudaRows, SinksSoftcapAndBlocksThatSeeAhead) {
  Random random(7);
  for (const bool causal : {true, false}) {
    for (const float softcap : {0.0f, 5.0f}) {
      for (const RowTypes& types : kRowTypes) {
        for (const int32_t window : {0, 70}) {
          AttnShape shape{.heads = 8, .kv_heads = 4, .k_dim = 192, .v_dim = 128, .window = window};
          shape.causal = causal;
          for (const std::vector<SeqLength>& lengths : {kBlocks, kFewPrompts}) {
            RowCase c = heads_case(shape, lengths, types, random);
            c.c.softcap = softcap;
            if (causal) c.c.sinks = {-3e4f, 8.0f, 0, 1, 2, -5, 0.5f, 4};
            expect_rows_match(c, {32});
          }
        }
      }
    }
  }
}

TEST_F(CudaRows, ScalesOfTensorsAndOfTokens) {
  Random random(8);
  for (const RowTypes& types : kRowTypes) {
    if (!is_f8(types.pages)) continue;
    for (const bool own : {false, true}) {
      for (const int32_t window : {0, 100}) {
        for (const auto& [k_dim, v_dim] : {kWidths[0], kWidths[2], kWidths[3], kWidths[4]}) {
          const AttnShape shape{
              .heads = 16, .kv_heads = 2, .k_dim = k_dim, .v_dim = v_dim, .window = window};
          for (const std::vector<SeqLength>& lengths : {kFewSteps, kFewPrompts}) {
            RowCase c = heads_case(shape, lengths, types, random);
            c.c.token_scales = own;
            for (std::vector<float>& v : c.c.v) {  // tokens of very different size, and of none
              const auto width = static_cast<size_t>(2 * shape.v_dim);
              for (size_t i = 0; own && i < v.size(); ++i) {
                const auto token = static_cast<int>(i / width);
                v[i] *= token % 29 == 5 ? 0.0f : std::exp2(static_cast<float>(token * 7 % 23 - 11));
              }
            }
            expect_rows_match(c, {16, 32});
          }
        }
      }
    }
    RowCase latents = latent_case(16, kFewSteps, types, random);
    latents.c.token_scales = true;
    expect_rows_match(latents, {32});
  }
}

// bf16 queries beside FP8 pages are f16: neither large nor small ones may lose their bits.
TEST_F(CudaRows, QueriesOfAnyMagnitudeBesideF8) {
  Random random(9);
  const AttnShape shape{.heads = 16, .kv_heads = 1, .k_dim = 192, .v_dim = 128};
  for (const float magnitude : {1e-30f, 1e-4f, 1e6f, 1e30f}) {
    for (const RowTypes& types : {kRowTypes[2], kRowTypes[3]}) {
      for (RowCase c :
           {heads_case(shape, kFewSteps, types, random),
            heads_case(shape, kFewPrompts, types, random),
            latent_case(16, kFewSteps, types, random), latent_case(64, kFewSteps, types, random)}) {
        for (float& q : c.c.q) q *= magnitude;
        c.c.scale /= magnitude;
        expect_rows_match(c, {16});
      }
    }
  }
}

TEST_F(CudaRows, PagesBeyondFourGigabytes) {
  Random random(10);
  const AttnShape shape{.heads = 32, .kv_heads = 2, .k_dim = 192, .v_dim = 128};
  for (const RowTypes& types : {kRowTypes[0], kRowTypes[2]}) {
    for (const RowCase& c :
         {heads_case(shape, kFewSteps, types, random),
          heads_case(shape, kFewPrompts, types, random), latent_case(16, kFewSteps, types, random),
          latent_case(64, kFewSteps, types, random)}) {
      const DeviceCase on_device(c, {.bytes_before = int64_t{5} << 30});
      const std::vector<float> expected = on_device.reference();
      each_row(on_device, [&](const CudaRow& row) {
        EXPECT_LE(relative_error(on_device.run(row), expected), types.tolerance)
            << row.name() << " " << c.text();
      });
    }
  }
}

TEST_F(CudaRows, RandomBatches) {
  Random random(11);
  for (int i = 0; i < 24; ++i) {
    const auto group = static_cast<int32_t>(random.integer(1, 20));
    const auto& [k_dim, v_dim] = kWidths[random.integer(0, 5)];
    AttnShape shape{.heads = 2 * group, .kv_heads = 2, .k_dim = k_dim, .v_dim = v_dim};
    if (i % 3 == 0) shape.window = static_cast<int32_t>(random.integer(1, 400));
    shape.causal = i % 4 != 1;
    std::vector<SeqLength> lengths;
    for (int n = 0; n < 7; ++n) {
      const auto kv = static_cast<int32_t>(random.integer(1, 900));
      const int64_t most = i % 2 == 0 ? 80 : kMostDecodeTokens;
      lengths.push_back({static_cast<int32_t>(random.integer(0, std::min<int64_t>(kv, most))), kv});
    }
    const RowTypes& types = kRowTypes[i % 6];
    expect_rows_match(heads_case(shape, lengths, types, random), {16 << i % 3});
    expect_rows_match(latent_case(4 * group, lengths, types, random), {16 << i % 3});
  }
}

TEST_F(CudaRows, NothingToDo) {
  Random random(12);
  const AttnShape shape{.heads = 4, .kv_heads = 2, .k_dim = 192, .v_dim = 128};
  for (const RowCase& c : {heads_case(shape, {{0, 5}, {0, 0}}, kRowTypes[0], random),
                           latent_case(64, {{0, 5}, {0, 0}}, kRowTypes[0], random)}) {
    const DeviceCase on_device(c, {});
    each_row(on_device,
             [&](const CudaRow& row) { EXPECT_TRUE(on_device.run(row).empty()) << row.name(); });
  }
}

// The grid above reaches every row that this card has.
TEST_F(CudaRows, NoRowIsLeftOut) {
  Random random(13);
  std::set<std::string> reached;
  const auto visit = [&](const RowCase& c) {
    const DeviceCase on_device(c, {.page_tokens = 32});
    each_row(on_device, [&](const CudaRow& row) {
      reached.insert(fmt::format("{} {}", c.latent > 0 ? "latent" : "heads", row.backend().name));
    });
  };
  for (const auto& [k_dim, v_dim] : kWidths) {
    for (const int32_t heads : {4, 32}) {
      const AttnShape shape{.heads = heads, .kv_heads = 2, .k_dim = k_dim, .v_dim = v_dim};
      for (const RowTypes& types : kRowTypes) visit(heads_case(shape, {{1, 5}}, types, random));
    }
  }
  visit(latent_case(64, {{1, 5}}, kRowTypes[0], random));
  visit(latent_case(64, {{1, 5}}, kRowTypes[2], random));
  for (const AttentionBackend& row : attention_backends()) {
    if (row.least.kind != Device::Kind::cuda || row.least.sm > this_card().sm) continue;
    if (row.this_sm_only && row.least.sm != this_card().sm) continue;
    EXPECT_EQ(reached.count(fmt::format("{} {}", name(row.form), row.name)), 1u) << row.name;
  }
}

}  // namespace
}  // namespace ashlar
