#include "kv/uniform_align.h"

#include <algorithm>
#include <numeric>

#include "base/checked.h"

namespace ashlar {

Result<HybridBlocks> align_hybrid_blocks(const UniformSpec& attention, const UniformSpec& state,
                                         const HybridAlignOptions& options) {
  constexpr int64_t kMaxTokens = int64_t{1} << 31;
  for (const int64_t tokens : {options.block_tokens, options.kernel_block_tokens,
                               options.state_chunk_tokens, options.pack}) {
    if (tokens >= 1 && tokens <= kMaxTokens) continue;
    return invalid("hybrid block alignment: {} is outside 1 to {}", tokens, kMaxTokens);
  }
  UniformSpec token = attention;
  token.block_tokens = 1;
  token.padded_page_bytes = 0;
  token.pack = options.pack;
  TRY_STATUS(check_spec(token, "of a hybrid's attention"));
  const int64_t token_bytes = page_data_bytes(token);

  const int64_t kernel_tokens = std::max(options.kernel_block_tokens, options.block_tokens);
  const int64_t state_tokens = ceil_div(page_bytes(state), token_bytes);  // that cover one state
  // Both factors are below 2^31, so is the state's token count below 2^40: no overflow.
  const int64_t unit = options.mode == StateMode::all
                           ? std::lcm(options.state_chunk_tokens, kernel_tokens)
                           : kernel_tokens;
  const int64_t covering = round_up(state_tokens, unit);
  if (covering > kMaxTokens) {
    return invalid("hybrid block alignment: a block of {} tokens, limit {}", covering, kMaxTokens);
  }
  HybridBlocks blocks{.block_tokens = std::max(options.block_tokens, covering)};
  if (options.mode == StateMode::all) blocks.state_block_tokens = covering;
  if (options.mode == StateMode::align) blocks.state_block_tokens = blocks.block_tokens;
  blocks.padded_state_page_bytes = blocks.block_tokens * token_bytes;
  return blocks;
}

}  // namespace ashlar
