#include "model/absorb.h"

#include <vector>

namespace ashlar {
namespace {

template <class T>
void transpose(const T* from, int64_t rows, int64_t columns, T* to) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) to[c * rows + r] = from[r * columns + c];
  }
}

// Rows [first, first + n) of codes as bf16.
void decode(const Matrix& w, int64_t first, int64_t n, Bf16* to) {
  for (int64_t r = first; r < first + n; ++r) {
    const auto* codes = w.row<F8E4M3>(r);
    const auto* scales = reinterpret_cast<const float*>(w.scales_of(r));
    for (int64_t k = 0; k < w.dim(1); ++k) {
      *to++ = to_bf16(to_float(codes[k]) * scales[k / kScaleBlock]);
    }
  }
}

Result<AbsorbedKv> absorb_codes(const LatentSpec& spec, const Matrix& kv_b) {
  const int64_t latent = spec.kv_lora, head_rows = spec.nope_dim + spec.v_dim;
  const int64_t uk_elements = int64_t{spec.heads} * spec.nope_dim * latent;
  const int64_t uv_elements = int64_t{spec.heads} * spec.v_dim * latent;
  AbsorbedKv out;
  TRY(out.memory, Buffer::host(static_cast<size_t>((uk_elements + uv_elements) * 2),
                               "absorbed keys and values"));
  auto* uk = reinterpret_cast<Bf16*>(out.memory.data());
  Bf16* uv = uk + uk_elements;
  std::vector<Bf16> keys(static_cast<size_t>(spec.nope_dim * latent));
  for (int64_t h = 0; h < spec.heads; ++h) {
    decode(kv_b, h * head_rows, spec.nope_dim, keys.data());
    transpose(keys.data(), spec.nope_dim, latent, uk + h * spec.nope_dim * latent);
    decode(kv_b, h * head_rows + spec.nope_dim, spec.v_dim, uv + h * spec.v_dim * latent);
  }
  out.uk = ConstView(out.memory.data(), DType::bf16, {spec.heads, latent, spec.nope_dim});
  out.uv = ConstView(reinterpret_cast<const std::byte*>(uv), DType::bf16,
                     {spec.heads, spec.v_dim, latent});
  return out;
}

}  // namespace

Result<AbsorbedKv> absorb(const LatentSpec& spec, const Matrix& kv_b) {
  if (kv_b.dtype == DType::f8e4m3) return absorb_codes(spec, kv_b);
  const int64_t latent = spec.kv_lora;
  const int64_t head_rows = spec.nope_dim + spec.v_dim;
  const int64_t size = size_of(kv_b.dtype);
  CHECK(is_float(kv_b.dtype), "kv_b of {}", name(kv_b.dtype));
  AbsorbedKv out;
  TRY(out.memory, Buffer::host(static_cast<size_t>(spec.heads * spec.nope_dim * latent * size),
                               "absorbed keys"));
  for (int64_t h = 0; h < spec.heads; ++h) {
    const std::byte* from = kv_b.data + h * head_rows * latent * size;
    std::byte* to = out.memory.data() + h * spec.nope_dim * latent * size;
    if (size == 4) {
      transpose(reinterpret_cast<const float*>(from), spec.nope_dim, latent,
                reinterpret_cast<float*>(to));
    } else {
      transpose(reinterpret_cast<const uint16_t*>(from), spec.nope_dim, latent,
                reinterpret_cast<uint16_t*>(to));
    }
  }
  out.uk = ConstView(out.memory.data(), kv_b.dtype, {spec.heads, latent, spec.nope_dim});
  out.uv = ConstView(kv_b.data + spec.nope_dim * latent * size, kv_b.dtype,
                     {spec.heads, spec.v_dim, latent});
  out.uv.strides[0] = head_rows * latent;
  return out;
}

}  // namespace ashlar
