#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/latent/latent_cpu.cc"
#include "kernels/cpu_targets.h"
// After cpu_targets.h, which trims the list of targets.
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include "kernels/attention/attention-inl.h"
#include "kernels/attention/tile.h"
#include "kernels/latent/latent.h"

HWY_BEFORE_NAMESPACE();
namespace ashlar::HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR
// As attention-inl.h has it for vectors.
template <class T>
void WidenRow(const T* from, int64_t n, int64_t padded, float* to) {
  for (int64_t i = 0; i < padded; ++i) to[i] = i < n ? to_float(from[i]) : 0.0f;
}
#endif

// A row's k_dim elements to k, the first v_dim of them to v as well, each with zeros up to its
// padded width: widened once.
template <class T>
void LoadLatentRow(const T* HWY_RESTRICT from, int64_t k_dim, int64_t v_dim, float* HWY_RESTRICT k,
                   float* HWY_RESTRICT v) {
  WidenRow(from, k_dim, padded(k_dim), k);
  int64_t i = 0;
  for (; i < v_dim; ++i) v[i] = k[i];
  for (; i < padded(v_dim); ++i) v[i] = 0.0f;
}

template <class T>
void LoadLatentRows(BlockWork& w) {
  const Tile& tile = *w.tile;
  auto* k = reinterpret_cast<float*>(w.k_tile);
  auto* v = reinterpret_cast<float*>(w.v_tile);
  for (int64_t i = tile.group_begin * kQuad; i < tile.group_end * kQuad; ++i) {
    LoadLatentRow(reinterpret_cast<const T*>(tile.k[i]), w.k_dim, w.v_dim, k + i * padded(w.k_dim),
                  v + i * padded(w.v_dim));
  }
}

// k_tile [tokens][padded k], v_tile [tokens][padded v], floats.
void LoadLatents(BlockWork& w) {
  if (w.dtype == DType::f32) return LoadLatentRows<float>(w);
  if (w.dtype == DType::bf16) return LoadLatentRows<Bf16>(w);
  if (w.dtype == DType::f16) return LoadLatentRows<F16>(w);
  if (w.dtype == DType::f8e4m3) return LoadLatentRows<F8E4M3>(w);
  LoadLatentRows<F8E5M2>(w);
}

}  // namespace ashlar::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ashlar {
namespace {

ASHLAR_PER_ISA(latent_load, LoadLatents)

void check(const AttnPlan& plan, const LatentParams& p) {
  CHECK(p.kv.kv_heads == 1 && p.kv.v_dim == 0, "{} heads, v {}", p.kv.kv_heads, p.kv.v_dim);
  CHECK(plan.shape.causal && plan.shape.window == 0, "window {}", plan.shape.window);
}

void run(const AttnPlan& plan, const LatentParams& p, const TileBody& body, Pool& pool) {
  check(plan, p);
  PagedView kv = p.kv;
  kv.v_scale = kv.k_scale;
  attend(plan,
         {.q = p.q,
          .out = p.out,
          .kv = kv,
          .scale = p.scale,
          .compute = p.compute,
          .workspace = p.workspace},
         body, pool);
}

TileBody float_body(Isa isa) {
  TileBody body = tile_body(isa);
  body.load = latent_load(isa);
  return body;
}

template <Isa isa>
void latent_float(const AttnPlan& plan, const LatentParams& p, Pool& pool) {
  run(plan, p, float_body(isa), pool);
}

// FP8 rows are taken straight from the pages, as key and as value.
void latent_bf16(const AttnPlan& plan, const LatentParams& p, Pool& pool) {
  if (p.compute != DType::bf16) return latent_float<Isa::avx512>(plan, p, pool);
  run(plan, p,
      is_f8(p.kv.dtype) ? with_f8_products(tile_body(Isa::avx512))
                        : with_bf16_products(float_body(Isa::avx512)),
      pool);
}

}  // namespace

LatentFn latent_cpu(Isa isa) {
  switch (isa) {
    case Isa::avx512_bf16: return latent_bf16;
    case Isa::avx512: return latent_float<Isa::avx512>;
    case Isa::avx2: return latent_float<Isa::avx2>;
    default: return latent_float<Isa::baseline>;
  }
}

}  // namespace ashlar
#endif
