#include <gtest/gtest.h>

#include <cstring>
#include <map>

#include "kernels/attention/cuda/attention_cuda.h"
#include "kernels/attention/tile.h"
#include "kernels/testing.h"

namespace ashlar {
namespace {

template <class T>
std::vector<T> part(const CudaPlan& plan, int64_t offset, int32_t n) {
  std::vector<T> items(static_cast<size_t>(n));
  if (n > 0) std::memcpy(items.data(), plan.image.data() + offset, items.size() * sizeof(T));
  return items;
}
std::vector<CudaWork> works_of(const CudaPlan& plan) {
  return part<CudaWork>(plan, plan.works_offset, plan.n_works);
}
std::vector<CudaMerge> merges_of(const CudaPlan& plan) {
  return part<CudaMerge>(plan, plan.merges_offset, plan.n_merges);
}
std::vector<int32_t> queue_of(const CudaPlan& plan) {
  return part<int32_t>(plan, plan.queue_offset, plan.n_blocks + 1);
}

struct Step {
  AttnShape shape;
  CudaTiling tiling;
  std::vector<AttnSeq> seqs;
  int n_sms = 1;
};

Step random_step(Random& random) {
  const int32_t groups[] = {1, 2, 3, 8, 16, 20, 128};
  Step step;
  const int32_t group = groups[random.integer(0, 6)];
  step.shape = {.heads = 2 * group, .kv_heads = 2, .k_dim = 8, .v_dim = 8};
  step.shape.window = static_cast<int32_t>(random.integer(0, 1) * random.integer(1, 900));
  step.shape.causal = random.integer(0, 3) > 0;
  step.tiling.rows = random.integer(0, 1) ? 16 : 64;
  step.tiling.kv_split = static_cast<int32_t>(256 * random.integer(0, 2));
  step.tiling.blocks_per_sm = static_cast<int32_t>(random.integer(1, 2));
  step.tiling.group = static_cast<int32_t>(random.integer(0, 1) * random.integer(1, 3) + 1);
  step.n_sms = static_cast<int>(random.integer(1, 132));
  int32_t begin = 0;
  for (int64_t n = random.integer(0, 6); n > 0; --n) {
    const auto q_len = static_cast<int32_t>(random.integer(0, 2) * random.integer(0, 60));
    const auto before = static_cast<int32_t>(random.integer(0, 4000));
    step.seqs.push_back({.q_begin = begin, .q_len = q_len, .kv_len = q_len + before});
    begin += q_len;
  }
  return step;
}

// Of a work that does not hold all of its rows' splits.
int32_t states_of(const CudaTiling& tiling, const CudaWork& work) {
  const int32_t begin = work.kv_begin / tiling.kv_split;
  const int32_t end = (work.kv_end - 1) / tiling.kv_split + 1;
  int32_t states = 0, whole = 0;
  bool continues = !work.first && begin % tiling.group > 0;
  for (int32_t split = begin; split < end; ++split) {
    const bool group_ends = (split + 1) % tiling.group == 0;
    if (continues || (!work.first && (group_ends || split + 1 == end))) ++states;
    if (work.first && group_ends) whole = 1;
    if (work.first && !group_ends && split + 1 == end) ++states;
    if (group_ends) continues = false;
  }
  return states + whole;
}

// Every row of every head sees each of its positions in exactly one work.
void expect_covered(const Step& step, const CudaPlan& plan) {
  std::map<std::tuple<int32_t, int32_t, int32_t>, std::vector<TokenRange>> ranges;
  for (const CudaWork& work : works_of(plan)) {
    const AttnSeq& seq = step.seqs[static_cast<size_t>(work.seq)];
    EXPECT_LE((work.token_end - work.token_begin) * work.n_heads, step.tiling.rows);
    EXPECT_EQ(work.q_begin, seq.q_begin);
    EXPECT_EQ(work.q_position, seq.kv_len - seq.q_len);
    EXPECT_EQ(work.kv_len, seq.kv_len);
    const int32_t group = step.shape.heads / step.shape.kv_heads;
    EXPECT_EQ(work.kv_head, work.head_begin / group);
    EXPECT_EQ(work.kv_head, (work.head_begin + work.n_heads - 1) / group);
    for (int32_t row = 0; row < 256; ++row)
      ASSERT_EQ(row * work.heads_inverse >> 16, row / work.n_heads) << work.n_heads;
    for (int32_t token = work.token_begin; token < work.token_end; ++token) {
      for (int32_t head = work.head_begin; head < work.head_begin + work.n_heads; ++head)
        ranges[{work.seq, token, head}].push_back({work.kv_begin, work.kv_end});
    }
  }
  size_t n_rows = 0;
  for (size_t i = 0; i < step.seqs.size(); ++i) {
    for (int32_t token = 0; token < step.seqs[i].q_len; ++token) {
      for (int32_t head = 0; head < step.shape.heads; ++head, ++n_rows) {
        auto& row = ranges[{static_cast<int32_t>(i), token, head}];
        std::sort(row.begin(), row.end(),
                  [](const TokenRange& a, const TokenRange& b) { return a.begin < b.begin; });
        const TokenRange seen = visible(step.shape, step.seqs[i], token);
        ASSERT_FALSE(row.empty());
        EXPECT_LE(row.front().begin, seen.begin);
        EXPECT_GE(row.back().end, seen.end);
        for (size_t k = 1; k < row.size(); ++k) EXPECT_EQ(row[k].begin, row[k - 1].end);
      }
    }
  }
  EXPECT_EQ(ranges.size(), n_rows);
}

// The states of rows whose splits are divided follow each other in the order of the splits.
void expect_merged_in_order(const Step& step, const CudaPlan& plan) {
  const std::vector<CudaWork> works = works_of(plan);
  size_t at = 0;
  int32_t next_state = 0;
  for (const CudaMerge& merge : merges_of(plan)) {
    while (at < works.size() && works[at].state < 0) ++at;
    EXPECT_EQ(merge.state, next_state);
    ASSERT_LT(at, works.size());
    EXPECT_TRUE(works[at].first);
    int32_t position = works[at].kv_begin;
    while (next_state < merge.state + merge.n_states) {
      ASSERT_LT(at, works.size());
      const CudaWork& work = works[at++];
      EXPECT_EQ(work.seq, merge.seq);
      EXPECT_EQ(work.head_begin, merge.head_begin);
      EXPECT_EQ(work.token_begin, merge.token_begin);
      EXPECT_EQ(work.q_begin, merge.q_begin);
      EXPECT_EQ(work.kv_begin, position);
      EXPECT_EQ(work.state, next_state);
      position = work.kv_end;
      next_state += states_of(step.tiling, work);
    }
    EXPECT_EQ(next_state, merge.state + merge.n_states);
  }
  for (; at < works.size(); ++at) EXPECT_LT(works[at].state, 0);
  EXPECT_EQ(plan.workspace_bytes, plan.states_offset + next_state * plan.state_bytes);
}

TEST(PlanCuda, CoversEveryVisiblePairOnceAndMergesInOrder) {
  Random random(1);
  for (int round = 0; round < 60; ++round) {
    const Step step = random_step(random);
    const CudaPlan plan = plan_cuda(step.shape, step.tiling, step.seqs, step.n_sms);
    expect_covered(step, plan);
    expect_merged_in_order(step, plan);
    const std::vector<int32_t> queue = queue_of(plan);
    EXPECT_TRUE(std::is_sorted(queue.begin(), queue.end()));
    EXPECT_EQ(queue.front(), 0);
    EXPECT_EQ(queue.back(), plan.n_works);
    if (step.tiling.kv_split == 0) continue;  // a block a work
    EXPECT_LE(plan.n_blocks, step.n_sms * step.tiling.blocks_per_sm);
  }
}

TEST(PlanCuda, IsTheSameEveryTime) {
  Random random(2);
  for (int round = 0; round < 20; ++round) {
    const Step step = random_step(random);
    const CudaPlan once = plan_cuda(step.shape, step.tiling, step.seqs, step.n_sms);
    const CudaPlan again = plan_cuda(step.shape, step.tiling, step.seqs, step.n_sms);
    EXPECT_TRUE(once.image == again.image);
  }
}

TEST(PlanCuda, NoBlockHasMuchMoreThanItsShare) {
  const AttnShape shape{.heads = 64, .kv_heads = 4, .k_dim = 192, .v_dim = 128};
  const CudaTiling tiling{.rows = 16, .kv_split = 512};
  constexpr int kSms = 132;
  constexpr int64_t kStart = 96;  // a start counts as so many tokens
  Random random(3);
  for (const int n_seqs : {1, 7, 32, 128, 300}) {
    std::vector<AttnSeq> seqs;
    for (int i = 0; i < n_seqs; ++i)
      seqs.push_back(
          {.q_begin = i, .q_len = 1, .kv_len = static_cast<int32_t>(random.integer(1, 16000))});
    const CudaPlan plan = plan_cuda(shape, tiling, seqs, kSms);
    const std::vector<CudaWork> works = works_of(plan);
    const std::vector<int32_t> queue = queue_of(plan);
    int64_t total = 0, largest = 0;
    for (int32_t block = 0; block < plan.n_blocks; ++block) {
      int64_t tokens = 0;
      for (int32_t i = queue[static_cast<size_t>(block)]; i < queue[static_cast<size_t>(block) + 1];
           ++i)
        tokens +=
            works[static_cast<size_t>(i)].kv_end - works[static_cast<size_t>(i)].kv_begin + kStart;
      total += tokens;
      largest = std::max(largest, tokens);
    }
    EXPECT_LE(largest, total / kSms + tiling.kv_split + 2 * kStart) << n_seqs;
  }
}

// A second launch and its states cost more than a second block of a multiprocessor gains.
TEST(PlanCuda, PrefersWholeRowsToMoreBlocks) {
  const AttnShape shape{.heads = 64, .kv_heads = 4, .k_dim = 192, .v_dim = 128};
  const CudaTiling tiling{.rows = 16, .kv_split = 512, .blocks_per_sm = 2};
  std::vector<AttnSeq> seqs(32, {.q_len = 1, .kv_len = 8192});
  EXPECT_EQ(plan_cuda(shape, tiling, seqs, 132).n_merges, 0);
  EXPECT_EQ(plan_cuda(shape, tiling, seqs, 132).n_blocks, 128);
  seqs.resize(8);
  EXPECT_EQ(plan_cuda(shape, tiling, seqs, 132).n_blocks, 256);
}

// Steps of many rows divide nothing: states cost more than the last bit of balance.
TEST(PlanCuda, ManyRowsStayWhole) {
  const AttnShape shape{.heads = 64, .kv_heads = 4, .k_dim = 192, .v_dim = 128};
  Random random(4);
  for (const int32_t blocks_per_sm : {1, 2}) {
    const CudaTiling tiling{.rows = 16, .kv_split = 256, .blocks_per_sm = blocks_per_sm};
    for (const bool ragged : {false, true}) {
      std::vector<AttnSeq> seqs;
      int64_t total = 0;
      for (int32_t i = 0; i < 128; ++i) {
        const auto kv_len = ragged ? static_cast<int32_t>(random.integer(1, 16000)) : 8192;
        seqs.push_back({.q_begin = i, .q_len = 1, .kv_len = kv_len});
        total += kv_len * shape.kv_heads;
      }
      const CudaPlan plan = plan_cuda(shape, tiling, seqs, 132);
      EXPECT_EQ(plan.n_merges, 0);
      const std::vector<CudaWork> works = works_of(plan);
      const std::vector<int32_t> queue = queue_of(plan);
      for (size_t block = 0; block + 1 < queue.size(); ++block) {
        int64_t tokens = 0;
        for (int32_t i = queue[block]; i < queue[block + 1]; ++i)
          tokens += works[static_cast<size_t>(i)].kv_end;
        EXPECT_LE(tokens, total / (132 * blocks_per_sm) * 11 / 10);
      }
    }
  }
}

TEST(PlanCuda, NothingToDo) {
  const AttnShape shape{.heads = 4, .kv_heads = 2, .k_dim = 64, .v_dim = 64};
  const AttnSeq idle[] = {{.q_len = 0, .kv_len = 9}, {.q_len = 0, .kv_len = 0}};
  for (const int32_t kv_split : {0, 512}) {
    const CudaPlan plan = plan_cuda(shape, {.kv_split = kv_split}, idle, 132);
    EXPECT_EQ(plan.n_seqs, 2);
    EXPECT_EQ(plan.n_works, 0);
    EXPECT_EQ(plan.n_blocks, 0);
    EXPECT_EQ(plan_cuda(shape, {.kv_split = kv_split}, {}, 132).n_works, 0);
  }
}

}  // namespace
}  // namespace ashlar
