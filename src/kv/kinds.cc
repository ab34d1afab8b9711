#include "kv/kinds.h"

#include <algorithm>
#include <iterator>

#include "base/checked.h"

namespace ashlar {
namespace {

int32_t from_zero(const CacheGroup&, int32_t) { return 0; }
int32_t from_window(const CacheGroup& group, int32_t n) {
  return std::max(0, n - group.window + 1);
}
int32_t from_chunk(const CacheGroup& group, int32_t n) { return n - n % group.chunk; }
int32_t from_next(const CacheGroup&, int32_t n) { return n; }

int64_t every_page(const CacheGroup& group, int32_t n_tokens, int64_t) {
  return ceil_div(n_tokens, group.page_tokens);
}

// A range of `length` tokens that starts anywhere straddles one page more than its length.
int64_t straddled(const CacheGroup& group, int32_t n_tokens, int64_t length) {
  const int64_t all = ceil_div(n_tokens, group.page_tokens);
  return std::min(all, ceil_div(length - 1, group.page_tokens) + 1);
}
int64_t window_pages(const CacheGroup& group, int32_t n_tokens, int64_t span) {
  return straddled(group, n_tokens, int64_t{group.window} - 1 + span);
}
// A chunk that begins with a page straddles nothing at its front.
int64_t chunk_pages(const CacheGroup& group, int32_t n_tokens, int64_t span) {
  const int64_t length = int64_t{group.chunk} - 1 + span;
  if (group.chunk % group.page_tokens != 0) return straddled(group, n_tokens, length);
  return ceil_div(std::min<int64_t>(n_tokens, length), group.page_tokens);
}
int64_t no_page(const CacheGroup&, int32_t, int64_t) { return 0; }

constexpr KindRow kRows[] = {
    {from_zero, every_page, true, true, false},       // full
    {from_window, window_pages, true, false, false},  // window
    {from_chunk, chunk_pages, true, false, false},    // chunk
    {from_zero, every_page, true, true, false},       // latent
    {from_next, no_page, false, false, true},         // state
};
static_assert(std::size(kRows) == kLayerKinds);

}  // namespace

const KindRow& kind_row(LayerKind kind) { return kRows[static_cast<size_t>(kind)]; }

BlockRange resume_blocks(const CacheGroup& group, int32_t n) {
  return {first_needed(group, n) / group.page_tokens,
          static_cast<int32_t>(ceil_div(n, group.page_tokens))};
}

int64_t most_pages(const CacheGroup& group, int32_t n_tokens, const StepShape& shape) {
  const KindRow& row = kind_row(group.kind);
  if (!row.by_token) return group.n_layers() * (1 + shape.state_slots);
  const int64_t span = int64_t{shape.slack_tokens} + std::min(shape.step_tokens, n_tokens);
  return row.most_pages(group, n_tokens, span);
}

}  // namespace ashlar
