#pragma once

// The reference's pool: equal blocks, a free queue that is its eviction order, and the keys by
// which blocks that hold a known prefix are found. Block 0 stands for "no block".

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace ashlar::reuse {

constexpr int32_t kNoBlock = 0;

class BlockPool {
 public:
  explicit BlockPool(int64_t n_blocks);

  int64_t n_free() const { return n_free_; }
  bool in_use(int32_t block) const { return blocks_[static_cast<size_t>(block)].refs > 0; }

  // kNoBlock when there is none. Of several with one key the first that got it.
  int32_t find(uint64_t key) const;
  // The queue's head; what it held is forgotten. REQUIRES n_free() > 0.
  int32_t take();
  void hold(int32_t block);
  void set_key(int32_t block, uint64_t key);
  // Those nobody holds any more go to the queue: with a key to its end, else to its front.
  void free(std::span<const int32_t> blocks);

  std::vector<int32_t> free_queue() const;

 private:
  struct Block {
    int32_t refs = 0;
    int32_t previous = 0;
    int32_t next = 0;
    bool keyed = false;
    uint64_t key = 0;
  };

  void link(int32_t block, int32_t before);
  void unlink(int32_t block);

  std::vector<Block> blocks_;  // block 0 is the ends of the queue
  std::unordered_map<uint64_t, std::vector<int32_t>> by_key_;
  int64_t n_free_ = 0;
};

}  // namespace ashlar::reuse
