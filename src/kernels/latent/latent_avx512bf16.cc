// FP8 rows for the body that multiplies pairs of bf16: every e4m3 number is a bf16 number, so a
// tile is rewritten once for all heads, as keys and values, and the scale stays outside.
//
// As in attention_avx512bf16.cc, nothing of the standard library is called from functions with
// target attributes.

#include "kernels/latent/latent_load.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define ASHLAR_TARGET __attribute__((target("avx512f,avx512bw,avx512vl")))
#define ASHLAR_INLINE ASHLAR_TARGET __attribute__((always_inline)) inline

namespace ashlar {
namespace {

// Makes bf16 of e4m3. Shifted to bf16's fields, a number's exponent counts from 120 less, so 120 is
// added. Two exponents are looked up by their last bit and the mantissa m: 0, whose subnormals
// m * 2^-9 are normal in bf16, and 15, where the last number is NaN.
class Widener {
 public:
  ASHLAR_INLINE Widener() {
    alignas(64) uint16_t offsets[32] = {};
    constexpr uint16_t kSubnormals[8] = {0, 0x3B00, 0x3B80, 0x3BC0, 0x3C00, 0x3C20, 0x3C40, 0x3C60};
    for (int m = 0; m < 8; ++m) {
      offsets[m] = static_cast<uint16_t>(kSubnormals[m] - (m << 4));
      offsets[24 + m] = m < 7 ? 120 << 7 : 0x7FC0 - 0x7F0;
    }
    offsets_ = _mm512_load_si512(offsets);
  }

  ASHLAR_INLINE __m512i operator()(__m256i bytes) const {
    const __m512i x = _mm512_cvtepi8_epi16(bytes);
    // Sign extension puts the sign where bf16 has it.
    const __m512i shifted =
        _mm512_and_si512(_mm512_slli_epi16(x, 4), _mm512_set1_epi16(static_cast<short>(0x87F0)));
    // One more than the exponent: 1 or 0, modulo 16.
    const __m512i next = _mm512_add_epi16(x, _mm512_set1_epi16(8));
    const __mmask32 special = _mm512_testn_epi16_mask(next, _mm512_set1_epi16(0x70));
    const __m512i offset =
        _mm512_mask_permutexvar_epi16(_mm512_set1_epi16(120 << 7), special, x, offsets_);
    return _mm512_add_epi16(shifted, offset);
  }

 private:
  __m512i offsets_;
};

// k_tile: [tokens][padded k] bf16, with zeros after k_dim, as the body pads rows itself. To the
// other steps the tile's rows are those.
ASHLAR_TARGET void load(BlockWork& w) {
  const Widener widen;
  const Tile& from = *w.tile;
  Tile& to = w.widened;
  to.position = from.position;
  to.group_begin = from.group_begin;
  to.group_end = from.group_end;
  to.masked = from.masked;
  const int64_t width = padded(w.k_dim);
  for (int64_t i = from.group_begin * kQuad; i < from.group_end * kQuad; ++i) {
    const std::byte* row = from.k[i];
    std::byte* wide = w.k_tile + i * width * 2;
    to.k[i] = to.v[i] = wide;
    int64_t k = 0;
    for (; k + 32 <= w.k_dim; k += 32) {
      const auto bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + k));
      _mm512_store_si512(wide + k * 2, widen(bytes));
    }
    if (k < w.k_dim) {
      const auto mask = static_cast<__mmask32>((1u << (w.k_dim - k)) - 1);
      _mm512_store_si512(wide + k * 2, widen(_mm256_maskz_loadu_epi8(mask, row + k)));
    }
  }
  w.tile = &to;
  w.dtype = DType::bf16;
}

}  // namespace

TileBody with_e4m3_load(TileBody body) {
  body.load = load;
  return body;
}

}  // namespace ashlar

#else

namespace ashlar {
TileBody with_e4m3_load(TileBody body) { return body; }
}  // namespace ashlar

#endif
