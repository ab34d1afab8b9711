#pragma once

// Latent attention by warp products (mma.sync), 16 rows at a time.
//
// A block is two teams of eight warps and a warp that fills a ring of tiles. One team scores tile
// after tile and makes probabilities, the other multiplies them with the values: neither waits for
// the other unless it is behind, so that one team's softmax, and what the other does at a split's
// end, run beside products.

#include "kernels/latent/cuda/mma_scores.cuh"
#include "kernels/latent/cuda/mma_values.cuh"

namespace ashlar::cuda {

// On Hopper registers go from the warps that fill to those that score.
template <int kRegisters, bool kTake>
__device__ inline void share_registers() {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  if constexpr (kTake)
    registers_take<kRegisters>();
  else
    registers_give<kRegisters>();
#endif
}

template <class Query, DType kStored>
__global__ void __launch_bounds__(kMmaThreads, 1)
    latent_mma(const __grid_constant__ LatentArgs args, const __grid_constant__ CUtensorMap map) {
  using Type = MmaType<Query, kStored>;
  extern __shared__ __align__(1024) std::byte ring[];
  auto& shared = *reinterpret_cast<MmaShared<Type>*>(ring + Type::kStages * Type::Tile::kBytes);
  launch_dependents();
  if (threadIdx.x == 0) shared.init();
  __syncthreads();
  const uint32_t tiles = shared_address(ring);
  if (threadIdx.x < kTeamThreads) {
    share_registers<96, false>();
    ValueTeam<Query, kStored> team(args, tiles, shared);
    for (int i = first_work(args); i < last_work(args); ++i) team.run(args.works[i]);
  } else if (threadIdx.x < 2 * kTeamThreads) {
    share_registers<128, true>();
    ScoreTeam<Query, kStored> team(args, tiles, shared);
    for (int i = first_work(args); i < last_work(args); ++i) team.run(args.works[i]);
  } else {
    share_registers<32, false>();
    if (threadIdx.x < 2 * kTeamThreads + 32)
      fill_ring<typename Type::Tile>(args, &map, tiles, shared.ring);
  }
}

}  // namespace ashlar::cuda
