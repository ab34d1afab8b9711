#include "engine/order.h"

#include <algorithm>

namespace ashlar {

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
