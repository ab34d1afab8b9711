// The program as a user meets it: what it prints, what it refuses and how it exits.

#include <gtest/gtest.h>

#include "program.h"

namespace ashlar {
namespace {

const std::string kZoo = std::string(ASHLAR_SOURCE_DIR) + "/zoo/mimo-tiny";

const char* kProblem =
    "\"Ben is 11 years old. His uncle is 4 times as old. How old will the uncle be in 6 years?\"";

TEST(Cli, AnswersAndAccounts) {
  const Ran ran = ashlar("run " + kZoo + " -p " + kProblem);
  EXPECT_EQ(ran.code, 0) << ran.out;
  EXPECT_NE(ran.out.find("#### 50"), std::string::npos) << ran.out;
  EXPECT_NE(ran.out.find("peak used"), std::string::npos) << ran.out;
  EXPECT_NE(ran.out.find("window"), std::string::npos) << ran.out;
}

TEST(Cli, EitherLayoutAnswers) {
  const std::string common = "run " + kZoo + " --json --max-tokens 12 -p " + kProblem;
  const Json arena = json_of(ashlar(common));
  const Json uniform = json_of(ashlar(common + " --layout uniform --attn-pack-size 3"));
  EXPECT_EQ(arena.find("tokens")->dump(), uniform.find("tokens")->dump());
  EXPECT_EQ(arena.find("cache")->find("layout")->as_string(), "arena");
  const Json& cache = *uniform.find("cache");
  EXPECT_EQ(cache.find("layout")->as_string(), "uniform");
  EXPECT_GT(cache.find("block_bytes")->as_int(), 0);
  int64_t padding = 0;  // packs of three with two layers in them
  for (const Json& group : cache.find("groups")->as_array()) {
    padding += group.find("padding_bytes")->as_int();
    EXPECT_EQ(group.find("page_bytes")->as_int() + group.find("slab_remainder_bytes")->as_int(),
              cache.find("block_bytes")->as_int());
  }
  EXPECT_GT(padding, 0);
  const Ran table = ashlar("run " + kZoo + " --layout uniform --max-tokens 2 -p " + kProblem);
  EXPECT_NE(table.out.find("uniform layout, pages of 32, 16 tokens"), std::string::npos)
      << table.out;
}

TEST(Cli, ProposalsChangeNoAnswer) {
  const std::string common = "run " + kZoo + " --json --temperature 0.7 --seed 3 -p " + kProblem;
  const std::string draft = kZoo + "-dflash";
  const Json plain = json_of(ashlar(common));
  EXPECT_TRUE(plain.find("speculative")->is_null());
  const Json proposed = json_of(ashlar(
      common + " --speculative-config '{\"method\": \"dflash\", \"model\": \"" + draft + "\"}'"));
  EXPECT_EQ(plain.find("tokens")->dump(), proposed.find("tokens")->dump());
  const Json& speculative = *proposed.find("speculative");
  EXPECT_EQ(speculative.find("method")->as_string(), "dflash");
  EXPECT_EQ(speculative.find("acceptance_per_position")->as_array().size(), 7u);
  EXPECT_GT(speculative.find("mean_accepted_length")->as_double(), 1);
  EXPECT_EQ(proposed.find("cache")->find("groups")->as_array().size(),
            plain.find("cache")->find("groups")->as_array().size() + 1);
  const Ran alone = ashlar("run " + draft + " --tokens 1,2");
  EXPECT_EQ(alone.code, 2);
  EXPECT_NE(alone.out.find("a draft runs beside its target"), std::string::npos) << alone.out;
}

TEST(Cli, APackIsTheUniformLayouts) {
  const Ran ran = ashlar("run " + kZoo + " --attn-pack-size 2 -p " + kProblem);
  EXPECT_NE(ran.code, 0);
  EXPECT_NE(ran.out.find("--attn-pack-size 2"), std::string::npos) << ran.out;
  EXPECT_NE(ran.out.find("add --layout uniform"), std::string::npos) << ran.out;
  const Ran small = ashlar("run " + kZoo + " --layout uniform --memory 4KiB -p " + kProblem);
  EXPECT_NE(small.code, 0);
  EXPECT_NE(small.out.find("--layout uniform: "), std::string::npos) << small.out;
}

TEST(Cli, JsonHasWhatItPromises) {
  const Json json = json_of(ashlar("run " + kZoo + " --json -p " + kProblem));
  EXPECT_NE(json.find("text")->as_string().find("#### 50"), std::string::npos);
  EXPECT_EQ(json.find("finish_reason")->as_string(), "stop");
  EXPECT_EQ(static_cast<int64_t>(json.find("tokens")->as_array().size()),
            json.find("usage")->find("completion_tokens")->as_int());
  // A token's time is when it was drawn, not when somebody came to read it: what follows the first
  // takes as many steps again.
  const Json& timing = *json.find("timing");
  EXPECT_GT(timing.find("ttft_s")->as_double(), 0);
  EXPECT_LT(timing.find("ttft_s")->as_double(), 0.9 * timing.find("total_s")->as_double());
  EXPECT_EQ(json.find("cache")->find("groups")->as_array().size(), 2u);
}

TEST(Cli, EveryInstructionSetAnswers) {
  for (const char* isa : {"baseline", "avx2"}) {
    const Ran ran =
        ashlar("run " + kZoo + " -p " + kProblem, std::string("ASHLAR_FORCE_ISA=") + isa);
    EXPECT_EQ(ran.code, 0);
    EXPECT_NE(ran.out.find("#### 50"), std::string::npos) << ran.out;
    EXPECT_NE(ran.out.find(isa), std::string::npos) << ran.out;
  }
  EXPECT_EQ(ashlar("run " + kZoo + " -p x", "ASHLAR_FORCE_ISA=neon").code, 2);
}

TEST(Cli, MessagesTokensAndRawAreTheSamePrompt) {
  const Folder folder;
  const std::string messages =
      folder.write("m.json", R"([{"role":"user","content":"What is 3 + 4?"}])");
  const std::string common = " --json --max-tokens 12";
  const std::string by_prompt =
      json_of(ashlar("run " + kZoo + common + " -p 'What is 3 + 4?'")).find("tokens")->dump();
  EXPECT_EQ(
      json_of(ashlar("run " + kZoo + common + " --messages " + messages)).find("tokens")->dump(),
      by_prompt);
  const std::string raw = "run " + kZoo + common +
                          " --raw -p \"$(printf '<|im_start|>user\\nWhat is 3 + "
                          "4?<|im_end|>\\n<|im_start|>assistant\\n.')\"";
  // The shell strips the last newline of $(...), so the raw text ends in a dot that the template
  // has not.
  EXPECT_EQ(ashlar(raw).code, 0);
}

TEST(Cli, ScoreGivesOneLossLessThanTokens) {
  const Folder folder;
  const std::string input =
      folder.write("in.jsonl", "{\"tokens\":[5,6,7,8]}\n\n{\"tokens\":[9]}\n");
  const Ran ran = ashlar("score " + kGoldens + "mimo-gqa --json --logits --input " + input);
  ASSERT_EQ(ran.code, 0) << ran.out;
  const size_t split = ran.out.find('\n');
  const auto first = parse_json(ran.out.substr(0, split), "line");
  ASSERT_TRUE(first) << ran.out;
  EXPECT_EQ(first->find("nll")->as_array().size(), 3u);
  EXPECT_GT(first->find("last_logits")->as_array().size(), 100u);
  const auto second = parse_json(ran.out.substr(split + 1), "line");
  ASSERT_TRUE(second) << ran.out;
  EXPECT_EQ(second->find("nll")->as_array().size(), 0u);
}

TEST(Cli, EvalCountsExactMatches) {
  const Ran ran =
      ashlar("eval " + kZoo + " --json --limit 8 --data " + ASHLAR_SOURCE_DIR "/zoo/eval.jsonl");
  const Json json = json_of(ran);
  EXPECT_EQ(json.find("n")->as_int(), 8);
  EXPECT_GE(json.find("exact_match")->as_double(), 0.85);
}

// What a draft saves at a chosen share of right proposals: 32 tokens after the prompts' step.
TEST(Cli, BenchesADraftAtAnAcceptance) {
  const std::string bench =
      "bench model " + kZoo + " --memory 64MiB --prompt 16 --generate 33 --json" +
      R"( --speculative-config '{"method": "dflash", "model": ")" + kZoo + R"(-dflash"}')";
  struct Expected {
    const char* acceptance;
    int rounds, accepted;
    double length;
  };
  for (const Expected& expected :
       {Expected{"0", 31, 0, 1}, {"0.4286", 8, 24, 4}, {"1", 4, 28, 8}}) {
    const Ran ran = ashlar(bench + " --acceptance " + expected.acceptance);
    ASSERT_EQ(ran.code, 0) << ran.out;
    const size_t line = ran.out.find('\n') + 1;
    const Json plain = *parse_json(ran.out.substr(0, line), "plain");
    const Json drafted = *parse_json(ran.out.substr(line), "drafted");
    EXPECT_EQ(plain.find("steps")->as_int(), 32);
    EXPECT_EQ(plain.find("tokens")->as_int(), 32);
    EXPECT_EQ(drafted.find("tokens")->as_int(), 32);
    EXPECT_EQ(drafted.find("rounds")->as_int(), expected.rounds) << ran.out;
    EXPECT_EQ(drafted.find("accepted")->as_int(), expected.accepted);
    EXPECT_EQ(drafted.find("mean_accepted_length")->as_double(), expected.length);
    EXPECT_GT(drafted.find("draft_ms")->as_double(), 0);
    EXPECT_GT(drafted.find("speed_up")->as_double(), 0);
  }
}

TEST(Cli, HelpIsAManual) {
  for (const char* command :
       {"", "run", "score", "eval", "calibrate", "bench", "bench ops", "bench model"}) {
    const Ran ran = ashlar(std::string(command) + " --help");
    EXPECT_EQ(ran.code, 0) << command;
    EXPECT_GT(ran.out.size(), 200u) << command;
  }
}

struct BadInput {
  const char* arguments;  // MODEL stands for a good checkpoint
  const char* says;
};

TEST(Cli, BadFlagsAreOneClearErrorAndCode2) {
  const BadInput cases[] = {
      {"run MODEL", "no prompt: give -p, --messages or --tokens"},
      {"bench model MODEL --acceptance 0.5", "--acceptance 0.5: nothing proposes; add"},
      {"bench model MODEL --acceptance 1.5", "--acceptance"},
      {R"(bench model MODEL --acceptance 1 --speculative-config '{"method": "ngram"}')",
       "give --speculative-config a draft"},
      {"run /nowhere -p x", "/nowhere/config.json: cannot open"},
      {"run MODEL --tokens 1,2 -p x", "exactly one of -p, --messages and --tokens"},
      {"run MODEL --tokens 99999", "prompt token 0 is 99999: the vocabulary has ids 0 to"},
      {"run MODEL --tokens 1 --temperature -1", "temperature"},
      {"run MODEL --tokens 1 --top-p 2", "top_p"},
      {"run MODEL --tokens 1 --block-size 0", "--block-size"},
      {"run MODEL --tokens 1 --dtype int3", "--dtype"},
      {"run MODEL --tokens 1 --kv-cache-dtype int3", "--kv-cache-dtype"},
      {"run MODEL --tokens 1 --kv-cache-dtype-skip-layers 0", "add --kv-cache-dtype fp8"},
      {"run MODEL --tokens 1 --kv-cache-dtype fp8 --kv-scales /nowhere.json", "/nowhere.json"},
      {"calibrate MODEL --data x --out y --kv-cache-dtype fp8", "say --format fp8"},
      {"run MODEL --tokens 1 --memory lots", "--memory \"lots\""},
      {"run MODEL --tokens 1 --memory 4096", "cache memory"},
      {"run MODEL --tokens 1 --max-tokens 100000 --memory 1MiB", "the cache of"},
      {"run MODEL -p x", "has no tokenizer.json: give token ids with --tokens"},
      {"run MODEL --messages /nowhere.json", "/nowhere.json: cannot open"},
      {"score MODEL --input /nowhere.jsonl", "/nowhere.jsonl: cannot open"},
      {"eval MODEL --data /nowhere.jsonl", "/nowhere.jsonl: cannot open"},
      {"frobnicate", "\"frobnicate\" is no subcommand: known are run, score, eval"},
      {"run MODEL --tokens 1 --frobnicate", "--frobnicate"},
  };
  for (const BadInput& bad : cases) {
    std::string arguments = bad.arguments;
    if (const size_t at = arguments.find("MODEL"); at != std::string::npos) {
      arguments.replace(at, 5, kGoldens + "mimo-gqa");
    }
    const Ran ran = ashlar(arguments);
    EXPECT_EQ(ran.code, 2) << arguments << "\n" << ran.out;
    EXPECT_NE(ran.out.find(bad.says), std::string::npos) << arguments << "\n" << ran.out;
  }
  const Ran not_utf8 = ashlar("run " + kZoo + " -p \"$(printf 'a\\377b')\"");
  EXPECT_EQ(not_utf8.code, 2);
  EXPECT_NE(not_utf8.out.find("byte 1 is 0xff"), std::string::npos) << not_utf8.out;
}

TEST(Cli, DamagedCheckpointsAreOneClearErrorAndCode2) {
  const Folder folder;
  const std::string model = folder.copy("mimo-gqa");
  const std::string weights = model + "/model.safetensors";
  const auto size = std::filesystem::file_size(weights);
  for (const uintmax_t keep : {uintmax_t{0}, uintmax_t{7}, uintmax_t{100}, size / 2, size - 1}) {
    std::filesystem::copy_file(kGoldens + "mimo-gqa/model.safetensors", weights,
                               std::filesystem::copy_options::overwrite_existing);
    std::filesystem::resize_file(weights, keep);
    const Ran ran = ashlar("run " + model + " --tokens 1,2 --max-tokens 2");
    EXPECT_EQ(ran.code, 2) << keep << ran.out;
    EXPECT_NE(ran.out.find("model.safetensors"), std::string::npos) << ran.out;
  }
  const std::string sharded = folder.copy("qwen3-gqa3");
  for (const auto& entry : std::filesystem::directory_iterator(sharded)) {
    if (entry.path().filename().string().starts_with("model-00002"))
      std::filesystem::remove(entry.path());
  }
  const Ran missing = ashlar("run " + sharded + " --tokens 1,2");
  EXPECT_EQ(missing.code, 2);
  EXPECT_NE(missing.out.find("model-00002"), std::string::npos) << missing.out;
}

const std::string kConfigs = std::string(ASHLAR_SOURCE_DIR) + "/tests/configs/";

TEST(Plan, EveryPublishedConfigHasATableAJsonAndADrawing) {
  const Folder folder;
  for (const auto& entry : std::filesystem::directory_iterator(kConfigs)) {
    const std::string config = entry.path().string();
    const std::string svg = folder.write("plan.svg", "");
    const Ran table = ashlar("plan " + config + " --svg " + svg);
    ASSERT_EQ(table.code, 0) << table.out;
    for (size_t begin = 0; begin < table.out.size();) {
      const size_t end = std::min(table.out.find('\n', begin), table.out.size());
      EXPECT_LE(end - begin, 100u) << config << ": " << table.out.substr(begin, end - begin);
      begin = end + 1;
    }
    std::ifstream drawn(svg);
    const std::string text((std::istreambuf_iterator<char>(drawn)), {});
    EXPECT_EQ(text.compare(0, 4, "<svg"), 0) << config;
    EXPECT_TRUE(text.ends_with("</svg>\n")) << config;
    for (const char* odd : {"'nan'", "'inf'", "'-", " nan", " inf"}) {
      EXPECT_EQ(text.find(odd), std::string::npos) << config << ": " << odd;
    }
    const Json json = json_of(ashlar("plan " + config + " --json"));
    ASSERT_NE(json.find("arena"), nullptr) << config;
    EXPECT_EQ(json.find("arena")->find("smallest_reusable_prefix")->as_int(), 16);
  }
}

TEST(Plan, ADraftIsOneMoreGroup) {
  const std::string pro = "plan " + kConfigs + "mimo-v2.5-pro.json --json --max-model-len 131072";
  const Json alone = json_of(ashlar(pro));
  const Json both = json_of(ashlar(pro + " --draft " + kConfigs + "mimo-v2.5-pro-fp4-dflash.json"));
  const auto& groups = both.find("arena")->find("groups")->as_array();
  EXPECT_EQ(alone.find("arena")->find("groups")->as_array().size() + 1, groups.size());
  EXPECT_TRUE(groups.back().find("draft")->as_bool());
  EXPECT_EQ(groups.back().find("token_bytes")->as_int(), 20480);
  EXPECT_EQ(groups.back().find("window")->as_int(), 1024);
}

TEST(Plan, FlagsAreHonouredOrRefused) {
  const std::string qwen = "plan " + kConfigs + "qwen3.5-397b-a17b-fp8.json ";
  const Json two = json_of(ashlar(qwen + "--tensor-parallel-size 2 --json"));
  EXPECT_EQ(two.find("uniform")->find("smallest_reusable_prefix")->as_int(), 2096);
  const Json packed = json_of(ashlar(qwen + "--tensor-parallel-size 2 --attn-pack-size 4 --json"));
  EXPECT_LT(packed.find("uniform")->find("smallest_reusable_prefix")->as_int(), 600);
  EXPECT_NE(ashlar(qwen + "--layout uniform").out.find("2096"), std::string::npos);
  const std::pair<std::string, const char*> kRefused[] = {
      {qwen + "--kv-cache-dtype fp8_ds_mla", "no latent layers; use fp8"},
      {qwen + "--tensor-parallel-size 3", "tensor parallel size 3: layer 0 has 64 heads"},
      {qwen + "--memory 1MiB", "give at least"},
      {qwen + "--memory lots", "--memory \"lots\""},
      {qwen + "--draft " + kConfigs + "qwen3-8b.json", "says nothing of blocks to propose"},
      {"plan", "MODEL is missing"},
      {"plan --cases x.jsonl", "add --layout uniform"},
      {"plan /nowhere/config.json", "/nowhere/config.json"},
      {"score " + kConfigs + "deepseek-v3-r1.json --input x --load-format dummy", "x"},
      {"bench model " + kConfigs + "deepseek-v3.2.json --load-format dummy",
       "can be planned, not run yet; architectures that run are llama"},
  };
  for (const auto& [arguments, expected] : kRefused) {
    const Ran ran = ashlar(arguments);
    EXPECT_EQ(ran.code, 2) << arguments;
    EXPECT_NE(ran.out.find(expected), std::string::npos) << arguments << ": " << ran.out;
  }
}

TEST(Plan, CasesAreAnsweredLineByLine) {
  const Folder folder;
  const std::string good =
      R"({"name":"a","input":{"layers":{"l":{"kind":"full","block_size":16,"kv_heads":1,)"
      R"("head_size":64,"esz":2}},"memory":1048576,"max_model_len":64,)"
      R"("max_in_flight_tokens":64}})";
  const std::string large = R"({"name":"b","input":{"layers":{"l":{"kind":"full","block_size":16,)"
                            R"("kv_heads":1,"head_size":64,"esz":2}},"memory":1024,)"
                            R"("max_model_len":64,"max_in_flight_tokens":64}})";
  const std::string file = folder.write("cases.jsonl", good + "\n" + large + "\n");
  const Ran ran = ashlar("plan --layout uniform --json --cases " + file);
  EXPECT_EQ(ran.code, 0) << ran.out;
  const size_t end = ran.out.find('\n');
  const auto first = parse_json(ran.out.substr(0, end), "first");
  const auto second = parse_json(ran.out.substr(end + 1), "second");
  ASSERT_TRUE(first && second) << ran.out;
  EXPECT_EQ(first->find("name")->as_string(), "a");
  EXPECT_EQ(first->find("expected")->find("num_blocks")->as_int(), 256);
  EXPECT_EQ(second->find("error")->as_string(), "ValueError");
  const std::string bad = folder.write("bad.jsonl", good + "\n{\"name\":\"c\",\"input\":[]}\n");
  const Ran refused = ashlar("plan --layout uniform --cases " + bad);
  EXPECT_EQ(refused.code, 2);
  EXPECT_NE(refused.out.find("case 2"), std::string::npos) << refused.out;
}

}  // namespace
}  // namespace ashlar
