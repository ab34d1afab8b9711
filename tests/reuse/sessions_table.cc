// Prints what drawn sessions find, by family, beside the reference's rules: sessions_table [n].

#include <cstdio>
#include <cstdlib>

#include "base/check.h"
#include "sessions.h"

int main(int argc, char** argv) {
  using namespace ashlar;
  const uint32_t n = argc > 1 ? static_cast<uint32_t>(std::atoi(argv[1])) : 1000;
  for (const std::string& family : reuse::session_families()) {
    const reuse::SessionTotals all = reuse::play_sessions(family, 0, n);
    uint32_t n_sevens = 0, n_lost = 0;  // as many as were recorded of a family
    for (uint32_t seed = 0; seed + 7 <= n; seed += 7, ++n_sevens) {
      const reuse::SessionTotals seven = reuse::play_sessions(family, seed, 7);
      n_lost += seven.hit < seven.reference;
    }
    const double ratio = static_cast<double>(all.hit) / static_cast<double>(all.reference);
    std::printf("%s",
                fmt::format("{:22} {:8} {:8} {:.3f}  losses {}, sevens lost {} of {}\n", family,
                            all.hit, all.reference, ratio, all.n_losses, n_lost, n_sevens)
                    .c_str());
  }
}
