#pragma once

// Weights stored as e4m3 codes with a scale for each block of kScaleBlock rows and columns: which
// scales belong to which rows, as pure functions of shapes.
//
// A tensor X of codes [..., N, K] has its scales in X_scale_inv [..., ceil(N/128), ceil(K/128)]
// (they multiply, whatever the name says). A fused tensor in T chunks has a grid for each chunk:
// [T * ceil(N/T/128), ceil(K/128)].

#include <span>
#include <string>
#include <vector>

#include "base/checked.h"
#include "base/result.h"
#include "spec/weights.h"

namespace ashlar {

constexpr const char* kScaleSuffix = "_scale_inv";

// The grids of one tensor: a new one begins every `height` rows.
struct ScaleGrid {
  int64_t height = 0;
  int64_t columns = 0;

  int64_t blocks() const { return ceil_div(height, kScaleBlock); }  // rows of a grid
  int64_t block_columns() const { return ceil_div(columns, kScaleBlock); }
  // Of the scale tensor, for row r of the codes.
  int64_t row(int64_t r) const { return r / height * blocks() + r % height / kScaleBlock; }
};

// The source as it lies in a tensor stored in `chunks` chunks; others are answered as they are.
WeightSource in_chunks(const WeightSource& source, int64_t weight_elements, int64_t chunks);

// REQUIRES a source of rank 2 or 3.
ScaleGrid grid_of(const WeightSource& source, int64_t chunks);
std::vector<int64_t> scale_dims(const WeightSource& source, int64_t chunks);

// A weight's rows within its tensor: n parts of `rows` rows, `stride` apart.
struct RowParts {
  int64_t first = 0;
  int64_t n = 1;
  int64_t rows = 0;
  int64_t stride = 0;
};

// REQUIRES whole rows; `source` from in_chunks.
RowParts row_parts(const WeightSource& source, int64_t weight_rows);

// How codes reach a Matrix.
enum class CodeUse : uint8_t {
  view,    // where they lie, one part or a part of every grid
  gather,  // copied, with their scales: parts are whole blocks
  decode,  // parts cut blocks: multiplied out
};
CodeUse code_use(const RowParts& parts, const ScaleGrid& grid);

// A tensor that may be in chunks (WeightSource::most_chunks), as stored.
struct FusedTensor {
  std::string name;
  std::vector<int64_t> dims;    // [N, K]
  std::vector<int64_t> scales;  // empty: elements
  int64_t most_chunks = 1;
};

// The one number of chunks that fits all these tensors, which one training made. invalid when none
// does, or when several do: the order of the rows would be a guess. Names tensors, both shapes and
// the numbers tried.
Result<int64_t> detect_chunks(std::span<const FusedTensor> tensors);

}  // namespace ashlar
