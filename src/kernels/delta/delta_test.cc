#include "kernels/delta/delta.h"

#include <gtest/gtest.h>

#include "kernels/delta/delta_testing.h"

namespace ashlar {
namespace {

struct Case {
  int64_t key_heads = 1;
  int64_t group = 1;  // state heads that share a key head
  int64_t key_dim = 32;
  int64_t value_dim = 32;
  bool l2norm = true;
  std::vector<StateLength> lengths;

  int64_t heads() const { return key_heads * group; }
  int64_t state() const { return heads() * value_dim * key_dim; }
  int64_t width() const { return 2 * key_heads * key_dim + heads() * value_dim; }
  int64_t out_width() const { return heads() * value_dim; }
  int64_t rows() const {
    int64_t n = 0;
    for (const StateLength& length : lengths) n += length.q_len;
    return n;
  }
};

struct Inputs {
  std::vector<float> qkv;  // [T, q | k | v], as a convolution leaves them
  std::vector<float> g, beta;
  std::vector<std::vector<float>> states;  // per sequence
};

struct Outputs {
  std::vector<float> out;
  std::vector<std::vector<float>> states;  // of every sequence and kept slot
};

Inputs random_inputs(const Case& c, Random& random) {
  Inputs in{.qkv = random.normal(c.rows() * c.width()),
            .g = random.normal(c.rows() * c.heads()),
            .beta = random.normal(c.rows() * c.heads())};
  // Without l2norm a key must be short, or the recurrence is not one that forgets.
  if (!c.l2norm) {
    for (float& value : in.qkv) value /= std::sqrt(static_cast<float>(c.key_dim));
  }
  for (float& g : in.g) g = -0.2f * std::abs(g);
  for (float& beta : in.beta) beta = 1.0f / (1.0f + std::exp(-beta));
  for (size_t i = 0; i < c.lengths.size(); ++i) in.states.push_back(random.normal(c.state(), 0.2f));
  return in;
}

ConstView heads_view(const Case& c, const std::vector<float>& qkv, int64_t column, int64_t heads,
                     int64_t dim) {
  ConstView v = view(qkv, {c.rows(), c.width()}).columns(column, column + heads * dim);
  v.shape = {c.rows(), heads, dim};
  v.strides = {c.width(), dim, 1};
  return v;
}

DeltaParams params_of(const Case& c, const Inputs& in, std::vector<float>& out,
                      const StatePages& pages) {
  const int64_t keys = c.key_heads * c.key_dim;
  return {.q = heads_view(c, in.qkv, 0, c.key_heads, c.key_dim),
          .k = heads_view(c, in.qkv, keys, c.key_heads, c.key_dim),
          .v = heads_view(c, in.qkv, 2 * keys, c.heads(), c.value_dim),
          .g = view(in.g, {c.rows(), c.heads()}),
          .beta = view(in.beta, {c.rows(), c.heads()}),
          .out = view(out, {c.rows(), c.heads(), c.value_dim}),
          .scale = 1.0f / std::sqrt(static_cast<float>(c.key_dim)),
          .l2norm = c.l2norm,
          .state = pages.view(),
          .seqs = pages.seqs()};
}

StateSizes sizes_of(const Case& c) {
  return {.conv_elements = 3 * c.width(), .recurrent_elements = c.state()};
}

Outputs run(DeltaFn fn, const Case& c, const Inputs& in, int n_threads = 2, uint64_t seed = 3) {
  Pool pool(n_threads);
  StatePages pages(sizes_of(c), c.lengths, seed);
  for (size_t i = 0; i < c.lengths.size(); ++i) {
    if (c.lengths[i].position > 0) pages.set_recurrent(i, in.states[i]);
  }
  Outputs out{.out = poisoned(static_cast<size_t>(c.rows() * c.heads() * c.value_dim))};
  fn(params_of(c, in, out.out, pages), pool);
  EXPECT_TRUE(pages.surroundings_are_untouched());
  for (size_t i = 0; i < c.lengths.size(); ++i) {
    const StateLength& length = c.lengths[i];
    if (length.n_slots == 0) out.states.push_back(pages.recurrent(i, 0));
    if (length.n_slots == 0) continue;
    if (length.position > 0) {
      EXPECT_EQ(pages.recurrent(i, 0), in.states[i]) << "slot 0";
    }
    for (int32_t s = 1; s <= length.q_len; ++s) out.states.push_back(pages.recurrent(i, s));
  }
  return out;
}

// The same with rows that lie apart over poison, which must neither be read nor written.
Outputs run_apart(DeltaFn fn, const Case& c, const Inputs& in) {
  Pool pool(2);
  StatePages pages(sizes_of(c), c.lengths);
  for (size_t i = 0; i < c.lengths.size(); ++i) {
    if (c.lengths[i].position > 0) pages.set_recurrent(i, in.states[i]);
  }
  const int64_t stride = c.out_width() + 5, n_columns = c.width() + 5;
  std::vector<float> qkv = poisoned(static_cast<size_t>(c.rows() * n_columns));
  for (int64_t t = 0; t < c.rows(); ++t) {
    std::copy_n(in.qkv.begin() + t * c.width(), c.width(), qkv.begin() + t * n_columns);
  }
  std::vector<float> wide = poisoned(static_cast<size_t>(c.rows() * stride));
  DeltaParams p = params_of(c, in, wide, pages);
  const auto move = [&](ConstView* v) {
    const auto column = (v->data - reinterpret_cast<const std::byte*>(in.qkv.data())) / 4;
    v->data = reinterpret_cast<const std::byte*>(qkv.data() + column);
    v->strides[0] = n_columns;
  };
  move(&p.q), move(&p.k), move(&p.v);
  p.out.strides[0] = stride;
  fn(p, pool);
  EXPECT_TRUE(pages.surroundings_are_untouched());
  Outputs out;
  for (int64_t i = 0; i < c.rows() * stride; ++i) {
    const float value = wide[static_cast<size_t>(i)];
    if (i % stride < c.out_width()) {
      out.out.push_back(value);
    } else {
      EXPECT_TRUE(std::isnan(value)) << "column " << i % stride;
    }
  }
  for (size_t i = 0; i < c.lengths.size(); ++i) {
    const StateLength& length = c.lengths[i];
    if (length.n_slots == 0) out.states.push_back(pages.recurrent(i, 0));
    for (int32_t s = 1; length.n_slots > 0 && s <= length.q_len; ++s) {
      out.states.push_back(pages.recurrent(i, s));
    }
  }
  return out;
}

// Rows [begin, end) of sequence `i` alone.
Case chunk_case(const Case& all, size_t i, int32_t begin, int32_t end) {
  Case part = all;
  part.lengths = {{.q_len = end - begin, .position = all.lengths[i].position + begin}};
  return part;
}

Inputs chunk_inputs(const Case& all, const Inputs& in, size_t i, int32_t begin, int32_t end,
                    const std::vector<float>& state) {
  int64_t first = begin;
  for (size_t before = 0; before < i; ++before) first += all.lengths[before].q_len;
  const auto cut = [&](const std::vector<float>& from, int64_t width) {
    return std::vector<float>(from.begin() + first * width,
                              from.begin() + (first + end - begin) * width);
  };
  return {.qkv = cut(in.qkv, all.width()),
          .g = cut(in.g, all.heads()),
          .beta = cut(in.beta, all.heads()),
          .states = {state}};
}

void expect_matches(const Case& c, const Inputs& in) {
  const Outputs expected = run(delta_ref, c, in);
  for (const Isa isa : available_isas()) {
    const Outputs actual = run(delta_cpu(isa), c, in);
    const std::string what = fmt::format("{} key heads {} x {} dims {}/{}", name(isa), c.key_heads,
                                         c.group, c.key_dim, c.value_dim);
    EXPECT_LT(relative_error(actual.out, expected.out), 3e-6) << what;
    for (size_t i = 0; i < expected.states.size(); ++i) {
      EXPECT_LT(relative_error(actual.states[i], expected.states[i]), 3e-6)
          << what << " state " << i;
    }
  }
}

TEST(Delta, EveryIsaMatchesTheReference) {
  Random random(1);
  const std::vector<StateLength> lengths = {{.q_len = 1, .position = 0},
                                            {.q_len = 1, .position = 9},
                                            {.q_len = 33, .position = 0},
                                            {.q_len = 17, .position = 3},
                                            {.q_len = 3, .position = 4, .n_slots = 4},
                                            {.q_len = 2, .position = 0, .n_slots = 2}};
  for (const int64_t group : {1, 2, 3}) {
    for (const int64_t dim : {32, 48, 64, 128}) {
      const Case c{
          .key_heads = 2, .group = group, .key_dim = dim, .value_dim = dim, .lengths = lengths};
      expect_matches(c, random_inputs(c, random));
    }
  }
  const Case wide{.key_dim = 16, .value_dim = 80, .l2norm = false, .lengths = lengths};
  expect_matches(wide, random_inputs(wide, random));
  const Case tall{.key_dim = 256, .value_dim = 16, .lengths = lengths};
  expect_matches(tall, random_inputs(tall, random));
}

TEST(Delta, ALongSequenceStaysWithTheReference) {
  Random random(2);
  const Case c{.group = 2, .key_dim = 64, .value_dim = 32, .lengths = {{.q_len = 1000}}};
  Inputs in = random_inputs(c, random);
  for (float& g : in.g) g *= 0.05f;  // slow to forget, so that errors could gather
  expect_matches(c, in);
}

TEST(Delta, DimsNeedNotFillVectors) {
  Random random(6);
  const std::vector<StateLength> lengths = {{.q_len = 1, .position = 0},
                                            {.q_len = 1, .position = 9},
                                            {.q_len = 18, .position = 2},
                                            {.q_len = 3, .position = 4, .n_slots = 4}};
  for (const int64_t value_dim : {1, 20, 24, 33}) {
    for (const int64_t key_dim : {1, 12, 16, 24, 40, 255}) {
      const Case c{.key_heads = 2,
                   .group = 3,
                   .key_dim = key_dim,
                   .value_dim = value_dim,
                   .lengths = lengths};
      const Inputs in = random_inputs(c, random);
      expect_matches(c, in);
      for (const Isa isa : available_isas()) {
        const Outputs dense = run(delta_cpu(isa), c, in);
        const Outputs apart = run_apart(delta_cpu(isa), c, in);
        EXPECT_EQ(dense.out, apart.out) << name(isa) << " " << value_dim << "x" << key_dim;
        EXPECT_EQ(dense.states, apart.states) << name(isa) << " " << value_dim << "x" << key_dim;
      }
    }
  }
}

// One = many, whole = chunked, pages anywhere, any number of threads: all bit for bit.
void expect_steps_do_not_matter(Isa isa, int64_t key_dim, int64_t value_dim, Random& random) {
  const DeltaFn fn = delta_cpu(isa);
  Case c{.key_heads = 2, .group = 3, .key_dim = key_dim, .value_dim = value_dim};
  for (int i = 0; i < 4; ++i) {
    c.lengths.push_back(
        {.q_len = static_cast<int32_t>(random.integer(1, 70)), .position = i % 2 == 0 ? 0 : 5});
  }
  const Inputs in = random_inputs(c, random);
  const Outputs together = run(fn, c, in, 2);
  EXPECT_EQ(together.out, run(fn, c, in, 1, 8).out) << name(isa);
  EXPECT_EQ(together.states, run(fn, c, in, 4, 9).states) << name(isa);
  std::vector<float> rows;
  for (size_t i = 0; i < c.lengths.size(); ++i) {
    std::vector<float> state = in.states[i];
    for (int32_t begin = 0; begin < c.lengths[i].q_len;) {
      const auto end = static_cast<int32_t>(
          std::min<int64_t>(c.lengths[i].q_len, begin + random.integer(1, 24)));
      const Outputs part =
          run(fn, chunk_case(c, i, begin, end), chunk_inputs(c, in, i, begin, end, state));
      rows.insert(rows.end(), part.out.begin(), part.out.end());
      state = part.states[0];
      begin = end;
    }
    EXPECT_EQ(state, together.states[i]) << name(isa);
  }
  EXPECT_EQ(rows, together.out) << name(isa);
}

TEST(Delta, StepsBatchesPagesAndThreadsDoNotMatter) {
  Random random(3);
  for (const Isa isa : available_isas()) {
    expect_steps_do_not_matter(isa, 48, 32, random);
    expect_steps_do_not_matter(isa, 12, 33, random);
    expect_steps_do_not_matter(isa, 40, 18, random);
  }
}

// Slot i holds what a sequence of i rows leaves.
TEST(Delta, SlotsHoldTheStateAfterEachRow) {
  Random random(4);
  for (const int32_t position : {0, 11}) {
    const int32_t n = 19;  // more than are prepared together
    Case c{.group = 2, .lengths = {{.q_len = n, .position = position, .n_slots = n + 1}}};
    const Inputs in = random_inputs(c, random);
    for (const Isa isa : available_isas()) {
      const Outputs slots = run(delta_cpu(isa), c, in);
      for (int32_t rows = 1; rows <= n; ++rows) {
        const Outputs alone = run(delta_cpu(isa), chunk_case(c, 0, 0, rows),
                                  chunk_inputs(c, in, 0, 0, rows, in.states[0]));
        EXPECT_EQ(slots.states[static_cast<size_t>(rows - 1)], alone.states[0])
            << name(isa) << " after " << rows;
        EXPECT_TRUE(std::equal(alone.out.begin(), alone.out.end(), slots.out.begin()));
      }
    }
  }
}

TEST(DeltaGates, MatchTheReference) {
  Random random(5);
  Pool pool(2);
  const int64_t n_rows = 37, heads = 6;
  auto a = random.normal(n_rows * heads, 5.0f), b = random.normal(n_rows * heads, 5.0f);
  a[0] = 200, a[1] = -200, b[0] = 200, b[1] = -200;
  const auto a_log = random.normal(heads), dt_bias = random.normal(heads);
  std::vector<float> g = poisoned(a.size()), beta = g, g_ref = g, beta_ref = g;
  DeltaGatesParams p{.a = view(std::as_const(a), {n_rows, heads}),
                     .b = view(std::as_const(b), {n_rows, heads}),
                     .a_log = a_log.data(),
                     .dt_bias = dt_bias.data(),
                     .g = view(g_ref, {n_rows, heads}),
                     .beta = view(beta_ref, {n_rows, heads})};
  delta_gates_ref(p, pool);
  p.g = view(g, {n_rows, heads}), p.beta = view(beta, {n_rows, heads});
  delta_gates(p, pool);
  EXPECT_LT(relative_error(g, g_ref), 1e-6);
  EXPECT_LT(relative_error(beta, beta_ref), 1e-6);
  p.g = view(a, {n_rows, heads}), p.beta = view(b, {n_rows, heads});  // in place
  delta_gates(p, pool);
  EXPECT_EQ(a, g);
  EXPECT_EQ(b, beta);
}

}  // namespace
}  // namespace ashlar
