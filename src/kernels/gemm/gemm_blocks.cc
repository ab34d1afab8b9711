#include <algorithm>

#include "kernels/gemm/gemm_body.h"

namespace ashlar {
namespace {

// Bytes of x held in a core's first cache while weights pass, and of weights that pass again and
// again from its second.
constexpr int64_t kHeldBytes = int64_t{24} << 10;
constexpr int64_t kPassingBytes = int64_t{256} << 10;
// Bytes of x that leave the first cache room for weights that are read once.
constexpr int64_t kStreamedBytes = int64_t{32} << 10;
// How far ahead of their use weights are fetched at least: more than a memory access lasts.
constexpr int64_t kAheadBytes = int64_t{16} << 10;
constexpr int64_t kMaxTaskRows = 256;
constexpr int64_t kTasksPerThread = 8;
constexpr int64_t kPackElements = 32768;  // of x per packing task

// Blocks of K are about equal, so that the last one is no short chain, and hold whole blocks of
// scales.
int64_t block_of(int64_t width) {
  const int64_t n_blocks = std::max<int64_t>(1, ceil_div(width, kMaxBlock));
  return std::max(kScaleBlock, round_up(ceil_div(width, n_blocks), kScaleBlock));
}

int64_t blocks_of(const PackedRows& x) { return std::max<int64_t>(1, ceil_div(x.k, x.block)); }

// What multiply() was asked for, or a piece of it: weights as tiles take them.
struct Product {
  const GemmBody& body;
  const Matrix& w;
  Span n, m;
  const PackedRows& x;
  float* out;
  int64_t out_stride;
  // Weights of row n.begin and column k_begin, and their form; of w, or decoded.
  const std::byte* data;
  int64_t stride, element_bytes;  // stride in bytes
  int64_t k_begin = 0;

