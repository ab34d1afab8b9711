#pragma once

// What the walk over a plan's tasks (attention_walk.cc) and the bodies of an instruction set share.
//
// A block's rows lie in quads of four; a tile's tokens in groups of four. Scores live in cells of
// four rows by four tokens, row-major: one 512-bit vector, two 256-bit ones or four 128-bit ones,
// so every instruction set sees the same memory and a row never meets another row's lane. All sums
// over K's width are four partial sums (dims 0, 4, 8 .. apart in the f32 body, pairs of dims in the
// bf16 body) added at the end, and sums over tokens run in token order: nothing depends on how many
// rows or tokens a call holds.

#include <cstddef>
#include <cstdint>

#include "kernels/attention/attention.h"

namespace ashlar {

constexpr int kQuad = 4;
constexpr int kCell = kQuad * kQuad;
constexpr int kTileGroups = kKvTile / kQuad;
constexpr float kLog2E = 1.44269504f;

struct TokenRange {
  int32_t begin = 0;
  int32_t end = 0;
};

// Positions that row `token` of the sequence's q_len sees.
TokenRange visible(const AttnShape& shape, const AttnSeq& seq, int32_t token);

inline int32_t quads(const AttnShape& shape, const AttnBlock& block) {
  const int32_t rows = (block.token_end - block.token_begin) * (shape.heads / shape.kv_heads);
  return (rows + kQuad - 1) / kQuad;
}

// Widths in scratch are whole vectors, of floats and of bf16; the rest is zero.
constexpr int64_t padded(int64_t dim) { return (dim + 31) / 32 * 32; }

// The softmax state of a block's rows over some tokens. Scores are in units of log 2.
struct State {
  float* max = nullptr;  // [quads][4 rows][4], the row's maximum four times; -inf: nothing seen
  float* sum = nullptr;  // [quads][4 rows][4], four partial sums of exp2(s - max)
  float* out = nullptr;  // [rows][padded v_dim], sum of exp2(s - max) v; dims in the body's order

  static int64_t bytes(const AttnShape& shape, int64_t n_quads) {
    return n_quads * (2 * kCell + kQuad * padded(shape.v_dim)) * int64_t{sizeof(float)};
  }
  static State at(std::byte* memory, int64_t n_quads) {
    auto* floats = reinterpret_cast<float*>(memory);
    return {.max = floats, .sum = floats + n_quads * kCell, .out = floats + 2 * n_quads * kCell};
  }
};

// Where one tile's tokens lie. Tokens outside the visible range point at a row of zeros.
struct Tile {
  const std::byte* k[kKvTile];
  const std::byte* v[kKvTile];
  float k_scales[kKvTile];  // of each token, where pages have token scales; 1 outside
  float v_scales[kKvTile];
  int32_t position = 0;  // of token 0
  int32_t group_begin = 0;
  int32_t group_end = 0;  // groups of four tokens that some row sees
  bool masked = false;    // some row does not see all of them
};

// Asks memory for a tile's groups [begin, end) of tokens. Always inlined: to g++ a function that
// only prefetches has no effect, and its calls are dropped.
__attribute__((always_inline)) inline void prefetch(const Tile& tile, int64_t begin, int64_t end,
                                                    int64_t k_bytes, int64_t v_bytes) {
  constexpr int64_t kCacheLine = 64;
  for (int64_t i = begin * kQuad; i < end * kQuad; ++i) {
    for (int64_t at = 0; at < k_bytes; at += kCacheLine) __builtin_prefetch(tile.k[i] + at, 0, 3);
    for (int64_t at = 0; at < v_bytes; at += kCacheLine) __builtin_prefetch(tile.v[i] + at, 0, 3);
  }
}

// One block's walk: what the bodies read and write. All memory is one worker's scratch.
struct BlockWork {
  int32_t k_dim = 0;
  int32_t v_dim = 0;
  int32_t n_rows = 0;
  int32_t n_quads = 0;
  DType dtype = DType::bf16;
  float scale = 1.0f;    // of scores, K's scale included
  float v_scale = 1.0f;  // of the output
  bool token_scales = false;
  float softcap = 0.0f;
  bool round_q = false;  // q is rounded to bf16
  // Of a token's row as it lies in its page, whatever a body then makes of it. V that is a part of
  // K has none.
  int64_t k_bytes = 0;
  int64_t v_bytes = 0;

  const float* q_rows[kMaxBlockRows];
  float* out_rows[kMaxBlockRows];
  float sinks[kMaxBlockRows];  // -inf: none

  int32_t* visible_begin = nullptr;  // [quads][4 rows][4], the row's bound four times
  int32_t* visible_end = nullptr;
  std::byte* q = nullptr;       // packed queries, as the body likes them
  float* scores = nullptr;      // [quads][kTileGroups][kCell]; after softmax: probabilities
  float* alpha = nullptr;       // [quads][4 rows][4]: factor of the state so far
  std::byte* p = nullptr;       // probabilities, as the body likes them
  std::byte* k_tile = nullptr;  // the tile's K and V, as the body likes them
  std::byte* v_tile = nullptr;
  const std::byte* zeros = nullptr;

  const Tile* tile = nullptr;
  Tile widened;  // for bodies that rewrite a tile's rows before they use them as they lie
  const Tile* next = nullptr;  // the tile after it, to prefetch; the same when it is the last
  State state;                 // of the split at hand
};

// One worker's memory, cut up.
struct Scratch {
  static int64_t bytes(const AttnShape& shape, int64_t n_quads);
  // Points work's scratch fields and both states into `memory`.
  static void cut(std::byte* memory, const AttnShape& shape, BlockWork& work, State (&states)[2]);
};

// The steps of attention over one tile, for one instruction set.
struct TileBody {
  void (*pack)(BlockWork&);    // q_rows -> q
  void (*load)(BlockWork&);    // tile -> k_tile, v_tile
  void (*scores)(BlockWork&);  // q, K -> scores (raw dot products)
  // scores *= factors of the tile's tokens; only where pages have token scales
  void (*scale)(BlockWork&, const float* factors);
  void (*softmax)(BlockWork&);  // scores, state -> probabilities, alpha, state.max, state.sum
  void (*weigh)(BlockWork&);    // state.out = state.out * alpha + probabilities * V
  void (*merge)(const BlockWork&, const State& into, const State& from);
  void (*store)(const BlockWork&, const State& state);  // -> out_rows
};

// The body for an instruction set, in float; REQUIRES that this machine runs it.
const TileBody& tile_body(Isa isa);

// The body in plain loops, for machines that Highway has no vectors for.
const TileBody& tile_body_plain();

// The avx512 body with its products by bf16 dot products: q and probabilities are rounded, pages
// hold bf16. REQUIRES that this machine runs avx512_bf16; returns the body as it is where no
// compiler can build that.
TileBody with_bf16_products(TileBody body);
// The same for pages of 8-bit floats, every one of which is a bf16 number.
TileBody with_f8_products(TileBody body);

// Runs a plan with a body. Latents ask for more than attention does: where the view has no V, the
// head of K's rows serves; and the plan's KV heads may be a multiple of the view's, neighbours then
// read the same one.
void attend(const AttnPlan& plan, const AttnParams& params, const TileBody& body, Pool& pool);

}  // namespace ashlar
