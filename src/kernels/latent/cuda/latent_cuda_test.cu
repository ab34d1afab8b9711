// Every body of latent attention on CUDA against a reference in double, and its laws. Whatever must
// not be read is NaN: unused slots, gaps between pages, the workspace; what must not be looked up
// is absurd.

#include <gtest/gtest.h>

#include "kernels/latent/cuda/latent_cuda_testing.cuh"

namespace ashlar {
namespace {

constexpr int kWidth = kLatentWidth + kLatentRope;
constexpr float kRowScale = 0.37f;  // of FP8 rows

struct Length {
  int32_t q_len;
  int32_t kv_len;
};

// A step: its queries and rows as they are stored.
struct Case {
  int32_t heads;
  std::vector<Length> lengths;
  DType q_type;
  DType kv_type;
  float scale = 2.0f / 24.0f;
  std::vector<uint8_t> q;                  // [T, H, 576]
  std::vector<std::vector<uint8_t>> rows;  // per sequence [kv_len, 576]

  float row_scale() const { return is_f8(kv_type) ? kRowScale : 1.0f; }
  int64_t n_tokens() const {
    int64_t n = 0;
    for (const Length& length : lengths) n += length.q_len;
    return n;
  }
  std::string text() const {
    std::string out = fmt::format("H {} q {} kv {}:", heads, name(q_type), name(kv_type));
    for (const Length& length : lengths) out += fmt::format(" {}/{}", length.q_len, length.kv_len);
    return out;
  }
};

Case make_case(int32_t heads, std::vector<Length> lengths, DType q_type, DType kv_type,
               uint64_t seed) {
  Random random(seed);
  Case made{.heads = heads, .lengths = std::move(lengths), .q_type = q_type, .kv_type = kv_type};
  made.q = stored(random.normal(made.n_tokens() * heads * kWidth), q_type);
  std::vector<float> numbers = random.normal(300007);  // rows are these over and over
  for (float& value : numbers) value /= made.row_scale();
  const std::vector<uint8_t> pool = stored(numbers, kv_type);
  size_t next = 0;
  for (const Length& length : made.lengths) {
    std::vector<uint8_t>& rows = made.rows.emplace_back();
    rows.resize(static_cast<size_t>(length.kv_len * kWidth * size_of(kv_type)));
    for (uint8_t& byte : rows) byte = pool[next], next = next + 1 == pool.size() ? 0 : next + 1;
  }
  return made;
}

// The case's sequence `i` alone.
Case only(const Case& all, size_t i) {
  Case one{.heads = all.heads,
           .lengths = {all.lengths[i]},
           .q_type = all.q_type,
           .kv_type = all.kv_type,
           .rows = {all.rows[i]}};
  const int64_t token_bytes = int64_t{all.heads} * kWidth * size_of(all.q_type);
  int64_t begin = 0;
  for (size_t j = 0; j < i; ++j) begin += all.lengths[j].q_len;
  one.q.assign(all.q.begin() + begin * token_bytes,
               all.q.begin() + (begin + all.lengths[i].q_len) * token_bytes);
  return one;
}

// --- in double ---

struct ReferenceArgs {
  const float* q;     // [q_len, H, 576]
  const float* rows;  // [kv_len, 576]
  double* scores;     // [q_len * H, kv_len]
  float* out;         // [q_len, H, 512]
  int heads;
  int q_len;
  int kv_len;
  double scale;
  double row_scale;
};

__global__ void reference_scores(const ReferenceArgs a) {
  const int row = static_cast<int>(blockIdx.x);
  for (int j = static_cast<int>(threadIdx.x); j < a.kv_len; j += static_cast<int>(blockDim.x)) {
    double dot = 0;
    for (int k = 0; k < kWidth; ++k)
      dot += static_cast<double>(a.q[row * kWidth + k]) * a.rows[j * kWidth + k];
    a.scores[int64_t{row} * a.kv_len + j] = dot * a.scale * a.row_scale;
  }
}

__global__ void reference_out(const ReferenceArgs a) {
  const int row = static_cast<int>(blockIdx.x);
  const int end = a.kv_len - a.q_len + row / a.heads + 1;
  const double* scores = a.scores + int64_t{row} * a.kv_len;
  double highest = scores[0], sum = 0, o = 0;
  for (int j = 0; j < end; ++j) highest = fmax(highest, scores[j]);
  for (int j = 0; j < end; ++j) {
    const double p = exp(scores[j] - highest);
    sum += p;
    o += p * a.rows[j * kWidth + static_cast<int>(threadIdx.x)];
  }
  a.out[row * kLatentWidth + static_cast<int>(threadIdx.x)] =
      static_cast<float>(o / sum * a.row_scale);
}

std::vector<float> reference(const Case& c) {
  std::vector<float> all;
  for (size_t i = 0; i < c.lengths.size(); ++i) {
    const Length length = c.lengths[i];
    const auto n_rows = static_cast<unsigned>(length.q_len * c.heads);
    if (n_rows == 0) continue;
    const DeviceBytes q(loaded(only(c, i).q, c.q_type)), rows(loaded(c.rows[i], c.kv_type));
    const DeviceBytes scores(size_t{n_rows} * bytes_of(length.kv_len) * 8);
    const DeviceBytes out(size_t{n_rows} * kLatentWidth * 4);
    const ReferenceArgs args{q.as<float>(),   rows.as<float>(), scores.as<double>(),
                             out.as<float>(), c.heads,          length.q_len,
                             length.kv_len,   c.scale,          c.row_scale()};
    reference_scores<<<n_rows, 256>>>(args);
    reference_out<<<n_rows, kLatentWidth>>>(args);
    CHECK_CUDA(cudaDeviceSynchronize());
    const std::vector<float> part = out.read<float>();
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

// --- a body ---

// How a run lays the case out and cuts it.
struct Layout {
  int32_t page_tokens = 64;
  bool scattered = true;
  int n_sms = 132;
};

// Pages of all sequences: other layers' bytes around this one's, in any order.
struct Cache {
  PagedView view;
  std::vector<uint8_t> memory;
  std::vector<std::vector<uint32_t>> tables;
};

Cache lay_out(const Case& c, const Layout& layout) {
  const int64_t row_bytes = kWidth * size_of(c.kv_type), page_tokens = layout.page_tokens;
  const int64_t before = 48, after = 80;
  const int64_t granules =
      (before + page_tokens * row_bytes + after + kGranuleBytes - 1) / kGranuleBytes + 1;
  Cache cache;
  cache.view = {.k_offset_bytes = before,
                .page_tokens = layout.page_tokens,
                .kv_heads = 1,
                .k_dim = kWidth,
                .v_dim = 0,
                .dtype = c.kv_type,
                .k_scale = c.row_scale()};
  int64_t n_pages = 0;
  for (const Length& length : c.lengths) n_pages += (length.kv_len + page_tokens - 1) / page_tokens;
  std::vector<uint32_t> places(static_cast<size_t>(n_pages));
  for (size_t i = 0; i < places.size(); ++i)
    places[i] = static_cast<uint32_t>((static_cast<int64_t>(i) + 1) * granules);
  if (layout.scattered) std::shuffle(places.begin(), places.end(), std::mt19937_64(5));
  cache.memory.assign(static_cast<size_t>((n_pages + 2) * granules * kGranuleBytes), 0xFF);
  size_t next = 0;
  for (size_t i = 0; i < c.lengths.size(); ++i) {
    std::vector<uint32_t> table;
    for (int64_t j = 0; j < c.lengths[i].kv_len; ++j) {
      if (j % page_tokens == 0) table.push_back(places[next++]);
      std::memcpy(&cache.memory[static_cast<size_t>(table.back() * kGranuleBytes + before +
                                                    j % page_tokens * row_bytes)],
                  &c.rows[i][static_cast<size_t>(j * row_bytes)], static_cast<size_t>(row_bytes));
    }
    table.insert(table.end(), 9, 0xFFFFFFF0u);
    cache.tables.push_back(std::move(table));
  }
  return cache;
}

// Codes of out, as they are in memory.
std::vector<uint8_t> run(const CudaLatentBody& body, const Case& c, const Layout& layout) {
  Cache cache = lay_out(c, layout);
  const DeviceBytes memory(cache.memory), q(c.q);
  cache.view.base = memory.get();
  std::vector<uint32_t> table;
  for (const auto& part : cache.tables) table.insert(table.end(), part.begin(), part.end());
  const DeviceBytes device_table(table);
  std::vector<AttnSeq> seqs;
  int32_t token = 0;
  size_t entry = 0;
  for (size_t i = 0; i < c.lengths.size(); ++i) {
    seqs.push_back({.q_begin = token,
                    .q_len = c.lengths[i].q_len,
                    .kv_len = c.lengths[i].kv_len,
                    .pages = device_table.as<uint32_t>() + entry});
    token += c.lengths[i].q_len, entry += cache.tables[i].size();
  }
  const LatentShape shape{.heads = c.heads, .latent = kLatentWidth, .rope = kLatentRope};
  const CudaPlan plan = plan_latent_cuda(body, shape, c.kv_type, seqs, layout.n_sms);
  const DeviceBytes workspace(bytes_of(plan.workspace_bytes));
  const int64_t n = c.n_tokens(), guard = 512;
  const DeviceBytes out(bytes_of((n * c.heads * kLatentWidth + guard) * size_of(c.q_type)));
  upload(plan, workspace.get(), nullptr);
  const LatentParams params{.q = ConstView(q.get(), c.q_type, {n, c.heads, kWidth}),
                            .out = View(out.get(), c.q_type, {n, c.heads, kLatentWidth}),
                            .kv = cache.view,
                            .scale = c.scale,
                            .workspace = all_of(workspace)};
  body.run(plan, params, nullptr);
  CHECK_CUDA(cudaDeviceSynchronize());
  std::vector<uint8_t> codes = out.read<uint8_t>();
  const size_t used = codes.size() - static_cast<size_t>(guard * size_of(c.q_type));
  EXPECT_TRUE(std::all_of(codes.begin() + static_cast<int64_t>(used), codes.end(),
                          [](uint8_t byte) { return byte == 0xFF; }))
      << "wrote past the last row";
  codes.resize(used);
  return codes;
}

class LatentCuda : public testing::TestWithParam<CudaLatentBody> {
 protected:
  void SetUp() override {
    if (!cuda::has_device()) GTEST_SKIP() << "no GPU here";
  }
  void expect_right(const Case& c, const Layout& layout) {
    const double error = relative_error(loaded(run(GetParam(), c, layout), c.q_type), reference(c));
    EXPECT_LE(error, 4e-3) << c.text() << " pages " << layout.page_tokens;
  }
};

struct Types {
  DType q;
  DType kv;
};
constexpr Types kTypes[] = {{DType::bf16, DType::bf16},   {DType::f16, DType::f16},
                            {DType::bf16, DType::f8e4m3}, {DType::f16, DType::f8e4m3},
                            {DType::bf16, DType::f8e5m2}, {DType::f16, DType::f8e5m2}};

TEST_P(LatentCuda, MatchesTheReference) {
  uint64_t seed = 1;
  for (const Types types : kTypes) {
    for (const int32_t heads : {1, 16, 20, 64, 128}) {
      const int32_t page_tokens = 16 << seed % 3;
      expect_right(make_case(heads, {{1, 700}, {4, 1025}, {8, 8}, {2, 2049}, {0, 33}, {3, 90}},
                             types.q, types.kv, seed),
                   {.page_tokens = page_tokens});
      ++seed;
    }
  }
}

TEST_P(LatentCuda, LengthsAroundTilesAndSplits) {
  const int32_t split = GetParam().tiling(16, DType::bf16).kv_split;
  for (const Types types : {kTypes[0], kTypes[2]}) {
    for (const int32_t q_len : {1, 5}) {
      std::vector<Length> lengths;
      for (const int32_t edge : {64, 128, split, 2 * split, 3 * split}) {
        for (const int32_t near : {-1, 0, 1, 3}) lengths.push_back({q_len, edge + near});
      }
      for (const int32_t kv_len : {5, 6, 17, 31}) lengths.push_back({q_len, kv_len});
      expect_right(make_case(16, lengths, types.q, types.kv, 40), {.page_tokens = 32, .n_sms = 7});
    }
  }
}

// Nothing but the sequence itself decides its bits: not the batch, where its pages lie, how large
// they are, or how many multiprocessors share the work.
TEST_P(LatentCuda, BitsBelongToTheSequence) {
  uint64_t seed = 60;
  for (const Types types : kTypes) {
    for (const int32_t heads : {16, 128}) {
      const Case all = make_case(heads, {{1, 4500}, {2, 1100}, {5, 2300}, {1, 64}, {1, 9000}},
                                 types.q, types.kv, ++seed);
      const std::vector<uint8_t> expected = run(GetParam(), all, {});
      for (const Layout& layout :
           {Layout{.page_tokens = 16, .n_sms = 1}, Layout{.page_tokens = 32, .n_sms = 13},
            Layout{.scattered = false, .n_sms = 5}})
        EXPECT_EQ(run(GetParam(), all, layout), expected) << all.text();
      std::vector<uint8_t> apart;
      for (size_t i = 0; i < all.lengths.size(); ++i) {
        const std::vector<uint8_t> one = run(GetParam(), only(all, i), {.page_tokens = 16});
        apart.insert(apart.end(), one.begin(), one.end());
      }
      EXPECT_EQ(apart, expected) << all.text();
    }
  }
}

// Queries a thousand times greater than f16 holds, or smaller than it tells from zero.
TEST_P(LatentCuda, QueriesBeyondF16) {
  for (const float factor : {3e7f, 1e-9f}) {
    Case c = make_case(16, {{1, 600}, {2, 130}}, DType::bf16, DType::f8e4m3, 80);
    std::vector<float> q = loaded(c.q, DType::bf16);
    for (float& value : q) value *= factor;
    c.q = stored(q, DType::bf16);
    c.scale /= factor;
    expect_right(c, {});
  }
}

INSTANTIATE_TEST_SUITE_P(Bodies, LatentCuda,
                         testing::Values(latent_cuda_mma(), latent_cuda_wgmma()),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace ashlar
