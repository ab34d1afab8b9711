#include "tensor/dtype.h"

#include <algorithm>

namespace ashlar {
namespace {

uint8_t narrow(float value, const F8Format& format) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint8_t>((bits >> 24) & 0x80u);
  uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return sign | 0x7F;
  magnitude = std::min(magnitude, std::bit_cast<uint32_t>(format.largest_value()));
  const uint32_t smallest_normal = format.rebias() + (1u << 23);
  if (magnitude < smallest_normal) {
    const float shifted = std::bit_cast<float>(magnitude) + format.aligner();
    const uint32_t code =
        std::bit_cast<uint32_t>(shifted) - std::bit_cast<uint32_t>(format.aligner());
    return static_cast<uint8_t>(sign | code);
  }
  const uint32_t odd = (magnitude >> format.shift()) & 1;
  const uint32_t rounded = magnitude + (1u << (format.shift() - 1)) - 1 + odd;
  return static_cast<uint8_t>(sign | ((rounded - format.rebias()) >> format.shift()));
}

}  // namespace

const char* name(DType dtype) {
  switch (dtype) {
    case DType::f32: return "float32";
    case DType::bf16: return "bfloat16";
    case DType::f16: return "float16";
    case DType::f8e4m3: return "float8_e4m3";
    case DType::f8e5m2: return "float8_e5m2";
    case DType::u8: return "uint8";
    case DType::i32: return "int32";
    case DType::i64: return "int64";
  }
  return "?";
}

Result<DType> parse_dtype(std::string_view text) {
  if (text.starts_with("torch.")) text.remove_prefix(6);
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    if (text == name(dtype)) return dtype;
  }
  return unsupported("dtype \"{}\": known are float32, bfloat16, float16", excerpt(text));
}

Result<DType> parse_cache_dtype(std::string_view text) {
  if (text == "fp8" || text == "fp8_e4m3" || text == name(DType::f8e4m3)) return DType::f8e4m3;
  if (text == "fp8_e5m2" || text == name(DType::f8e5m2)) return DType::f8e5m2;
  const Result<DType> other = parse_dtype(text);
  if (other) return other;
  return unsupported("cache dtype \"{}\": known are float32, bfloat16, float16, {}", excerpt(text),
                     "fp8 (= fp8_e4m3), fp8_e5m2");
}

float to_float(F16 value) {
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000u) << 16;
  const uint32_t exponent = (value.bits >> 10) & 0x1Fu;
  const uint32_t mantissa = value.bits & 0x3FFu;
  if (exponent == 0x1F) return std::bit_cast<float>(sign | 0x7F800000u | (mantissa << 13));
  if (exponent != 0)
    return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;  // subnormal or zero: exact
  return sign ? -magnitude : magnitude;
}

F16 to_f16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7FFFFFFFu;
  const auto with_sign = [&](uint32_t half) { return F16{static_cast<uint16_t>(sign | half)}; };
  if (magnitude > 0x7F800000u) return with_sign(0x7E00);
  if (magnitude >= 0x477FF000u) return with_sign(0x7C00);  // 65520 and above round to infinity
  if (magnitude < 0x38800000u) {
    // Below the smallest normal: adding 0.5 lines the 2^-24 units up with the float's last bit, and
    // the addition itself rounds to nearest even.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return with_sign(std::bit_cast<uint32_t>(shifted) - 0x3F000000u);
  }
  const uint32_t rounded = magnitude + 0xFFF + ((magnitude >> 13) & 1);
  return with_sign((rounded - 0x38000000u) >> 13);
}

F8E4M3 to_f8e4m3(float value) { return {narrow(value, F8E4M3::kFormat)}; }
F8E5M2 to_f8e5m2(float value) { return {narrow(value, F8E5M2::kFormat)}; }

}  // namespace ashlar
