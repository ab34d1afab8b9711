#include "block_pool.h"

#include <algorithm>

#include "base/check.h"

namespace ashlar::reuse {

BlockPool::BlockPool(int64_t n_blocks) : blocks_(static_cast<size_t>(n_blocks)) {
  for (int32_t block = 1; block < n_blocks; ++block) link(block, kNoBlock);
}

// Before the end mark: at the end of the queue.
void BlockPool::link(int32_t block, int32_t before) {
  Block& b = blocks_[static_cast<size_t>(block)];
  b.next = before;
  b.previous = blocks_[static_cast<size_t>(before)].previous;
  blocks_[static_cast<size_t>(b.previous)].next = block;
  blocks_[static_cast<size_t>(before)].previous = block;
  ++n_free_;
}

void BlockPool::unlink(int32_t block) {
  const Block& b = blocks_[static_cast<size_t>(block)];
  blocks_[static_cast<size_t>(b.previous)].next = b.next;
  blocks_[static_cast<size_t>(b.next)].previous = b.previous;
  --n_free_;
}

int32_t BlockPool::find(uint64_t key) const {
  const auto found = by_key_.find(key);
  return found == by_key_.end() ? kNoBlock : found->second.front();
}

int32_t BlockPool::take() {
  CHECK(n_free_ > 0);
  const int32_t block = blocks_[kNoBlock].next;
  unlink(block);
  Block& b = blocks_[static_cast<size_t>(block)];
  if (b.keyed) {
    const auto found = by_key_.find(b.key);
    std::erase(found->second, block);
    if (found->second.empty()) by_key_.erase(found);
    b.keyed = false;
  }
  b.refs = 1;
  return block;
}

void BlockPool::hold(int32_t block) {
  if (blocks_[static_cast<size_t>(block)].refs++ == 0) unlink(block);
}

void BlockPool::set_key(int32_t block, uint64_t key) {
  Block& b = blocks_[static_cast<size_t>(block)];
  CHECK(!b.keyed, "block {} has a key", block);
  b.keyed = true;
  b.key = key;
  by_key_[key].push_back(block);
}

void BlockPool::free(std::span<const int32_t> blocks) {
  const int32_t head = blocks_[kNoBlock].next;
  for (const bool keyed : {false, true}) {
    for (const int32_t block : blocks) {
      Block& b = blocks_[static_cast<size_t>(block)];
      if (block == kNoBlock || b.keyed != keyed) continue;
      CHECK(b.refs > 0, "block {} is free", block);
      if (--b.refs == 0) link(block, keyed ? kNoBlock : head);
    }
  }
}

std::vector<int32_t> BlockPool::free_queue() const {
  std::vector<int32_t> queue;
  for (int32_t block = blocks_[kNoBlock].next; block != kNoBlock;
       block = blocks_[static_cast<size_t>(block)].next)
    queue.push_back(block);
  return queue;
}

}  // namespace ashlar::reuse
