#pragma once

// UniformSpec: one layer as the uniform layout sees it, and what follows from that row alone: the
// bytes of its page and the blocks a request needs. Kinds are rows; no class per kind.
//
// In this layout (the one vLLM uses; its V1 cache interface is the source of the formulas) a block
// is `block_tokens` tokens of one layer, and its page is the bytes of that block: a smaller thing
// than the page of the arena layout, which holds all layers of a group. Pure functions of values;
// any thread may call them.

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace ashlar {

enum class UniformKind : uint8_t { full, window, chunk, latent, state };

// How K and V are stored. The per_token_head modes keep one f32 scale of K and one of V per token
// and head inside the page.
enum class KvQuant : uint8_t {
  none,
  fp8_per_tensor,
  int8_per_token_head,
  fp8_per_token_head,
  int4_per_token_head,
  nvfp4
};

// Which recurrent states stay: the running one, one per block, or the ones at aligned step ends.
enum class StateMode : uint8_t { none, all, align };

struct StateTensor {
  std::vector<int64_t> shape;
  int64_t element_bytes = 0;
  bool operator==(const StateTensor&) const = default;
};

struct UniformSpec {
  UniformKind kind = UniformKind::full;
  int64_t block_tokens = 16;
  int64_t kv_heads = 0;
  int64_t k_dim = 0;  // latent: the whole latent, rotary part included
  int64_t v_dim = 0;  // full and window; k_dim for chunk and latent
  int64_t element_bytes = 0;
  KvQuant quant = KvQuant::none;
  int64_t window = 0;             // window; on full: a promoted window layer's (0: none)
  int64_t chunk = 0;              // chunk; on full: a promoted chunk layer's (0: none)
  bool strided = false;           // kernels read pages by an explicit stride: padding is allowed
  int64_t padded_page_bytes = 0;  // of the whole page, 0: as large as its data
  std::string cache_format;       // latent: the name of a packed format, or empty
  std::vector<StateTensor> states;
  StateMode mode = StateMode::none;
  int64_t speculative_blocks = 0;  // state
  int64_t pack = 1;                // attention layers that share one page

  bool operator==(const UniformSpec&) const = default;
  bool attends() const { return kind != UniformKind::state; }
  // Full and latent layers keep every token and may share a group whatever their geometry.
  bool keeps_all() const { return kind == UniformKind::full || kind == UniformKind::latent; }
};

// What a request may grow to; the part of the options that block counts depend on.
struct UniformLimits {
  int64_t max_model_len = 0;
  int64_t max_in_flight_tokens = 0;  // scheduled and not yet settled
  int64_t context_ranks = 1;  // decode context parallel: ranks that share a sequence's tokens
  StateMode state_mode = StateMode::none;
};

// Every number in range, so that no later product overflows. invalid names field, value and limit;
// not_found when the padded page is smaller than its data (the reference asserts).
Status check_spec(const UniformSpec& spec, const std::string& layer);

// Bytes of data in a page of `spec` (K, V and scales, or the states); of its whole page. REQUIRES
// check_spec.
int64_t page_data_bytes(const UniformSpec& spec);
int64_t page_bytes(const UniformSpec& spec);

// Blocks one request of `limits.max_model_len` tokens holds at most. not_found for a window layer
// under context parallelism, which the reference asserts away.
Result<int64_t> request_blocks(const UniformSpec& spec, const UniformLimits& limits);

const char* name(UniformKind kind);

}  // namespace ashlar
