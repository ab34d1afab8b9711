#include <algorithm>
#include <cmath>

#include "base/checked.h"
#include "weights/convert.h"
#include "weights/load.h"

namespace ashlar {
namespace {

constexpr uint64_t kAlignment = 64;
constexpr int64_t kPieceElements = 1 << 18;

// Sixteen random bits per element, four elements per hash: a counter hashed by the finaliser of
// SplitMix64 (Steele, Lea and Flood 2014).
uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

// FNV-1a of the row's name, stirred with the seed and with where in the tensor it begins: rows
// differ, wherever they stand in the tree.
uint64_t key_of(const WeightRow& row, uint64_t seed) {
  uint64_t key = 0xCBF29CE484222325u;
  for (const char c : row.sources.front().tensor) {
    key = (key ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  }
  return mix(key ^ mix(seed) ^ mix(static_cast<uint64_t>(row.sources.front().first_element)));
}

// Elements [begin, end) of one row. REQUIRES begin a multiple of 4.
struct Piece {
  const WeightRow* row = nullptr;
  std::byte* data = nullptr;  // of the row's element 0
  DType dtype = DType::f32;
  uint64_t key = 0;
  int64_t begin = 0;
  int64_t end = 0;
};

// Uniform on mean +- sqrt(3) * spread, whose standard deviation is the spread.
template <class T>
void fill(const Piece& piece) {
  T* out = reinterpret_cast<T*>(piece.data);
  const float mean = piece.row->dummy_mean;
  const float step = piece.row->dummy_spread * std::sqrt(3.0f) / 32768.0f;
  const auto four = [&](int64_t i, int64_t n) {
    const uint64_t bits = mix(piece.key + static_cast<uint64_t>(i) * 0x9E3779B97F4A7C15u);
    for (int64_t k = 0; k < n; ++k) {
      const auto lane = static_cast<int16_t>(bits >> (16 * k));
      out[i + k] = narrow<T>(mean + (static_cast<float>(lane) + 0.5f) * step);
    }
  };
  int64_t i = piece.begin;
  for (; i + 4 <= piece.end; i += 4) four(i, 4);
  if (i < piece.end) four(i, piece.end - i);
}

// `before` plus a row's bytes, rounded up to the alignment. Sizes come from a config, not from a
// file that holds them: they may exceed any machine, so they are checked.
Result<uint64_t> add_row(uint64_t before, const WeightRow& row, DType dtype) {
  auto bytes = static_cast<uint64_t>(size_of(dtype));
  for (int i = 0; i < row.shape.rank; ++i) {
    TRY(bytes, checked_mul({bytes, static_cast<uint64_t>(row.shape[i])}));
  }
  TRY(const uint64_t sum, checked_add({before, bytes, kAlignment - 1}));
  return sum / kAlignment * kAlignment;
}

void fill_piece(const Piece& piece) {
  if (piece.dtype == DType::f32) return fill<float>(piece);
  if (piece.dtype == DType::bf16) return fill<Bf16>(piece);
  fill<F16>(piece);
}

}  // namespace

Result<LoadedWeights> dummy_weights(const WeightTree<WeightRow>& rows, DType dtype, uint64_t seed,
                                    Pool& pool) {
  if (!is_float(dtype)) {
    return unsupported("dummy weights as {}: supported are float32, bfloat16, float16",
                       name(dtype));
  }
  const auto type_of = [&](const WeightRow& row) {
    return row.form == WeightForm::vector ? DType::f32 : dtype;
  };
  Result<uint64_t> total = uint64_t{0};
  LoadedWeights loaded;
  zip_weights(rows, &loaded.views, [&](const WeightRow& row, Matrix&) {
    if (row.sources.empty() || row.optional || !total) return;
    total = add_row(*total, row, type_of(row));
  });
  TRY(const uint64_t bytes, std::move(total));
  TRY(loaded.converted, Buffer::host(bytes, "dummy weights"));
  loaded.owned_bytes = static_cast<int64_t>(bytes);

  std::vector<Piece> pieces;
  int64_t offset = 0;
  zip_weights(rows, &loaded.views, [&](const WeightRow& row, Matrix& view) {
    if (row.sources.empty() || row.optional) return;
    std::byte* data = loaded.converted.data() + offset;
    view = ConstView(data, type_of(row), row.shape);
    offset += round_up(view.bytes(), int64_t{kAlignment});
    const int64_t n = row.shape.elements();
    for (int64_t begin = 0; begin < n; begin += kPieceElements) {
      pieces.push_back(
          {&row, data, view.dtype, key_of(row, seed), begin, std::min(begin + kPieceElements, n)});
    }
  });
  pool.each(static_cast<int64_t>(pieces.size()),
            [&](int64_t task, int) { fill_piece(pieces[static_cast<size_t>(task)]); });
  return loaded;
}

}  // namespace ashlar
