// Loads and stores of fewer elements than a vector has, for *_cpu.cc files: the end of a row behind
// which the memory is another row's, another page's or nobody's. Nothing behind the end is read or
// written.

#include "kernels/cpu_targets.h"
// After cpu_targets.h, which trims the list of targets.
#include "hwy/highway.h"

#include <algorithm>

#if defined(ASHLAR_KERNELS_DELTA_PARTIAL_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef ASHLAR_KERNELS_DELTA_PARTIAL_INL_H
#undef ASHLAR_KERNELS_DELTA_PARTIAL_INL_H
#else
#define ASHLAR_KERNELS_DELTA_PARTIAL_INL_H
#endif

HWY_BEFORE_NAMESPACE();
namespace ashlar::HWY_NAMESPACE {

// Highway's masked loads read all lanes on the other targets, and of elements below 4 bytes.
template <class T>
constexpr bool kMasksMemory = sizeof(T) == 4 && (HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3);

// The first n lanes from memory, n in [0, lanes]; the others are zero.
template <class D, class T = hwy::HWY_NAMESPACE::TFromD<D>>
HWY_INLINE hwy::HWY_NAMESPACE::Vec<D> LoadFirst(D d, const T* from, int64_t n) {
  namespace hn = hwy::HWY_NAMESPACE;
  if constexpr (kMasksMemory<T>) {
    return hn::MaskedLoad(hn::FirstN(d, static_cast<size_t>(n)), d, from);
  } else {
    HWY_ALIGN T lanes[hn::MaxLanes(d)] = {};
    std::copy_n(from, n, lanes);
    return hn::Load(d, lanes);
  }
}

// The first n lanes to memory, n in [0, lanes].
template <class D, class V = hwy::HWY_NAMESPACE::Vec<D>, class T = hwy::HWY_NAMESPACE::TFromD<D>>
HWY_INLINE void StoreFirst(D d, V value, T* to, int64_t n) {
  namespace hn = hwy::HWY_NAMESPACE;
  if constexpr (kMasksMemory<T>) {
    hn::BlendedStore(value, hn::FirstN(d, static_cast<size_t>(n)), d, to);
  } else {
    HWY_ALIGN T lanes[hn::MaxLanes(d)];
    hn::Store(value, d, lanes);
    std::copy_n(lanes, n, to);
  }
}

// A whole vector where `left` elements are left for one, else the first `left` lanes.
template <class D, class T = hwy::HWY_NAMESPACE::TFromD<D>>
HWY_INLINE hwy::HWY_NAMESPACE::Vec<D> LoadUpTo(D d, const T* from, int64_t left) {
  namespace hn = hwy::HWY_NAMESPACE;
  return left >= static_cast<int64_t>(hn::Lanes(d)) ? hn::LoadU(d, from) : LoadFirst(d, from, left);
}
template <class D, class V = hwy::HWY_NAMESPACE::Vec<D>, class T = hwy::HWY_NAMESPACE::TFromD<D>>
HWY_INLINE void StoreUpTo(D d, V value, T* to, int64_t left) {
  namespace hn = hwy::HWY_NAMESPACE;
  if (left >= static_cast<int64_t>(hn::Lanes(d))) {
    hn::StoreU(value, d, to);
  } else {
    StoreFirst(d, value, to, left);
  }
}

}  // namespace ashlar::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
