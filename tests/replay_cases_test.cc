// Recorded sessions of another engine's cache on ours, with the same pool: no hit is invalid,
// nothing is refused, and each family of layouts finds at least as many tokens as was recorded.

#include <gtest/gtest.h>

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "cli/replay_read.h"
#include "cli/replay_report.h"

namespace ashlar {
namespace {

TEST(ReplayCases, FindAtLeastWhatWasRecorded) {
  const auto report = replay_sessions(ASHLAR_SOURCE_DIR "/tests/peers/prefix_sessions.jsonl");
  ASSERT_TRUE(report) << report.error().text;
  EXPECT_EQ(report->sessions.size(), 161u);
  for (const ReplayTotals& family : report->families()) {
    EXPECT_EQ(family.invalid, 0) << family.family;
    EXPECT_EQ(family.refused, 0) << family.family;
    // One family loses a few lookups to the order of eviction: a window in the middle of a text
    // that is not known to branch there goes before any older page that is expected to be read
    // again.
    const std::map<std::string, int64_t> known = {{"full_swa", 16}};
    const auto lost = known.find(family.family);
    EXPECT_GE(family.hit + (lost == known.end() ? 0 : lost->second), family.reference)
        << family.family;
  }
  const ReplayTotals all = report->all();
  EXPECT_EQ(all.lookups, 1371);
  EXPECT_EQ(all.reference, 19554);
  EXPECT_GE(all.hit, 22000);
  EXPECT_NE(replay_table(*report).find("full_mamba_fine"), std::string::npos);
  EXPECT_NE(replay_json(*report).find("{\"family\":\"all\",\"lookups\":1371,"), std::string::npos);
}

// One good session, to be damaged.
const std::string kGood =
    R"({"name":"x_1","config":{"groups":[{"kind":"full","block_size":4}],"num_blocks":9,)"
    R"("max_model_len":64,"hash_block_size":4},"ops":[{"op":"step"},)"
    R"({"op":"new","req":"r","prompt":[[1,9]]},{"op":"lookup","req":"r","expect":{"hit":0}},)"
    R"({"op":"alloc","req":"r","num_new":9,"use_hit":true,"expect":{}},)"
    R"({"op":"append","req":"r","tokens":[5]},{"op":"free","req":"r","expect":{}}]})";

// What replay_sessions says of a file of one good line and this one.
std::string error_of(const std::string& line) {
  const auto path =
      std::filesystem::temp_directory_path() / fmt::format("ashlar_replay_{}", ::getpid());
  std::ofstream(path, std::ios::binary) << kGood << "\n\n" << line << "\n";
  const auto report = replay_sessions(path.string());
  std::filesystem::remove(path);
  return report ? "" : report.error().text;
}

std::string with(const std::string& from, const std::string& to) {
  std::string text = kGood;
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(ReplayCases, BadInputIsNamed) {
  EXPECT_EQ(error_of(kGood), "");
  const std::pair<std::string, const char*> wrong[] = {
      {"{", ":3"},
      {"[]", "expected an object"},
      {with("\"name\":\"x_1\",", ""), "\"name\" is missing"},
      {with("\"kind\":\"full\"", "\"kind\":\"rswa\""), "none of full, mla, swa, chunk, mamba"},
      {with("\"kind\":\"full\"", "\"kind\":\"swa\""), "group 0: \"window\" is missing"},
      {with("\"block_size\":4", "\"block_size\":0"), "\"block_size\" is 0, outside 1 to 65536"},
      {with("\"num_blocks\":9", "\"num_blocks\":1"), "\"num_blocks\" is 1"},
      {with("\"num_blocks\":9", "\"num_blocks\":2000000000"), "a pool of 1999999999 blocks"},
      {with("[{\"kind\":\"full\",\"block_size\":4}]", "[]"), "\"groups\" is empty"},
      {with("\"op\":\"step\"", "\"op\":\"stop\""), "op 0: \"op\" is \"stop\", none of new"},
      {with("[[1,9]]", "[[1]]"), "op 1: \"prompt\" has [1]"},
      {with("[[1,9]]", "[[1,-9]]"), "a prompt's n is -9"},
      {with("[[1,9]]", "[]"), "\"prompt\" has no tokens"},
      {with("\"hit\":0", "\"hit\":\"0\""), "op 2: \"hit\" is no integer but string"},
      {with("\"num_new\":9", "\"num_new\":65"), "op 3: 65 tokens after 0: at most 64 in all"},
      {with("\"use_hit\":true", "\"use_hit\":1"), "\"use_hit\" is no boolean"},
      {with("\"op\":\"append\",\"req\":\"r\"", "\"op\":\"append\",\"req\":\"q\""),
       "op 4: request \"q\" has not begun"},
      {with("[5]", "[-5]"), "a token is -5"},
  };
  for (const auto& [line, what] : wrong) {
    const std::string text = error_of(line);
    EXPECT_NE(text.find(what), std::string::npos) << line << "\n" << text;
    EXPECT_NE(text.find(":3"), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace ashlar
