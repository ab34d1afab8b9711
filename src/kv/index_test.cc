#include "kv/index.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace ashlar {
namespace {

std::vector<int32_t> block(int32_t token) { return std::vector<int32_t>(4, token); }

TEST(PrefixIndex, KeysTellSaltAdapterParentAndTokensApart) {
  PrefixIndex index(1, false, 100);
  const Digest roots[] = {index.root("", ""), index.root("a", ""), index.root("", "a"),
                          index.root("a", "a"), index.root("aa", "")};
  std::map<Digest, int> seen;
  for (const Digest& root : roots) {
    ++seen[root];
    ++seen[index.next_key(root, block(1))];
    ++seen[index.next_key(root, block(2))];
    ++seen[index.next_key(index.next_key(root, block(1)), block(1))];
  }
  EXPECT_EQ(seen.size(), 20u);
  EXPECT_EQ(index.root("a", "b"), index.root("a", "b"));
}

// Against a map, with chains that come and go: what is inserted is found, what is forgotten is not.
TEST(PrefixIndex, RandomChainsAreFoundUntilForgotten) {
  PrefixIndex index(2, false, 50);
  std::mt19937 random(5);
  const Digest root = index.root("", "");
  std::vector<std::pair<NodeId, size_t>> listed;
  for (int round = 0; round < 3000; ++round) {
    Digest key = root;
    NodeId tip = kNoNode;
    for (uint32_t depth = 1 + random() % 6; depth > 0; --depth) {
      key = index.next_key(key, block(static_cast<int32_t>(random() % 5)));
      NodeId node = index.find(key);
      if (node == kNoNode) {
        node = index.insert(key, tip);
        index.put(node, 0, static_cast<uint32_t>(round));
        index.list(node, 0, random() % 2 == 0 ? Worth::cheap : Worth::useful);
      }
      EXPECT_EQ(index.find(key), node);
      index.hold(node);
      if (tip != kNoNode) index.let_go(tip);
      tip = node;
    }
    index.let_go(tip);
    NodeId node = kNoNode;
    size_t column = 0;
    for (int i = 0; i < 3 && index.victim(&node, &column); ++i) index.take(node, column);
    if (round % 50 == 0) index.audit();
  }
  EXPECT_GT(index.n_pageless(), 10u);
  EXPECT_LT(index.n_pageless(), 500u);  // 50, and what stands above a page
}

// A snapshot makes everything above it worth keeping; without one it goes first.
TEST(PrefixIndex, WhatHasNoSnapshotGoesFirst) {
  PrefixIndex index(2, true, 100);
  std::vector<NodeId> chain;
  Digest key = index.root("", "");
  for (int32_t i = 0; i < 4; ++i) {
    key = index.next_key(key, block(i));
    chain.push_back(index.insert(key, chain.empty() ? kNoNode : chain.back()));
    index.put(chain.back(), 0, static_cast<uint32_t>(i));
    index.list(chain.back(), 0, Worth::useful);
  }
  index.put(chain[1], index.snapshots(), 7);
  index.list(chain[1], index.snapshots(), Worth::useful);
  index.audit();
  NodeId node = kNoNode;
  size_t column = 0;
  std::vector<NodeId> order;
  while (index.victim(&node, &column)) {
    order.push_back(node);
    index.take(node, column);
    index.audit();
  }
  EXPECT_EQ(order, (std::vector<NodeId>{chain[2], chain[3], chain[1], chain[0], chain[1]}));
}

}  // namespace
}  // namespace ashlar
