#pragma once

// Hopper's instructions (sm_90a): barriers in shared memory, the tensor copy engine, and one
// warpgroup's matrix products. Names follow PTX.

#include <cuda.h>

#include <cstdint>

#include "kernels/cuda/mma.cuh"

namespace ashlar::cuda {

// A barrier in shared memory that counts arrivals and bytes of copies. One thread initialises.
struct Barrier {
  uint64_t state;

  __device__ uint32_t address() const { return shared_address(&state); }
  __device__ void init(uint32_t arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(address()), "r"(arrivals));
  }
  __device__ void arrive() {
    asm volatile("mbarrier.arrive.release.cta.shared::cta.b64 _, [%0];" ::"r"(address())
                 : "memory");
  }
  __device__ void arrive_expect_bytes(uint32_t bytes) {
    asm volatile(
        "mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [%0], %1;" ::"r"(address()),
        "r"(bytes)
        : "memory");
  }
  // Returns once the phase of this parity has completed.
  __device__ void wait(uint32_t parity) {
    asm volatile(
        "{\n.reg .pred done;\nagain:\n"
        "mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra again;\n}" ::"r"(address()),
        "r"(parity)
        : "memory");
  }
  // The same for who has time: sleeps between looks, so that others get the unit that looks.
  __device__ void wait_idly(uint32_t parity) {
    uint32_t done = 0;
    while (true) {
      asm volatile(
          "{\n.reg .pred done;\n"
          "mbarrier.test_wait.parity.acquire.cta.shared::cta.b64 done, [%1], %2;\n"
          "selp.u32 %0, 1, 0, done;\n}"
          : "=r"(done)
          : "r"(address()), "r"(parity)
          : "memory");
      if (done) return;
      __nanosleep(32);
    }
  }
};

__device__ inline void fence_barrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
// Ordinary writes to shared memory become visible to copies and matrix products.
__device__ inline void fence_proxy_async() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// `bytes` (a multiple of 16, both sides aligned to 16) of contiguous global memory; arrives as
// bytes.
__device__ inline void copy_bulk(uint32_t to, const void* from, uint32_t bytes, Barrier& barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(to),
      "l"(from), "r"(bytes), "r"(barrier.address())
      : "memory");
}

// Asks the L2 cache for `bytes` (a multiple of 16) of global memory.
__device__ inline void prefetch_bulk(const void* from, uint32_t bytes) {
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes) : "memory");
}

// One box of a tensor map of five dimensions, innermost coordinate first.
__device__ inline void copy_tensor_5d(uint32_t to, const CUtensorMap* map, int c0, int c1, int c2,
                                      int c3, int c4, Barrier& barrier) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %3, %4, %5, %6}], [%7];" ::"r"(to),
      "l"(map), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(c4), "r"(barrier.address())
      : "memory");
}

// The same of three and of four dimensions.
__device__ inline void copy_tensor_3d(uint32_t to, const CUtensorMap* map, int c0, int c1, int c2,
                                      Barrier& barrier) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %3, %4}], [%5];" ::"r"(to),
      "l"(map), "r"(c0), "r"(c1), "r"(c2), "r"(barrier.address())
      : "memory");
}
__device__ inline void copy_tensor_4d(uint32_t to, const CUtensorMap* map, int c0, int c1, int c2,
                                      int c3, Barrier& barrier) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(to),
      "l"(map), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(barrier.address())
      : "memory");
}
__device__ inline void prefetch_tensor_map(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

// 16 bytes of shared memory by address, in the order of the program.
__device__ inline uint4 read_shared_16(uint32_t from) {
  uint4 r;
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(r.x), "=r"(r.y), "=r"(r.z), "=r"(r.w)
               : "r"(from)
               : "memory");
  return r;
}
__device__ inline void write_shared_16(uint32_t to, const uint4& r) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(r.x), "r"(r.y), "r"(r.z),
               "r"(r.w)
               : "memory");
}

// Four 8x8 tiles of 16-bit elements, as load_matrix() reads them.
__device__ inline void store_matrix(uint32_t address, const uint32_t (&r)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address),
               "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
               : "memory");
}
// The same, or two, each written transposed.
__device__ inline void store_matrix_transposed(uint32_t address, const uint32_t (&r)[4]) {
  asm volatile(
      "stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address),
      "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
      : "memory");
}
__device__ inline void store_matrix_transposed(uint32_t address, uint32_t first, uint32_t second) {
  asm volatile("stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%0], {%1, %2};" ::"r"(address),
               "r"(first), "r"(second)
               : "memory");
}

// The thread arrives once all its asynchronous copies so far have come.
__device__ inline void arrive_when_copied(Barrier& barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier.address())
               : "memory");
}

template <int kRegisters>
__device__ inline void registers_take() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ inline void registers_give() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// Barrier `id` (1..15; 0 is __syncthreads) for `threads` threads.
__device__ inline void sync_threads(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
__device__ inline void arrive_threads(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

__device__ inline void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int kPending>
__device__ inline void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// The descriptor of a tile in shared memory with the 128-byte swizzle: rows of 128 bytes, eight
// rows an atom of 1024 bytes (which the tile's start is aligned to). `stride` bytes separate atoms
// along the rows; `leading` bytes separate the 64-element columns of a tile read across its rows
// (transposed), and are ignored otherwise. PTX ISA, "Matrix descriptor".
__device__ inline uint64_t tile_descriptor(uint32_t address, uint32_t stride,
                                           uint32_t leading = 0) {
  return static_cast<uint64_t>((address & 0x3ffff) >> 4) |
         static_cast<uint64_t>((leading & 0x3ffff) >> 4) << 16 |
         static_cast<uint64_t>((stride & 0x3ffff) >> 4) << 32 | uint64_t{1} << 62;
}

}  // namespace ashlar::cuda
