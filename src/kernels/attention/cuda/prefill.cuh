#pragma once

// The prefill kernel: one block a multiprocessor takes works until there are none. Two warpgroups
// multiply, 64 rows each; a third loads.

#include "kernels/attention/cuda/prefill_load.cuh"
#include "kernels/attention/cuda/prefill_math.cuh"
#include "kernels/attention/cuda/prefill_widen.cuh"

namespace ashlar::cuda {

template <class P>
__device__ inline void init_barriers(PrefillShared<P>& s) {
  constexpr int kReaders = P::kGroups * 4;  // a warp each
  constexpr int kWideners = P::kLoadThreads / kWarp;
  constexpr int kLoaders = P::kWiden ? kWideners : 2;
  for (int i = 0; i < P::kWorkSlots; ++i)
    s.work_told[i].init(1), s.work_done[i].init(kReaders + kLoaders);
  for (int i = 0; i < P::kQSlots; ++i) s.q_full[i].init(1), s.q_empty[i].init(kReaders);
  for (int i = 0; i < P::kStages; ++i) {
    s.k_full[i].init(P::kWiden ? kWideners : 1), s.k_empty[i].init(kReaders);
    s.v_full[i].init(P::kWiden ? kWideners : 1), s.v_empty[i].init(kReaders);
  }
  fence_barrier_init();
}

template <class P>
__global__ void __launch_bounds__(P::kThreads, 1)
    prefill(const __grid_constant__ PrefillParams p, const __grid_constant__ CUtensorMap q,
            const __grid_constant__ CUtensorMap k, const __grid_constant__ CUtensorMap v) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ __align__(1024) uint8_t memory[];
  auto& shared = *reinterpret_cast<PrefillShared<P>*>(memory);
  if (threadIdx.x == 0) init_barriers(shared);
  __syncthreads();
  const int group = __shfl_sync(~0u, static_cast<int>(threadIdx.x / kWarpgroup), 0);
  if (group >= P::kGroups) {
    registers_give<P::kLoadRegisters>();
    const int warp = static_cast<int>(threadIdx.x) / kWarp - P::kGroups * 4;
    if constexpr (P::kWiden) {
      WideningLoader<P>(shared, p).run(q);
    } else {
      load_by_copies(shared, p, warp, q, k, v);
    }
  } else {
    registers_take<P::kMathRegisters>();
    RowMath<P>(shared, p, group).run();
  }
#endif
}

}  // namespace ashlar::cuda
