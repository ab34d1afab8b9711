// match: the longest prefix of a prompt from which it can be computed on.

#include <algorithm>

#include "base/checked.h"
#include "kv/cache.h"

namespace ashlar {

const char* name(Miss miss) {
  constexpr const char* kNames[] = {"too_short", "no_state", "evicted", "salt", "never_seen"};
  static_assert(std::size(kNames) == kMisses);
  return kNames[static_cast<size_t>(miss)];
}

// What is known of a prompt, as boundaries: the index has seen `known` tokens, the token groups can
// resume at `attention`, everything at `boundary`.
struct Cache::Found {
  int32_t known = 0;
  int32_t attention = 0;
  int32_t boundary = 0;
  bool other_salt = false;              // nothing known, but under another salt
  std::vector<int32_t> junctions = {};  // where known texts part
};

int32_t Cache::match(Tables* tables, const Prompt& prompt) {
  CHECK(tables->pages.empty(), "match with tables that are in use");
  enrol(tables);
  tables->root = index_.root(prompt.salt, prompt.adapter);
  Found found = look_up(tables, prompt);
  skip_unread(tables, prompt, &found);
  take_prefix(tables, found.boundary);
  plan_stops(tables, prompt, found);
  count_misses(prompt, found);
  return tables->n_tokens;
}

// One walk forward. A boundary can be resumed when each group has as many consecutive pages before
// it as its kind requires, and a snapshot lies there if there are states. Leaves the nodes it
// found in tables->nodes.
Cache::Found Cache::look_up(Tables* tables, const Prompt& prompt) {
  const auto n = static_cast<int32_t>(prompt.tokens.size());
  const bool stateful = !state_groups_.empty();
  Found found;
  Digest key = tables->root;
  std::vector<int32_t> run(groups_.size(), 0);  // consecutive pages up to here
  const auto has_pages_for = [&](int32_t boundary, int32_t end) {
    for (const size_t g : token_groups_) {
      const int32_t first = resume_blocks(groups_[g], boundary).first;
      if (run[g] < end / groups_[g].page_tokens - first) return false;
    }
    return true;
  };
  for (int32_t end = block_tokens_; end <= n; end += block_tokens_) {
    const auto block = prompt.tokens.subspan(static_cast<size_t>(end - block_tokens_),
                                             static_cast<size_t>(block_tokens_));
    key = index_.next_key(key, block);
    const NodeId node =
        index_.find(key, tables->nodes.empty() ? kNoNode : tables->nodes.back() + 1);
    if (node == kNoNode) {
      const bool first = end == block_tokens_;
      found.other_salt =
          first && index_.seen_first(index_.next_key(index_.root({}, prompt.adapter), block));
      break;
    }
    tables->nodes.push_back(node);
    found.known = end;
    if (index_.node(node).n_children > 1) found.junctions.push_back(end);
    for (size_t c = 0; c < column_groups_.size(); ++c) {
      int32_t& length = run[column_groups_[c]];
      length = index_.entry(node, c).page == kNoPage ? 0 : length + 1;
    }
    if (end < n && has_pages_for(end, end)) {
      found.attention = end;
      if (!stateful || index_.entry(node, index_.snapshots()).page != kNoPage) found.boundary = end;
    }
    // All of it: the last token alone is computed again, behind the pages before it.
    if (end == n && !stateful && block_tokens_ > 1 && has_pages_for(n - 1, end))
      found.attention = found.boundary = n - 1;
  }
  return found;
}

// Where nothing before a boundary is read, as at a chunk's begin when every group is of chunks, a
// prompt that nobody has seen resumes there too. The blocks skipped become nodes without pages.
void Cache::skip_unread(Tables* tables, const Prompt& prompt, Found* found) {
  const auto any_group = [&](const auto& is) {
    return std::any_of(groups_.begin(), groups_.end(), is);
  };
  const bool reads_all = any_group([](const CacheGroup& group) {
    return !group.has_tokens() || kind_row(group.kind).needs_all;
  });
  if (reads_all) return;
  const auto n = static_cast<int32_t>(prompt.tokens.size());
  const auto is_read = [&](int32_t boundary) {
    return any_group(
        [&](const CacheGroup& group) { return first_needed(group, boundary) < boundary; });
  };
  int32_t boundary = (n - 1) / block_tokens_ * block_tokens_;
  while (boundary > found->boundary && is_read(boundary)) boundary -= block_tokens_;
  if (boundary <= found->boundary) return;
  found->boundary = boundary;
  found->attention = std::max(found->attention, boundary);
  for (auto at = static_cast<int32_t>(tables->nodes.size()) * block_tokens_; at < boundary;
       at += block_tokens_) {
    append_node(tables,
                prompt.tokens.subspan(static_cast<size_t>(at), static_cast<size_t>(block_tokens_)));
  }
}

// Holds what a resume at the boundary reads.
void Cache::take_prefix(Tables* tables, int32_t boundary) {
  tables->nodes.resize(static_cast<size_t>(ceil_div(boundary, block_tokens_)));
  tables->n_tokens = boundary;
  if (boundary == 0) return;
  index_.hold(tables->nodes.back());
  for (const size_t g : token_groups_) {
    const BlockRange range = resume_blocks(groups_[g], boundary);
    tables->first_page[g] = range.first;
    auto& pages = tables->pages[g];
    pages.assign(static_cast<size_t>(range.first), kNoPage);
    for (int32_t i = range.first; i < range.last; ++i) {
      const NodeId node = node_of(*tables, g, i);
      const size_t column = column_of(g, i);
      hold(node, column);
      pages.push_back(index_.entry(node, column).page);
    }
  }
  if (state_groups_.empty()) return;
  tables->resume = tables->snapshot = tables->nodes.back();
  hold(tables->resume, index_.snapshots());
  for (const NodeId node : tables->nodes) {
    if (superseded(node)) index_.relist(node, index_.snapshots(), Worth::cheap);
  }
}

// Where later prompts are expected to resume: here, where texts branch, before the last token, and
// every so often in a long text.
void Cache::plan_stops(Tables* tables, const Prompt& prompt, const Found& found) {
  const auto n = static_cast<int32_t>(prompt.tokens.size());
  std::vector<int32_t>& stops = tables->stops;
  tables->n_prompt = n;
  stops.assign({found.boundary, found.known, n - 1});
  stops.insert(stops.end(), found.junctions.begin(), found.junctions.end());
  stops.insert(stops.end(), prompt.marks.begin(), prompt.marks.end());
  if (!state_groups_.empty()) {
    const int32_t every = options_.snapshot_interval;
    for (int64_t at = round_up(found.boundary + 1, every); at < n; at += every)
      stops.push_back(static_cast<int32_t>(at));
  }
  for (int32_t& stop : stops) stop = std::min(stop, n - 1) / block_tokens_ * block_tokens_;
  std::erase_if(stops, [](int32_t stop) { return stop <= 0; });
  std::sort(stops.begin(), stops.end());
  stops.erase(std::unique(stops.begin(), stops.end()), stops.end());
}

void Cache::count_misses(const Prompt& prompt, const Found& found) {
  const auto n = static_cast<int32_t>(prompt.tokens.size());
  ++stats_.n_matches;
  stats_.prompt_tokens += n;
  stats_.hit_tokens += found.boundary;
  // The boundary that everything known and nothing lost would give.
  const int32_t best = (n - 1) / block_tokens_ * block_tokens_;
  const int32_t known = std::min(found.known, best);
  const Miss unknown = best == 0          ? Miss::too_short
                       : found.other_salt ? Miss::salt
                                          : Miss::never_seen;
  const std::pair<Miss, int32_t> lost[] = {
      {Miss::no_state, found.attention - found.boundary},
      {Miss::evicted, std::max(0, known - std::max(found.attention, found.boundary))},
      {unknown, n - std::max(known, found.boundary)}};
  bool counted = false;
  for (const auto& [miss, n_tokens] : lost) {
    if (n_tokens <= 0) continue;
    stats_.miss_tokens[static_cast<size_t>(miss)] += n_tokens;
    const bool tail_only = miss == unknown && known == best && best > 0;
    if (counted || tail_only) continue;  // less than a block is no miss
    ++stats_.miss_requests[static_cast<size_t>(miss)];
    counted = true;
  }
}

}  // namespace ashlar
