// transformers' numbers (tests/goldens/models, made by tools/goldens) against ours, whole models:
// losses of prompts and greedy continuations.

#include <cmath>

#include "checkpoint.h"

namespace ashlar {
namespace {

struct Golden {
  std::string name;
  std::string folder;
  std::string file;
};

std::vector<Golden> goldens() {
  std::vector<Golden> list = {
      {"mimo_tiny", "zoo/mimo-tiny", "tests/goldens/models/mimo-tiny.golden.json"}};
  for (const char* name :
       {"llama-bias", "llama3-rope", "mimo-fullsink-hub", "mimo-gqa", "mimo-gqa-hub",
        "mimo-groups16", "mimo-wide", "qwen3-gqa3", "qwen3-window"}) {
    const std::string folder = std::string("tests/goldens/models/") + name;
    std::string id = name;
    std::replace(id.begin(), id.end(), '-', '_');
    list.push_back({id, folder, folder + "/golden.json"});
  }
  return list;
}

class GoldenTest : public testing::TestWithParam<Golden> {};

// Mean |difference| of the losses over all prompts, and the greedy tokens wherever transformers'
// own margin says that they are not a matter of rounding.
void compare(const Golden& golden, const ModelFlags& given, Isa isa, double nll_limit,
             double margin_limit) {
  ModelFlags flags = given;
  flags.model = golden.folder;
  Session session = open_checkpoint(flags, isa);
  const Json json = read_test_json(golden.file);
  std::vector<Request> requests;
  for (const Json& prompt : json.find("prompts")->as_array()) {
    Request request{.tokens = ids_of(*prompt.find("tokens")), .want_prompt_nll = true};
    request.max_tokens = static_cast<int32_t>(prompt.find("greedy")->as_array().size());
    requests.push_back(std::move(request));
  }
  const std::vector<Outcome> outcomes = run_all(*session.engine, std::move(requests));
  double sum = 0;
  int64_t n = 0;
  for (size_t i = 0; i < outcomes.size(); ++i) {
    const Json& prompt = json.find("prompts")->as_array()[i];
    const auto& nll = prompt.find("nll")->as_array();
    ASSERT_EQ(outcomes[i].nll.size(), nll.size()) << outcomes[i].error;
    for (size_t t = 0; t < nll.size(); ++t, ++n)
      sum += std::abs(outcomes[i].nll[t] - nll[t].as_double());
    const std::vector<int32_t> greedy = ids_of(*prompt.find("greedy"));
    const auto& margins = prompt.find("margins")->as_array();
    for (size_t t = 0; t < greedy.size() && t < outcomes[i].tokens.size(); ++t) {
      if (outcomes[i].tokens[t] == greedy[t]) continue;
      EXPECT_LE(margins[t].as_double(), margin_limit) << "prompt " << i << " token " << t;
      break;  // after a difference the texts are different ones
    }
  }
  const double mean = sum / static_cast<double>(n);
  EXPECT_LE(mean, nll_limit);
  testing::Test::RecordProperty("mean_abs_delta_nll", fmt::format("{:.2e}", mean));
}

TEST_P(GoldenTest, Float32AgreesToRounding) {
  compare(GetParam(), {.dtype = "float32", .kv_cache_dtype = "float32"}, best_isa(), 1e-3, 0.02);
}

TEST_P(GoldenTest, DefaultsAgreeToBf16) { compare(GetParam(), {}, best_isa(), 3e-2, 0.5); }

INSTANTIATE_TEST_SUITE_P(Models, GoldenTest, testing::ValuesIn(goldens()),
                         [](const auto& info) { return info.param.name; });

TEST(GoldenIsa, EveryInstructionSetAgrees) {
  for (const Isa isa : available_isas()) {
    SCOPED_TRACE(name(isa));
    compare(goldens()[3], {.dtype = "float32", .kv_cache_dtype = "float32"}, isa, 1e-3, 0.02);
    compare(goldens()[3], {}, isa, 3e-2, 0.5);
  }
}

}  // namespace
}  // namespace ashlar
