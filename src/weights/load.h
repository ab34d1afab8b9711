#pragma once

// The face of the weights room: a checkpoint's files become the tree of views a model computes
// from.
//
// Matrices are views of the mapped files wherever they can be used as stored, so loading costs no
// copy and no memory; what must change (vectors and scales widened to f32, matrices of another type
// than the one asked for, misaligned or transposed tensors) is converted into one owned buffer.
// MXFP4 and FP8 codes stay codes whatever type is asked for (blocks.h says where FP8 scales are),
// except where a matrix takes rows that cut blocks of scales: those are multiplied out. Everything
// the rows ask for must be there in exactly that shape, and nothing else may be: a checkpoint that
// does not fit its config is refused with all the differences, not with the first.

#include <functional>
#include <optional>
#include <string>

#include "base/pool.h"
#include "base/result.h"
#include "spec/weights.h"
#include "tensor/buffer.h"
#include "weights/checkpoint.h"

namespace ashlar {

// Tensors of a checkpoint that text generation does not use.
struct SkippedTensors {
  int64_t n = 0;
  int64_t bytes = 0;
  std::vector<std::string> rules;  // what their names begin or end with
};

// Owns what its views look at. Move-only; views stay valid when it is moved. Reading from any
// thread is fine.
struct LoadedWeights {
  WeightTree<Matrix> views;  // dense; null views for weights the model does not have
  Checkpoint checkpoint;
  Buffer converted;
  int64_t mapped_bytes = 0;  // of the views that look into files
  int64_t owned_bytes = 0;   // of `converted`
  SkippedTensors skipped;
};

struct LoadOptions {
  // Behaviour. The type of every matrix of elements: float32, bfloat16 or float16. Unset: as
  // stored.
  std::optional<DType> matrix_dtype;
  // Performance. Reads every mapped page once, so that the first step does not wait for the disk.
  bool touch_pages = false;
  Pool* pool = nullptr;  // null: the calling thread alone
  // Told, on the calling thread, how many bytes of the work are done; the last call has done ==
  // total. May be empty.
  std::function<void(int64_t done_bytes, int64_t total_bytes)> progress;
};

// unsupported: weights in another form than FP8 blocks and MXFP4, or a stored type that is not a
// float; invalid: missing, unexpected or mis-shaped tensors (all of them counted, the first few
// named), codes where the config says there are none, a fused tensor whose number of chunks its
// shapes do not tell, a vector or scale that is NaN or infinite, or a finite value that
// `matrix_dtype` cannot hold.
Result<LoadedWeights> load_weights(const std::string& folder, const ModelSpec& model,
                                   const WeightTree<WeightRow>& rows, const LoadOptions& options);

// Made-up weights of the right shapes, for speed measurements and tests without a checkpoint.
// Matrices are of `dtype`, vectors f32. Numbers are uniform with each row's mean and standard
// deviation (dummy_mean, dummy_spread) and depend on the row's name, the element and the seed only.
// exhausted when the system refuses the memory; unsupported when dtype is no float.
Result<LoadedWeights> dummy_weights(const WeightTree<WeightRow>& rows, DType dtype, uint64_t seed,
                                    Pool& pool);

}  // namespace ashlar
