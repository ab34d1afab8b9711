#include "weights/blocks.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "weights/safetensors.h"

namespace ashlar {

WeightSource in_chunks(const WeightSource& source, int64_t weight_elements, int64_t chunks) {
  WeightSource out = source;
  if (source.most_chunks == 0 || chunks == 1) return out;
  CHECK(source.most_chunks % chunks == 0, "{} chunks of {}", chunks, source.tensor);
  out.first_element = source.first_element / chunks;
  out.run_elements = weight_elements / chunks;
  out.run_stride = source.tensor_shape.elements() / chunks;
  return out;
}

ScaleGrid grid_of(const WeightSource& source, int64_t chunks) {
  const Shape& shape = source.tensor_shape;
  CHECK(shape.rank == 2 || shape.rank == 3, "{} of {}", source.tensor, shape.text());
  const int64_t rows = shape[shape.rank - 2];
  return {.height = source.most_chunks > 0 ? rows / chunks : rows,
          .columns = shape[shape.rank - 1]};
}

std::vector<int64_t> scale_dims(const WeightSource& source, int64_t chunks) {
  const Shape& shape = source.tensor_shape;
  const ScaleGrid grid = grid_of(source, chunks);
  std::vector<int64_t> dims(shape.dims.begin(), shape.dims.begin() + shape.rank);
  dims[dims.size() - 2] = grid.blocks() * (dims[dims.size() - 2] / grid.height);
  dims[dims.size() - 1] = grid.block_columns();
  return dims;
}

RowParts row_parts(const WeightSource& source, int64_t weight_rows) {
  const int64_t k = source.tensor_shape[source.tensor_shape.rank - 1];
  CHECK(source.first_element % k == 0 && source.run_elements % k == 0 && source.run_stride % k == 0,
        "{}: parts of rows", source.tensor);
  RowParts parts{.first = source.first_element / k, .rows = weight_rows};
  if (source.run_elements == 0) return parts;
  parts.rows = source.run_elements / k;
  parts.n = weight_rows / parts.rows;
  parts.stride = source.run_stride / k;
  return parts;
}

CodeUse code_use(const RowParts& parts, const ScaleGrid& grid) {
  if (parts.n == 1 || parts.stride == grid.height) {
    CHECK(parts.first % grid.height + parts.rows <= grid.height, "rows {} + {} of grids of {}",
          parts.first, parts.rows, grid.height);
    return CodeUse::view;
  }
  const bool whole_blocks = parts.first % kScaleBlock == 0 && parts.rows % kScaleBlock == 0 &&
                            parts.stride % kScaleBlock == 0;
  return whole_blocks ? CodeUse::gather : CodeUse::decode;
}

namespace {

std::string described(const FusedTensor& tensor) {
  if (tensor.scales.empty()) return fmt::format("{} {}", tensor.name, shape_text(tensor.dims));
  return fmt::format("{} {} with scales {}", tensor.name, shape_text(tensor.dims),
                     shape_text(tensor.scales));
}

bool fits(const FusedTensor& tensor, int64_t chunks) {
  if (tensor.most_chunks % chunks != 0 || tensor.dims[0] % chunks != 0) return false;
  if (tensor.scales.empty()) return true;
  const ScaleGrid grid{.height = tensor.dims[0] / chunks, .columns = tensor.dims[1]};
  return tensor.scales == std::vector<int64_t>{chunks * grid.blocks(), grid.block_columns()};
}

std::vector<int64_t> counts_of(const FusedTensor& tensor) {
  std::vector<int64_t> counts;
  for (int64_t chunks = 1; chunks <= tensor.most_chunks; ++chunks) {
    if (fits(tensor, chunks)) counts.push_back(chunks);
  }
  return counts;
}

// What each number of chunks would make of the scales.
std::string wanted_scales(const FusedTensor& tensor) {
  std::string out;
  for (int64_t chunks = 1; chunks <= tensor.most_chunks; ++chunks) {
    if (tensor.most_chunks % chunks != 0) continue;
    const ScaleGrid grid{.height = tensor.dims[0] / chunks, .columns = tensor.dims[1]};
    const int64_t dims[] = {chunks * grid.blocks(), grid.block_columns()};
    out += fmt::format("{}{} for {}", out.empty() ? "" : ", ", shape_text(dims), chunks);
  }
  return out;
}

}  // namespace

Result<int64_t> detect_chunks(std::span<const FusedTensor> tensors) {
  if (tensors.empty()) return int64_t{1};
  std::vector<int64_t> common = counts_of(tensors.front());
  const FusedTensor* last = &tensors.front();  // the one that narrowed the choice
  for (const FusedTensor& tensor : tensors) {
    const std::vector<int64_t> counts = counts_of(tensor);
    if (counts.empty()) {
      return invalid("{}: no number of chunks has such scales (they would be {})",
                     described(tensor), wanted_scales(tensor));
    }
    std::vector<int64_t> both;
    std::set_intersection(common.begin(), common.end(), counts.begin(), counts.end(),
                          std::back_inserter(both));
    if (both.empty()) {
      return invalid("{} is in {} chunks, {} in {}: one training has one number", described(*last),
                     fmt::join(common, " or "), described(tensor), fmt::join(counts, " or "));
    }
    if (both != common) last = &tensor;
    common = std::move(both);
  }
  if (common.size() > 1) {
    return invalid(
        "{}: {} chunks fit alike, and no other tensor of this checkpoint tells which: store its "
        "projections apart",
        described(*last), fmt::join(common, " or "));
  }
  return common.front();
}

}  // namespace ashlar
