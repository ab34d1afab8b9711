#pragma once

// Tables: one sequence's pages, and what the cache remembers about the sequence. Owned by the
// sequence and changed by Cache alone; stays where it is from the first match or reserve to the
// release, because the cache keeps its address.

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "kv/index.h"

namespace ashlar {

struct Tables {
  // [group][token / page_tokens] of token kinds. State kinds: [group][slot * n_layers + layer];
  // slot 0 is the state after n_tokens, slot i the one after i tokens more.
  std::vector<std::vector<uint32_t>> pages;
  std::vector<int32_t> first_page;  // [group]: entries before it are kNoPage
  int32_t n_tokens = 0;             // computed: matched or committed

  // The cache's own.
  static constexpr uint32_t kUnknown = 0xFFFFFFFFu;
  uint32_t id = kUnknown;      // in the cache's list of tables
  Digest root = {};            // parent of the first block's key
  std::vector<NodeId> nodes;   // of the leading blocks, whose pages are the index's: never written
  std::vector<int32_t> stops;  // boundaries somebody is expected to resume at, ascending
  int32_t n_prompt = 0;        // tokens at match
  NodeId resume = kNoNode;     // its snapshot, held, is copied into the state pages at reserve
  NodeId snapshot = kNoNode;   // the deepest snapshot on its path that it took or resumed from

  Tables() = default;
  Tables(const Tables&) = delete;
  Tables& operator=(const Tables&) = delete;
};

// What a sequence is matched by.
struct Prompt {
  std::span<const int32_t> tokens;  // all it has; after a preemption the generated ones too
  std::string_view salt;            // sequences of two salts never share
  std::string_view adapter;         // nor do those of two adapters
  std::span<const int32_t> marks;   // token counts where other prompts are expected to branch off
};

// One page to copy, whole. kNoPage as `from`: fill `to` with NaN bytes (tests).
struct PageCopy {
  size_t group = 0;
  uint32_t from = kNoPage;
  uint32_t to = kNoPage;
};

}  // namespace ashlar
