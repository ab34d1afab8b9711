#pragma once

// Block sizes of hybrids under the uniform layout: attention blocks are made long enough that their
// page holds a recurrent state, and the state's page is padded to the rest. Pure arithmetic, after
// vLLM's hybrid block alignment.

#include "kv/uniform_layer.h"

namespace ashlar {

struct HybridBlocks {
  int64_t block_tokens = 0;             // of attention layers
  int64_t state_block_tokens = 0;       // of state layers; 0: as before
  int64_t padded_state_page_bytes = 0;  // equals the attention page
};

struct HybridAlignOptions {
  int64_t block_tokens = 16;         // asked for by the user, or the kernels' preference
  int64_t kernel_block_tokens = 16;  // the shortest block the kernels take
  int64_t state_chunk_tokens = 1;    // StateMode::all: the scan's chunk
  StateMode mode = StateMode::align;
  int64_t pack = 1;  // attention layers per page
};

// `attention` and `state` are one layer of each; their block lengths are ignored. REQUIRES
// check_spec of both. invalid for an option below 1 or a block past 2^31 tokens.
Result<HybridBlocks> align_hybrid_blocks(const UniformSpec& attention, const UniformSpec& state,
                                         const HybridAlignOptions& options);

}  // namespace ashlar
