// attention_cuda_decode: what it takes, its tiling, its tensor maps, and the choice of a variant.

#include <algorithm>

#include "kernels/attention/cuda/decode.h"
#include "kernels/attention/cuda/decode_variants.cuh"
#include "kernels/cuda/tensor_map.cuh"

namespace ashlar {
namespace {

constexpr int32_t kSplit = 512;
// Windows up to here are walked by one block: adding states costs more than the walk.
constexpr int32_t kWholeWindow = 1024;

cuda::DecodeLaunch variant(DType pages, bool token_scales, bool whole, int keys, int values) {
  switch (pages) {
    case DType::bf16: return cuda::find_decode<DType::bf16, false>(keys, values, whole);
    case DType::f16: return cuda::find_decode<DType::f16, false>(keys, values, whole);
    case DType::f8e4m3:
      return token_scales ? cuda::find_decode<DType::f8e4m3, true>(keys, values, whole)
                          : cuda::find_decode<DType::f8e4m3, false>(keys, values, whole);
    case DType::f8e5m2:
      return token_scales ? cuda::find_decode<DType::f8e5m2, true>(keys, values, whole)
                          : cuda::find_decode<DType::f8e5m2, false>(keys, values, whole);
    default: return nullptr;
  }
}

}  // namespace

namespace cuda {

CUtensorMap decode_map(const PagedView& kv, const std::byte* rows, int32_t line_bytes,
                       int32_t lines, int32_t box_lines, int32_t tile) {
  const auto element = static_cast<int32_t>(size_of(kv.dtype));
  const auto width = static_cast<cuuint32_t>(line_bytes / element);
  const auto line = static_cast<cuuint64_t>(line_bytes), n_lines = static_cast<cuuint64_t>(lines);
  return tensor_map<4>(
      {.base = rows,
       .dims = {width, n_lines, static_cast<cuuint64_t>(kv.page_tokens), cuuint64_t{1} << 31},
       .strides = {line, line * n_lines, kGranuleBytes},
       .box = {width, static_cast<cuuint32_t>(box_lines),
               static_cast<cuuint32_t>(std::min(kv.page_tokens, tile)), 1}},
      element);
}

}  // namespace cuda

Status decode_takes(const AttnShape& shape, const PagedView& kv, DType q) {
  if (q != DType::bf16 && q != DType::f16)
    return unsupported("{} queries: the decode body takes bfloat16 and float16", name(q));
  if (kv.dtype != q && !is_f8(kv.dtype))
    return unsupported(
        "{} pages beside {} queries: the decode body takes pages of the queries' type {}",
        name(kv.dtype), name(q), "or 8-bit floats");
  if (!variant(kv.dtype, false, false, shape.k_dim, shape.v_dim))
    return unsupported("widths {}/{}: the decode body takes 64/64, 128/128 and 192/128",
                       shape.k_dim, shape.v_dim);
  if (kv.page_tokens < 16 || (kv.page_tokens & (kv.page_tokens - 1)) != 0)
    return unsupported("pages of {} tokens: the decode body takes powers of two from 16 on",
                       kv.page_tokens);
  if (kv.k_offset_bytes % 16 != 0 || kv.v_offset_bytes % 16 != 0)
    return unsupported(
        "K at byte {} and V at byte {} of a page: the decode body takes multiples of 16",
        kv.k_offset_bytes, kv.v_offset_bytes);
  return {};
}

CudaTiling decode_tiling(const AttnShape& shape) {
  const bool whole = shape.window > 0 && shape.window <= kWholeWindow;
  return {.rows = cuda::kDecodeRows, .kv_split = whole ? 0 : kSplit, .blocks_per_sm = 1};
}

void attention_cuda_decode(const CudaPlan& plan, const AttnParams& params, CUstream_st* stream) {
  const Status takes = decode_takes(plan.shape, params.kv, params.q.dtype);
  CHECK(static_cast<bool>(takes), "{}", takes.error().text);
  CHECK(plan.tiling.rows == cuda::kDecodeRows && plan.tiling.kv_split % 128 == 0,
        "rows {} split {}", plan.tiling.rows, plan.tiling.kv_split);
  CHECK(reinterpret_cast<uintptr_t>(params.q.data) % 16 == 0 &&
            reinterpret_cast<uintptr_t>(params.out.data) % 16 == 0 &&
            reinterpret_cast<uintptr_t>(params.kv.base) % 16 == 0,
        "q, out and pages begin at multiples of 16 bytes");
  if (plan.n_works == 0) return;
  const cuda::MmaArgs args = cuda::mma_args(plan, params);
  variant(params.kv.dtype, params.kv.has_token_scales(), plan.tiling.kv_split == 0,
          plan.shape.k_dim, plan.shape.v_dim)(args, params.kv, plan.n_blocks, stream);
  merge_states(plan, params, args.v_scale, stream);
}

}  // namespace ashlar
