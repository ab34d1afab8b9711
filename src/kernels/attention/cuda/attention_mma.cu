// attention_cuda_mma: what it takes, its tilings, and the choice of a variant.

#include <algorithm>

#include "kernels/attention/cuda/decode_variants.cuh"
#include "kernels/attention/cuda/mma_variants.cuh"
#include "kernels/attention/cuda/state.cuh"

namespace ashlar {
namespace {

constexpr int32_t kDecodeRows = cuda::kMmaRows;
constexpr int32_t kPrefillRows = cuda::kMmaRows * cuda::kMmaPrefillTeam;
constexpr int32_t kDecodeSplit = 512;
// Windows up to here are walked by one block: a second launch costs more than the walk.
constexpr int32_t kWholeWindow = 1024;

template <int kTeam>
cuda::MmaLaunch variant(DType pages, bool token_scales, int keys, int values) {
  switch (pages) {
    case DType::bf16: return cuda::find_mma<DType::bf16, kTeam, false>(keys, values);
    case DType::f16: return cuda::find_mma<DType::f16, kTeam, false>(keys, values);
    case DType::f8e4m3:
      return token_scales ? cuda::find_mma<DType::f8e4m3, kTeam, true>(keys, values)
                          : cuda::find_mma<DType::f8e4m3, kTeam, false>(keys, values);
    case DType::f8e5m2:
      return token_scales ? cuda::find_mma<DType::f8e5m2, kTeam, true>(keys, values)
                          : cuda::find_mma<DType::f8e5m2, kTeam, false>(keys, values);
    default: return nullptr;
  }
}

int log2_of(int32_t n) {
  int log2 = 0;
  while ((1 << log2) < n) ++log2;
  return log2;
}

cuda::MmaArgs args_of(const CudaPlan& plan, const AttnParams& p) {
  const AttnShape& shape = plan.shape;
  const bool token_scales = p.kv.has_token_scales();
  const bool tensor_scales = is_f8(p.kv.dtype) && !token_scales;
  const float k_scale = p.scale * (tensor_scales ? p.kv.k_scale : 1.0f);
  const std::byte* workspace = p.workspace.data();
  return {
      .q = p.q.data,
      .out = p.out.data,
      .k = p.kv.base + p.kv.k_offset_bytes,
      .v = p.kv.base + p.kv.v_offset_bytes,
      .scales = token_scales ? p.kv.base + p.kv.scales_offset_bytes : nullptr,
      .page_shift = log2_of(p.kv.page_tokens),
      .kv_heads = shape.kv_heads,
      .heads = shape.heads,
      .logit_scale = p.softcap != 0 ? k_scale / p.softcap : k_scale * cuda::kLog2E,
      .softcap_log2 = p.softcap * cuda::kLog2E,
      .v_scale = tensor_scales ? p.kv.v_scale : 1.0f,
      .sinks = p.sinks,
      .window = shape.window,
      .causal = shape.causal,
      .is_bf16 = p.q.dtype == DType::bf16,
      .works = reinterpret_cast<const CudaWork*>(workspace + plan.works_offset),
      // One read less before a block can start, where it may as well do without.
      .queue = plan.n_works == plan.n_blocks
                   ? nullptr
                   : reinterpret_cast<const int32_t*>(workspace + plan.queue_offset),
      .n_works = plan.n_works,
      .states = reinterpret_cast<float*>(p.workspace.data() + plan.states_offset),
      .state_floats = plan.state_bytes / int64_t{sizeof(float)},
      .kv_split = plan.tiling.kv_split,
  };
}

bool is_aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

}  // namespace

cuda::MmaArgs cuda::mma_args(const CudaPlan& plan, const AttnParams& params) {
  return args_of(plan, params);
}

Status mma_takes(const AttnShape& shape, const PagedView& kv, DType q) {
  if (q != DType::bf16 && q != DType::f16)
    return unsupported("{} queries: the mma body takes bfloat16 and float16", name(q));
  if (kv.dtype != q && !is_f8(kv.dtype))
    return unsupported(
        "{} pages beside {} queries: the mma body takes pages of the queries' type {}",
        name(kv.dtype), name(q), "or 8-bit floats");
  if (!variant<1>(kv.dtype, false, shape.k_dim, shape.v_dim))
    return unsupported("widths {}/{}: the mma body takes {}", shape.k_dim, shape.v_dim,
                       "64/64, 96/96, 128/128, 192/128, 256/256 and 48/32");
  if (kv.page_tokens < 16 || (kv.page_tokens & (kv.page_tokens - 1)) != 0)
    return unsupported("pages of {} tokens: the mma body takes powers of two from 16 on",
                       kv.page_tokens);
  if (kv.k_offset_bytes % 16 != 0 || kv.v_offset_bytes % 16 != 0)
    return unsupported(
        "K at byte {} and V at byte {} of a page: the mma body takes multiples of 16",
        kv.k_offset_bytes, kv.v_offset_bytes);
  return {};
}

CudaTiling mma_decode_tiling(const AttnShape& shape) {
  const bool whole = shape.window > 0 && shape.window <= kWholeWindow;
  return {.rows = kDecodeRows,
          .kv_split = whole ? 0 : kDecodeSplit,
          .blocks_per_sm = shape.v_dim > 128 ? 1 : 2};
}

CudaTiling mma_prefill_tiling(const AttnShape&) {
  return {.rows = kPrefillRows, .kv_split = 0, .blocks_per_sm = 2};
}

void attention_cuda_mma(const CudaPlan& plan, const AttnParams& params, CUstream_st* stream) {
  const CudaTiling& tiling = plan.tiling;
  const Status takes = mma_takes(plan.shape, params.kv, params.q.dtype);
  CHECK(static_cast<bool>(takes), "{}", takes.error().text);
  CHECK(tiling.rows == kDecodeRows || (tiling.rows == kPrefillRows && tiling.kv_split == 0),
        "rows {} split {}", tiling.rows, tiling.kv_split);
  CHECK(tiling.kv_split % 256 == 0, "split {}", tiling.kv_split);  // chunks of every team
  CHECK(is_aligned(params.q.data) && is_aligned(params.out.data) && is_aligned(params.kv.base),
        "q, out and pages begin at multiples of 16 bytes");
  if (plan.n_works == 0) return;
  const cuda::MmaArgs args = args_of(plan, params);
  const auto find = tiling.rows == kDecodeRows ? variant<1> : variant<cuda::kMmaPrefillTeam>;
  const bool token_scales = params.kv.has_token_scales();
  const int k_dim = plan.shape.k_dim, v_dim = plan.shape.v_dim;
  find(params.kv.dtype, token_scales, k_dim, v_dim)(args, plan.n_blocks, stream);
  merge_states(plan, params, args.v_scale, stream);
}

}  // namespace ashlar
