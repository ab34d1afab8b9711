// Every CUDA row of the table of backends: its bits belong to the sequence and to the row alone.
// And a small batch of each, for tools that are a hundred times slower. Skipped where there is no
// GPU.

#include "kernels/cuda/rows_testing.cuh"

namespace ashlar {
namespace {

// Cases of both forms: steps, and steps among prompts.
std::vector<RowCase> law_cases(const RowTypes& types, Random& random) {
  const std::vector<SeqLength> steps = {{1, 1300}, {5, 40}, {1, 1}, {1, 64}, {2, 3000}, {8, 513}};
  const std::vector<SeqLength> prompts = {{1, 1300}, {70, 600}, {1, 1}, {33, 77}, {90, 90}};
  std::vector<RowCase> cases;
  for (const int32_t window : {0, 100}) {
    const AttnShape shape{.heads = 32, .kv_heads = 2, .k_dim = 192, .v_dim = 128, .window = window};
    for (const auto& lengths : {steps, prompts}) {
      RowCase c = heads_case(shape, lengths, types, random);
      c.c.sinks = random.normal(shape.heads);
      cases.push_back(c);
      if (!is_f8(types.pages)) continue;
      c.c.token_scales = true;
      cases.push_back(std::move(c));
    }
  }
  const AttnShape wide{.heads = 4, .kv_heads = 2, .k_dim = 256, .v_dim = 256};
  cases.push_back(heads_case(wide, prompts, types, random));
  std::vector<SeqLength> long_steps = steps;
  long_steps.push_back({1, 9000});
  cases.push_back(latent_case(16, long_steps, types, random));
  cases.push_back(latent_case(64, steps, types, random));
  cases.push_back(latent_case(128, steps, types, random));
  return cases;
}

// Bit for bit: whatever shares its step, however many multiprocessors there are.
TEST_F(CudaRows, ABatchIsItsSequences) {
  Random random(20);
  for (const RowTypes& types : kRowTypes) {
    for (const RowCase& all : law_cases(types, random)) {
      const DeviceCase together(all, {.page_tokens = 32});
      std::vector<std::unique_ptr<DeviceCase>> apart;
      for (size_t i = 0; i < all.c.lengths.size(); ++i) {
        const RowCase one = chunk_of(all, i, 0, all.c.lengths[i].q_len);
        apart.push_back(std::make_unique<DeviceCase>(one, RowPlaces{.page_tokens = 32}));
      }
      each_row(together, [&](const CudaRow& row) {
        std::vector<float> alone;
        for (const auto& one : apart) {
          const std::vector<float> out = one->run(row);
          alone.insert(alone.end(), out.begin(), out.end());
        }
        for (const int n_sms : {1, 7, 132})
          EXPECT_TRUE(together.run(row, n_sms) == alone)
              << row.name() << " on " << n_sms << " " << all.text();
      });
    }
  }
}

// Two states, a handful and many, of narrow rows and of wide ones: as one multiprocessor has it,
// which divides nothing.
TEST_F(CudaRows, AnyNumberOfStatesIsAddedUp) {
  Random random(23);
  constexpr std::pair<int32_t, int32_t> kWidths[] = {{48, 32}, {96, 96}, {192, 128}, {256, 256}};
  const RowTypes& types = kRowTypes[0];
  for (const int32_t kv_len : {1000, 3000, 11000}) {
    const std::vector<SeqLength> lengths = {{1, kv_len}, {2, 700}};
    std::vector<RowCase> cases = {latent_case(20, lengths, types, random),
                                  latent_case(128, lengths, types, random)};
    for (const auto& [k_dim, v_dim] : kWidths) {
      const AttnShape shape{.heads = 20, .kv_heads = 1, .k_dim = k_dim, .v_dim = v_dim};
      cases.push_back(heads_case(shape, lengths, types, random));
      cases.back().c.sinks = random.normal(shape.heads);
    }
    for (const RowCase& c : cases) {
      const DeviceCase on_device(c, {});
      const std::vector<float> expected = on_device.reference();
      each_row(on_device, [&](const CudaRow& row) {
        const std::vector<float> whole = on_device.run(row, 1);
        EXPECT_LE(relative_error(whole, expected), types.tolerance) << row.name() << c.text();
        for (const int n_sms : {4, 132})
          EXPECT_TRUE(on_device.run(row, n_sms) == whole)
              << row.name() << " on " << n_sms << " " << c.text();
      });
    }
  }
}

TEST_F(CudaRows, PlacesAndSizesOfPagesDoNotMatter) {
  Random random(21);
  for (const RowTypes& types : kRowTypes) {
    for (const RowCase& c : law_cases(types, random)) {
      const DeviceCase first(c, {.page_tokens = 64});
      const DeviceCase small(c, {.page_tokens = 16, .seed = 1});
      const DeviceCase other(c, {.page_tokens = 32, .seed = 2, .bytes_before = 256 * 77});
      each_row(first, [&](const CudaRow& row) {
        const std::vector<float> expected = first.run(row);
        for (const DeviceCase* same : {&small, &other})
          EXPECT_TRUE(same->run(row, 13) == expected)
              << row.name() << ", pages of " << same->kv().page_tokens << " " << c.text();
      });
    }
  }
}

void expect_chunks_match(const RowCase& whole, std::initializer_list<int32_t> chunks) {
  const DeviceCase on_device(whole, {.page_tokens = 32});
  const int32_t n_tokens = whole.c.lengths[0].q_len;
  for (const int32_t chunk : chunks) {
    std::vector<std::unique_ptr<DeviceCase>> parts;
    for (int32_t begin = 0; begin < n_tokens; begin += chunk)
      parts.push_back(std::make_unique<DeviceCase>(
          chunk_of(whole, 0, begin, std::min(n_tokens, begin + chunk)), RowPlaces{}));
    each_row(on_device, [&](const CudaRow& row) {
      std::vector<float> actual;
      for (const auto& part : parts) {
        const std::vector<float> out = part->run(row);
        actual.insert(actual.end(), out.begin(), out.end());
      }
      EXPECT_TRUE(actual == on_device.run(row))
          << row.name() << " chunks of " << chunk << " " << whole.text();
    });
  }
}

// Both forms, and heads of their own with a window and without.
std::vector<RowCase> chunk_cases(SeqLength length, const RowTypes& types, Random& random) {
  std::vector<RowCase> cases = {latent_case(20, {length}, types, random),
                                latent_case(64, {length}, types, random)};
  for (const int32_t window : {0, 50}) {
    const AttnShape shape{.heads = 12, .kv_heads = 2, .k_dim = 128, .v_dim = 128, .window = window};
    cases.push_back(heads_case(shape, {length}, types, random));
  }
  return cases;
}

TEST_F(CudaRows, APromptIsItsChunks) {
  Random random(22);
  for (const RowTypes& types : kRowTypes) {
    for (const RowCase& c : chunk_cases({70, 540}, types, random)) expect_chunks_match(c, {7, 64});
    for (const RowCase& c : chunk_cases({8, 1030}, types, random)) expect_chunks_match(c, {1, 3});
  }
}

// For compute-sanitizer (tools/cuda/sanitize): one row a test, little work.
class CudaRowAlone : public ::testing::TestWithParam<const AttentionBackend*> {
 protected:
  void SetUp() override {
    if (!cuda::has_device()) GTEST_SKIP() << "no GPU here";
  }
};

TEST_P(CudaRowAlone, OnASmallBatch) {
  Random random(30);
  const AttentionBackend& row = *GetParam();
  const std::vector<SeqLength> lengths = {{1, 700}, {2, 65}, {1, 1}, {0, 9}, {8, 30}};
  int n_runs = 0;
  const Widths widths = row.widths.empty() ? Widths{192, 128} : row.widths.back();
  const bool latent = row.form == AttentionForm::latent;
  for (const RowTypes& types : {kRowTypes[0], kRowTypes[2], kRowTypes[3]}) {
    for (const int32_t window : {0, 40}) {
      if (latent && window > 0) continue;
      const AttnShape shape{
          .heads = 32, .kv_heads = 2, .k_dim = widths.k, .v_dim = widths.v, .window = window};
      const RowCase c = latent ? latent_case(64, lengths, types, random)
                               : heads_case(shape, lengths, types, random);
      const DeviceCase on_device(c, {.page_tokens = 32});
      const std::vector<float> expected = on_device.reference();
      each_row(on_device, [&](const CudaRow& taken) {
        if (&taken.backend() != &row) return;
        EXPECT_LE(relative_error(on_device.run(taken, 4), expected), types.tolerance)
            << taken.name() << " " << c.text();
        ++n_runs;
      });
    }
  }
  if (refusal(row, this_card(), {.form = row.form}).find("sm_") == std::string::npos)
    EXPECT_GT(n_runs, 0);
}

std::vector<const AttentionBackend*> cuda_rows() {
  std::vector<const AttentionBackend*> rows;
  for (const AttentionBackend& row : attention_backends())
    if (row.least.kind == Device::Kind::cuda) rows.push_back(&row);
  return rows;
}

INSTANTIATE_TEST_SUITE_P(Table, CudaRowAlone, ::testing::ValuesIn(cuda_rows()),
                         [](const auto& info) {
                           return fmt::format("{}_{}", name(info.param->form), info.param->name);
                         });

}  // namespace
}  // namespace ashlar
