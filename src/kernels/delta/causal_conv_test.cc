#include "kernels/delta/causal_conv.h"

#include <gtest/gtest.h>

#include "kernels/delta/delta_testing.h"

namespace ashlar {
namespace {

struct Case {
  int64_t channels = 48;
  int32_t taps = 4;
  DType dtype = DType::bf16;
  bool bias = false;
  std::vector<StateLength> lengths;
};

struct Inputs {
  std::vector<float> x, weight, bias;
  std::vector<std::vector<float>> past;  // per sequence
};

struct Outputs {
  std::vector<float> y;
  std::vector<std::vector<float>> states;  // of every sequence and kept slot
};

int64_t rows_of(const Case& c) {
  int64_t n = 0;
  for (const StateLength& length : c.lengths) n += length.q_len;
  return n;
}

Inputs random_inputs(const Case& c, Random& random) {
  Inputs in{.x = random.normal(rows_of(c) * c.channels),
            .weight = random.normal(c.channels * c.taps),
            .bias = random.normal(c.channels)};
  for (size_t i = 0; i < c.lengths.size(); ++i) {
    in.past.push_back(random.normal((c.taps - 1) * c.channels));
  }
  return in;
}

Outputs run(CausalConvFn fn, const Case& c, const Inputs& in, int n_threads = 2) {
  Pool pool(n_threads);
  StatePages pages({.conv_elements = (c.taps - 1) * c.channels, .conv_dtype = c.dtype}, c.lengths);
  for (size_t i = 0; i < c.lengths.size(); ++i) {
    if (c.lengths[i].position > 0) pages.set_conv(i, in.past[i]);
  }
  // Rows lie apart over poison, which must neither be read nor written.
  const int64_t n_rows = rows_of(c), stride = c.channels + 5;
  std::vector<float> x = poisoned(static_cast<size_t>(n_rows * stride)), y = x;
  for (int64_t t = 0; t < n_rows; ++t) {
    std::copy_n(in.x.begin() + t * c.channels, c.channels, x.begin() + t * stride);
  }
  fn({.x = view(std::as_const(x), {n_rows, stride}).columns(0, c.channels),
      .weight = in.weight.data(),
      .bias = c.bias ? in.bias.data() : nullptr,
      .taps = c.taps,
      .y = view(y, {n_rows, stride}).columns(0, c.channels),
      .state = pages.view(),
      .seqs = pages.seqs()},
     pool);
  EXPECT_TRUE(pages.surroundings_are_untouched());
  Outputs out;
  for (int64_t i = 0; i < n_rows * stride; ++i) {
    const float value = y[static_cast<size_t>(i)];
    if (i % stride < c.channels) {
      out.y.push_back(value);
    } else {
      EXPECT_TRUE(std::isnan(value)) << "column " << i % stride;
    }
  }
  for (size_t i = 0; i < c.lengths.size(); ++i) {
    const StateLength& length = c.lengths[i];
    if (length.n_slots == 0) out.states.push_back(pages.conv(i, 0));
    if (length.n_slots == 0) continue;
    for (int32_t s = 1; s <= length.q_len; ++s) out.states.push_back(pages.conv(i, s));
  }
  return out;
}

TEST(CausalConv, EveryIsaMatchesTheReference) {
  Random random(1);
  const std::vector<StateLength> lengths = {{.q_len = 1, .position = 0},
                                            {.q_len = 7, .position = 0},
                                            {.q_len = 2, .position = 5},
                                            {.q_len = 9, .position = 1},
                                            {.q_len = 3, .position = 4, .n_slots = 4},
                                            {.q_len = 4, .position = 0, .n_slots = 4}};
  for (const int32_t taps : {2, 3, 4}) {
    for (const int64_t channels : {1, 16, 33, 48, 184, 267, 272, 512}) {
      for (const DType dtype : {DType::f32, DType::bf16}) {
        const Case c{channels, taps, dtype, channels == 48 || channels == 33, lengths};
        const Inputs in = random_inputs(c, random);
        const Outputs expected = run(causal_conv_ref, c, in);
        for (const Isa isa : available_isas()) {
          const Outputs actual = run(causal_conv_cpu(isa), c, in);
          EXPECT_LT(relative_error(actual.y, expected.y), 1e-6) << name(isa) << " taps " << taps;
          EXPECT_EQ(actual.states, expected.states) << name(isa) << " taps " << taps;
        }
      }
    }
  }
}

TEST(CausalConv, WholeIsChunkedAndThreadsDoNotMatter) {
  Random random(2);
  const int32_t n = 23;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const Case c{.channels = 277, .dtype = dtype, .lengths = {{.q_len = n}}};
    const Inputs in = random_inputs(c, random);
    for (const Isa isa : available_isas()) {
      const CausalConvFn fn = causal_conv_cpu(isa);
      const Outputs whole = run(fn, c, in, 1);
      EXPECT_EQ(whole.y, run(fn, c, in, 3).y) << name(isa);
      Inputs part = in;
      std::vector<float> y;
      for (int32_t begin = 0; begin < n;) {
        const int32_t len = std::min<int32_t>(n - begin, 1 + begin % 4);
        Case chunk = c;
        chunk.lengths = {{.q_len = len, .position = begin}};
        part.x.assign(in.x.begin() + begin * c.channels, in.x.begin() + (begin + len) * c.channels);
        const Outputs out = run(fn, chunk, part);
        y.insert(y.end(), out.y.begin(), out.y.end());
        part.past = out.states;
        begin += len;
      }
      EXPECT_EQ(whole.y, y) << name(isa);
      EXPECT_EQ(whole.states, part.past) << name(isa);
    }
  }
}

}  // namespace
}  // namespace ashlar
