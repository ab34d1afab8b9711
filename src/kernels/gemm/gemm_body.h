#pragma once

// How the CPU product is put together; for gemm and for ops made of it (moe), not for other rooms.
//
// A GemmBody is one instruction set's way to multiply: how a row of x is packed, and tiles that
// multiply a few weight rows with a few packed x rows over one block of K. multiply() walks tiles
// over a range of weight rows and of x rows. The order in which one output element is summed (lanes
// along K, blocks of K in order, one reduction tree) is the same in every tile of a body, so it
// does not matter which tile an element falls into.

#include <cstddef>
#include <cstdint>

#include "base/checked.h"
#include "kernels/gemm/gemm.h"

namespace ashlar {

constexpr int kTileColumns = 4;      // weight rows of a tile, y's columns
constexpr int kMaxTileRows = 6;      // x rows of a tile, y's rows
constexpr int64_t kPackUnit = 64;    // packed rows are padded with zeros to a multiple of this
constexpr int64_t kMaxBlock = 1024;  // most elements of K in one block

// One call of a tile: out[m * out_stride + n] (+)= w[n] . x[m] over k elements.
struct GemmTile {
  const std::byte* w[kTileColumns];
  const float* scale[kTileColumns];  // of each kScaleBlock of k; bodies with scaled_tiles only
  const std::byte* x;                // rows x_stride bytes apart
  int64_t x_stride;
  int64_t k;
  // Weights to prefetch meanwhile: as many bytes as w has, in one piece (next_stride 0) or in rows
  // next_stride bytes apart.
  const std::byte* next;
  int64_t next_stride;
  float* out;
  int64_t out_stride;
  bool add;
};
using GemmTileFn = void (*)(const GemmTile&);

// Few x rows with many weight rows, which are read one after another as they lie in memory:
// out[m * out_stride + n] = w[n] . x[m].
struct GemmStream {
  const std::byte* w;
  int64_t w_stride;      // bytes
  const Matrix* matrix;  // whose rows from n_begin on they are; for its scales
  int64_t n_begin, n_columns;
  const std::byte* x;  // block 0; rows x_stride bytes apart, blocks of K x_block_stride
  int64_t x_stride;
  int64_t x_block_stride;
  int64_t k, block;  // elements
  float* out;
  int64_t out_stride;
};
using GemmStreamFn = void (*)(const GemmStream&);

// Decodes n codes of a row, whose scales begin at `scales`, to elements as tiles of the body take
// them, and zeros up to the next multiple of kPackUnit; up to kScaleBlock may be written.
using GemmDecodeFn = void (*)(const std::byte* codes, const std::byte* scales, int64_t n,
                              std::byte* decoded);

struct GemmBody {
  DType packed;                           // of x: bf16 or f32
  int rows;                               // most x rows a tile takes
  GemmTileFn tile[kMaxTileRows + 1];      // by x rows
  GemmStreamFn stream[kMaxTileRows + 1];  // by x rows; nullptr: tiles do
  // Packs n <= kPackUnit floats and zeros up to kPackUnit.
  void (*pack)(const float* values, int64_t n, std::byte* packed);
  // Quantised weights: tiles multiply decoded ones, streams read codes.
  GemmDecodeFn decode = nullptr;
  bool scaled_tiles = false;  // decode leaves the scales out, tiles multiply by them
};

// `compute` bf16 needs w bf16 or quantised.
GemmBody gemm_body(Isa isa, DType compute, DType w);

// The parts of gemm_body: Highway's copies, and the file with VDPBF16PS.
GemmBody gemm_body_highway(Isa isa, DType compute, DType w);
GemmBody gemm_body_avx512bf16();
GemmDecodeFn gemm_decode_highway(Isa isa, DType w);
// nullptr tiles where this machine lacks VBMI, which looks codes up (Cooper Lake does).
GemmBody gemm_body_e4m3_avx512bf16();
GemmBody gemm_body_e2m1_avx512bf16();

// Rows of x as a body wants them: `[block][row][block elements]`, so that the rows of one block of
// K lie together in the cache whatever K is.
struct PackedRows {
  std::byte* data = nullptr;  // 64-byte aligned
  int64_t n_rows = 0;
  int64_t k = 0;
  int64_t block = 0;  // elements, a multiple of kPackUnit
  int64_t element_bytes = 4;

  PackedRows() = default;
  PackedRows(const GemmBody& body, std::byte* memory, int64_t rows, int64_t width);
  int64_t block_bytes() const { return block * element_bytes; }
  // Row 0 of the block that begins at k_begin; row r lies r * block_bytes() further.
  std::byte* block_at(int64_t k_begin) const { return data + k_begin * n_rows * element_bytes; }
  static int64_t bytes(int64_t rows, int64_t width);  // enough for any body
};

// [begin, end).
struct Span {
  int64_t begin, end;
};

// Packs some columns of a row; the first is a multiple of kPackUnit.
void pack_columns(const GemmBody& body, const PackedRows& packed, int64_t row, const float* values,
                  Span columns);

// out[(m - m_begin) * out_stride + n - n_begin] = w[n] . x[m]. Columns are computed in fours: out
// has room for round_up(n_end - n_begin, kTileColumns) of them, and the surplus holds copies of the
// last.
void multiply(const GemmBody& body, const Matrix& w, Span n, const PackedRows& x, Span m,
              float* out, int64_t out_stride);

// How a product is cut into tasks: pieces of `rows` x rows and `columns` weight rows (a multiple of
// kTileColumns), at most kTaskOutputs outputs each.
constexpr int64_t kTaskOutputs = 16384;
struct TaskShape {
  int64_t rows;
  int64_t columns;
};
TaskShape task_shape(const GemmBody& body, const PackedRows& x, int64_t n_rows, int64_t n_columns,
                     int n_threads);

}  // namespace ashlar
