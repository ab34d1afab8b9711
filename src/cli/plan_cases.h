#pragma once

// Cases of the uniform layout as JSON: what `ashlar plan --cases FILE.jsonl --layout uniform` reads
// and prints, one case per line, so that another program's answers can be compared with ours key
// by key.
//
// Input: layers {name: {kind full|swa|chunk|mla|mamba, block_size, kv_heads, head_size,
// head_size_v, esz, window | chunk | shapes, esz[], mode, spec; block_stride, page_size_padded,
// quant, cache_dtype_str}}, whose order matters; memory, max_model_len, max_in_flight_tokens,
// disable_hybrid, num_gpu_blocks_override, cache_block_size, mamba_cache_mode, dcp,
// prefix_match_unit, attn_pack_size.
// Answer: layer_pages, num_blocks, groups, tensors, blocks_per_request, max_concurrency, kv_tokens,
// scheduler_block_size, hash_block_size (or block_size_error); or error and message.

#include "base/json.h"

namespace ashlar {

// The answer to one case's `input`. What the layout refuses is an answer, too; invalid only for an
// input that is not of this form, naming the key.
Result<Json> uniform_case(const Json& input);

}  // namespace ashlar
