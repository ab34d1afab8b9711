#include "engine/order.h"

#include <algorithm>

namespace ashlar {
namespace {

// Rows for proposals, each with its logits, behind decodes that have their own row.
void give_drafts(std::span<const Demand> demands, const Budget& budget, int32_t* tokens_left,
                 int32_t* rows_left, std::vector<int32_t>* shares) {
  const bool others = std::any_of(demands.begin(), demands.end(), [](const Demand& demand) {
    return !demand.running || demand.n_pending > 1;
  });
  int32_t left = std::min(*tokens_left, *rows_left);
  if (others) {
    left = std::min({left, budget.step_tokens / 2, *rows_left / 2});
  }
  for (size_t i = 0; i < demands.size(); ++i) {
    if ((*shares)[i] != 1 || demands[i].n_pending != 1) continue;
    const int32_t n = std::min({demands[i].n_drafts, left, budget.chunk_tokens - 1});
    (*shares)[i] += n;
    left -= n, *tokens_left -= n, *rows_left -= n;
  }
}

}  // namespace

std::vector<int32_t> share_step(std::span<const Demand> demands, const Budget& budget) {
  std::vector<int32_t> shares(demands.size(), 0);
  int32_t tokens_left = budget.step_tokens;
  int32_t rows_left = budget.logit_rows;
  int32_t n_running = 0;
  const auto give = [&](size_t i) {
    int32_t n = std::min({demands[i].n_pending, tokens_left, budget.chunk_tokens});
    if (demands[i].every_logit) n = std::min(n, rows_left);
    if (n <= 0 || rows_left == 0) return;
    shares[i] = n;
    tokens_left -= n;
    rows_left -= demands[i].every_logit ? n : 1;
  };
  // Decodes before prefill chunks: one row each, and somebody waits for every one of them.
  for (size_t i = 0; i < demands.size(); ++i) {
    n_running += demands[i].running;
    if (demands[i].running && demands[i].n_pending == 1) give(i);
  }
  give_drafts(demands, budget, &tokens_left, &rows_left, &shares);
  for (size_t i = 0; i < demands.size(); ++i) {
    if (demands[i].running && demands[i].n_pending > 1) give(i);
  }
  for (size_t i = 0; i < demands.size(); ++i) {
    if (demands[i].running) continue;
    if (n_running == budget.max_running) break;
    give(i);
    if (shares[i] == 0) break;  // first come, first served: nobody overtakes
    ++n_running;
  }
  return shares;
}

}  // namespace ashlar