  Product(const GemmBody& of, const Matrix& matrix, Span columns, const PackedRows& packed,
          Span rows, float* sums, int64_t sums_stride)
      : body(of),
        w(matrix),
        n(columns),
        m(rows),
        x(packed),
        out(sums),
        out_stride(sums_stride),
        data(matrix.data + columns.begin * matrix.stride(0) * size_of(matrix.dtype)),
        stride(matrix.stride(0) * size_of(matrix.dtype)),
        element_bytes(size_of(matrix.dtype)) {}
  const std::byte* at(int64_t row, int64_t k) const {
    return data + (row - n.begin) * stride + (k - k_begin) * element_bytes;
  }
};

// Rows of x in equal tiles, none larger than the body's.
struct Tiles {
  int64_t n_rows, n_tiles;
  Tiles(int64_t rows, int64_t most) : n_rows(rows), n_tiles(ceil_div(rows, most)) {}
  int64_t begin(int64_t tile) const { return n_rows * tile / n_tiles; }
};

// What a tile should fetch while it works on the weights at `w`, of row n and block k_begin.
void look_ahead(const Product& p, const Tiles& tiles, int64_t n, int64_t k_begin,
                const std::byte* w, GemmTile& tile) {
  const int64_t element_bytes = p.element_bytes, stride = p.stride;
  const bool once = tiles.n_tiles == 1;  // weights are read once, rows to their end
  const int64_t group_bytes = kTileColumns * (once ? p.x.k : tile.k) * element_bytes;
  const int64_t rows = kTileColumns * std::max<int64_t>(1, kAheadBytes / (group_bytes + 1));
  const bool linear = once && stride == p.x.k * element_bytes;
  tile.next_stride = linear ? 0 : stride;
  if (n + rows + kTileColumns > p.n.end) {
    tile.next = w;  // nothing: w is in the cache
  } else {
    tile.next = w + rows * stride + (linear ? k_begin * element_bytes * (kTileColumns - 1) : 0);
  }
}

// kTileColumns weight rows from row n on, with some tiles of x, over one block of K.
void walk(const Product& p, const Tiles& tiles, Span some, int64_t n, int64_t k_begin) {
  const std::byte* w = p.at(n, k_begin);
  const std::byte* x = p.x.block_at(k_begin) + p.m.begin * p.x.block_bytes();
  GemmTile tile = {.x_stride = p.x.block_bytes(),
                   .k = std::min(p.x.block, p.x.k - k_begin),
                   .out_stride = p.out_stride,
                   .add = k_begin > 0};
  // Past the last weight row its copies are multiplied: columns of out that nobody reads.
  for (int64_t i = 0; i < kTileColumns; ++i) {
    const int64_t row = std::min(i, p.n.end - 1 - n);
    tile.w[i] = w + row * p.stride;
    if (p.body.scaled_tiles) {
      tile.scale[i] =
          reinterpret_cast<const float*>(p.w.scales_of(n + row)) + k_begin / kScaleBlock;
    }
  }
  look_ahead(p, tiles, n, k_begin, w, tile);
  for (int64_t i = some.begin; i < some.end; ++i) {
    const int64_t begin = tiles.begin(i);
    tile.x = x + begin * tile.x_stride;
    tile.out = p.out + begin * p.out_stride + (n - p.n.begin);
    p.body.tile[tiles.begin(i + 1) - begin](tile);
  }
}

// All weights of one block of K: a few tiles of x stay in the first cache while the weights, in the
// second, pass.
void pass(const Product& p, const Tiles& tiles, int64_t k_begin) {
  const int64_t held = std::max<int64_t>(1, kHeldBytes / (p.body.rows * p.x.block_bytes()));
  for (int64_t t = 0; t < tiles.n_tiles; t += held) {
    const Span some = {t, std::min(tiles.n_tiles, t + held)};
    for (int64_t at = p.n.begin; at < p.n.end; at += kTileColumns) {
      walk(p, tiles, some, at, k_begin);
    }
  }
}

// Codes become elements a piece of rows and a block of K at a time, which stays in the second cache
// (in the first, where one tile of x is all there is) while x passes.
void decoded(const Product& p, const Tiles& tiles) {
  alignas(64) std::byte piece[kPassingBytes];
  const int64_t group = p.w.dtype == DType::u8 ? kScaleGroup : kScaleBlock;
  const int64_t per_byte = p.w.dtype == DType::u8 ? 2 : 1;
  const int64_t scale_bytes = size_of(p.w.scales.dtype);
  const int64_t fit = kPassingBytes / p.x.block_bytes() / kTileColumns * kTileColumns;
  const int64_t columns = tiles.n_tiles == 1 ? kTileColumns : fit;
  for (int64_t n = p.n.begin; n < p.n.end; n += columns) {
    Product part = p;
    part.n = {n, std::min(p.n.end, n + columns)};
    part.out = p.out + (n - p.n.begin);
    part.data = piece;
    part.stride = p.x.block_bytes();
    part.element_bytes = p.x.element_bytes;
    for (int64_t k = 0; k < p.x.k || k == 0; k += p.x.block) {
      const int64_t left = std::min(p.x.block, p.x.k - k);
      for (int64_t row = part.n.begin; row < part.n.end; ++row) {
        p.body.decode(p.at(row, k / per_byte), p.w.scales_of(row) + k / group * scale_bytes, left,
                      piece + (row - n) * part.stride);
      }
      part.k_begin = k;
      pass(part, tiles, k);
    }
  }
}

// Whether weights are best read one row after another: all of x must stay in the first cache.
bool streams(const GemmBody& body, const PackedRows& x, int64_t n_rows) {
  if (n_rows > body.rows || !body.stream[n_rows]) return false;
  return n_rows == 1 || n_rows * blocks_of(x) * x.block_bytes() <= kStreamedBytes;
}

void stream(const Product& p) {
  p.body.stream[p.m.end - p.m.begin]({.w = p.data,
                                      .w_stride = p.stride,
                                      .matrix = &p.w,
                                      .n_begin = p.n.begin,
                                      .n_columns = p.n.end - p.n.begin,
                                      .x = p.x.block_at(0) + p.m.begin * p.x.block_bytes(),
                                      .x_stride = p.x.block_bytes(),
                                      .x_block_stride = p.x.n_rows * p.x.block_bytes(),
                                      .k = p.x.k,
                                      .block = p.x.block,
                                      .out = p.out,
                                      .out_stride = p.out_stride});
}

void pack_rows(const GemmBody& body, const PackedRows& packed, const ConstView& x, Pool& pool) {
  const int64_t rows = std::max<int64_t>(1, kPackElements / std::max<int64_t>(1, packed.k));
  pool.each(ceil_div(packed.n_rows, rows), [&](int64_t task, int) {
    const int64_t end = std::min(packed.n_rows, (task + 1) * rows);
    for (int64_t m = task * rows; m < end; ++m) {
      pack_columns(body, packed, m, x.row<float>(m), {0, packed.k});
    }
  });
}

// y[m, n] of one task, from the sums of its product.
void finish(const GemmParams& p, Span m, Span n, const float* sums, int64_t stride) {
  for (int64_t row = m.begin; row < m.end; ++row, sums += stride) {
    float* y = p.y.row<float>(row);
    for (int64_t i = n.begin; i < n.end; ++i) {
      const float value = sums[i - n.begin] + (p.bias ? p.bias[i] : 0.0f);
      y[i] = p.accumulate ? y[i] + value : value;
    }
  }
}

template <Isa kIsa>
void gemm(const GemmParams& p, Pool& pool) {
  const int64_t n_rows = p.x.dim(0), n_columns = p.w.dim(0);
  if (n_rows == 0 || n_columns == 0) return;
  CHECK(static_cast<int64_t>(p.workspace.size()) >= gemm_workspace_bytes(n_rows, p.x.dim(1)),
        "gemm workspace of {} bytes for {} rows of {}", p.workspace.size(), n_rows, p.x.dim(1));
  const GemmBody body = gemm_body(kIsa, p.compute, p.w.dtype);
  const PackedRows x(body, p.workspace.data(), n_rows, p.x.dim(1));
  pack_rows(body, x, p.x, pool);
  const TaskShape shape = task_shape(body, x, n_rows, n_columns, pool.size());
  // Tasks that share weights follow each other: the second thread finds them in the last cache.
  const int64_t row_tasks = ceil_div(n_rows, shape.rows);
  pool.each(row_tasks * ceil_div(n_columns, shape.columns), [&](int64_t task, int) {
    const int64_t m_begin = task % row_tasks * shape.rows;
    const int64_t n_begin = task / row_tasks * shape.columns;
    const Span m = {m_begin, std::min(n_rows, m_begin + shape.rows)};
    const Span n = {n_begin, std::min(n_columns, n_begin + shape.columns)};
    alignas(64) float out[kTaskOutputs];
    multiply(body, p.w, n, x, m, out, shape.columns);
    finish(p, m, n, out, shape.columns);
  });
}

}  // namespace

GemmBody gemm_body(Isa isa, DType compute, DType w) {
  const bool codes = w == DType::f8e4m3 || w == DType::u8;
  CHECK(compute == DType::f32 || (compute == DType::bf16 && (codes || w == DType::bf16)),
        "gemm computes in {} with weights of {}", name(compute), name(w));
  if (isa == Isa::avx512_bf16 && compute == DType::bf16) {
    if (w == DType::bf16) return gemm_body_avx512bf16();
    if (w == DType::u8) return gemm_body_e2m1_avx512bf16();
    if (const GemmBody body = gemm_body_e4m3_avx512bf16(); body.rows > 0) return body;
  }
  return gemm_body_highway(isa, compute, w);
}

PackedRows::PackedRows(const GemmBody& body, std::byte* memory, int64_t rows, int64_t width)
    : data(memory),
      n_rows(rows),
      k(width),
      block(block_of(width)),
      element_bytes(size_of(body.packed)) {
  CHECK(reinterpret_cast<uintptr_t>(memory) % 64 == 0, "packed rows at {}",
        static_cast<void*>(memory));
}

int64_t PackedRows::bytes(int64_t rows, int64_t width) {
  const int64_t block = block_of(width);
  return std::max<int64_t>(1, ceil_div(width, block)) * block * rows * 4;
}

void pack_columns(const GemmBody& body, const PackedRows& packed, int64_t row, const float* values,
                  Span columns) {
  for (int64_t at = columns.begin; at < columns.end; at += kPackUnit) {
    std::byte* to = packed.block_at(at / packed.block * packed.block) + row * packed.block_bytes() +
                    at % packed.block * packed.element_bytes;
    body.pack(values + (at - columns.begin), std::min(kPackUnit, columns.end - at), to);
  }
}

void multiply(const GemmBody& body, const Matrix& w, Span n, const PackedRows& x, Span m,
              float* out, int64_t out_stride) {
  const Product p(body, w, n, x, m, out, out_stride);
  const Tiles tiles(m.end - m.begin, body.rows);
  if (streams(body, x, tiles.n_rows)) return stream(p);
  if (body.decode) return decoded(p, tiles);
  if (tiles.n_tiles == 1) {
    // Memory is the limit: weight rows are read to their end before the next ones.
    for (int64_t at = n.begin; at < n.end; at += kTileColumns) {
      for (int64_t b = 0; b < blocks_of(x); ++b) walk(p, tiles, {0, 1}, at, b * x.block);
    }
    return;
  }
  for (int64_t b = 0; b < blocks_of(x); ++b) pass(p, tiles, b * x.block);
}

TaskShape task_shape(const GemmBody& body, const PackedRows& x, int64_t n_rows, int64_t n_columns,
                     int n_threads) {
  const int64_t rows = ceil_div(n_rows, ceil_div(n_rows, kMaxTaskRows));
  int64_t most = kTaskOutputs / rows;
  if (n_rows > body.rows) most = std::min(most, kPassingBytes / x.block_bytes());
  const int64_t wanted_tasks = std::max<int64_t>(1, kTasksPerThread * n_threads * rows / n_rows);
  const int64_t columns = std::min(most, ceil_div(n_columns, wanted_tasks));
  return {.rows = rows, .columns = std::max<int64_t>(1, columns / kTileColumns) * kTileColumns};
}

int64_t gemm_workspace_bytes(int64_t m, int64_t k) { return PackedRows::bytes(m, k); }

GemmFn gemm_cpu(Isa isa) {
  switch (isa) {
    case Isa::baseline: return gemm<Isa::baseline>;
    case Isa::avx2: return gemm<Isa::avx2>;
    case Isa::avx512: return gemm<Isa::avx512>;
    case Isa::avx512_bf16: return gemm<Isa::avx512_bf16>;
  }
  return gemm<Isa::baseline>;
}

}  // namespace ashlar
