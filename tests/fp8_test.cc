// Checkpoints of FP8 block weights (tools/goldens/hub_fp8.py) against their twins, which hold the
// same numbers as bf16: fused projections in 2 and 4 chunks, scales in bf16, a latent of 144 rows.

#include <cmath>

#include "checkpoint.h"

namespace ashlar {
namespace {

constexpr int32_t kVocab = 64;

std::vector<Outcome> answers(const std::string& name, ModelFlags flags, Isa isa) {
  flags.model = "tests/goldens/models/" + name;
  Session session = open_checkpoint(flags, isa);
  std::vector<Request> requests;
  for (const int n : {1, 37, 150}) {
    Request request{.want_prompt_nll = true, .want_last_logits = true};
    for (int i = 0; i < n; ++i) request.tokens.push_back((i * i * 7 + 11 * i + n) % kVocab);
    request.max_tokens = 4;
    requests.push_back(std::move(request));
  }
  return run_all(*session.engine, std::move(requests));
}

double worst(const std::vector<float>& a, const std::vector<float>& b) {
  CHECK(a.size() == b.size(), "{} and {}", a.size(), b.size());
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i) most = std::max<double>(most, std::abs(a[i] - b[i]));
  return most;
}

// The largest difference of any logit or loss.
double difference(const std::string& name, const ModelFlags& flags, Isa isa) {
  const auto codes = answers(name, flags, isa);
  const auto twin = answers(name + "-twin", flags, isa);
  double most = 0;
  for (size_t i = 0; i < codes.size(); ++i) {
    EXPECT_EQ(codes[i].error, "");
    most = std::max(
        {most, worst(codes[i].nll, twin[i].nll), worst(codes[i].last_logits, twin[i].last_logits)});
  }
  return most;
}

class Fp8Test : public testing::TestWithParam<const char*> {};

TEST_P(Fp8Test, AnswersAsItsTwinInFloat) {
  for (const Isa isa : available_isas()) {
    EXPECT_LE(difference(GetParam(), {.dtype = "float32", .kv_cache_dtype = "float32"}, isa), 1e-4)
        << name(isa);
  }
}

// Sums in another order end on other sides of a rounding to bf16, in the cache and before products.
TEST_P(Fp8Test, AnswersAsItsTwinByDefault) {
  EXPECT_LE(difference(GetParam(), {}, best_isa()), 0.1);
}

INSTANTIATE_TEST_SUITE_P(Models, Fp8Test,
                         testing::Values("mimo-fp8-2chunks", "mimo-fp8-4chunks", "qwen3-fp8",
                                         "deepseek-fp8"),
                         [](const auto& info) {
                           std::string id = info.param;
                           std::replace(id.begin(), id.end(), '-', '_');
                           return id;
                         });

}  // namespace
}  // namespace ashlar
