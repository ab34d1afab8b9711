#include "text/chat.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "text/chat_tokens.h"
#include "text/testing.h"

namespace ashlar::text {
namespace {

using Files = std::vector<std::pair<std::string, std::string>>;

// A checkpoint folder with these files, gone at the end of the test.
class Folder {
 public:
  explicit Folder(const Files& files)
      : path_(testing::TempDir() + "/chat_" +
              testing::UnitTest::GetInstance()->current_test_info()->name()) {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
    for (const auto& [name, text] : files) std::ofstream(path_ / name) << text;
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

const Json kHello = Json::Array{Json(Json::Object{{"role", "user"}, {"content", "hi"}})};

std::string rendered(const Result<Chat>& chat, const ChatRequest& request) {
  EXPECT_TRUE(chat) << (chat ? "" : chat.error().text);
  if (!chat) return "";
  const auto text = chat->render(request);
  return text ? text->text : "error: " + text.error().text;
}

TEST(Chat, TheTemplateFileWins) {
  const Folder folder(Files{{"chat_template.jinja", "file {{ messages[0].content }}"},
                            {"tokenizer_config.json", R"({"chat_template": "config"})"}});
  EXPECT_EQ(rendered(Chat::load(folder.path()), {.messages = kHello}), "file hi");
}

TEST(Chat, TheConfigGivesTemplateAndTokens) {
  const Folder folder(
      Files{{"tokenizer_config.json",
             R"({"chat_template": "{{ bos_token }}|{{ eos_token }}|{{ unk_token is defined }}",
                            "bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false},
                            "unk_token": null})"}});
  const auto chat = Chat::load(folder.path());
  EXPECT_EQ(rendered(chat, {.messages = kHello}), "<s>|</s>|False");
  EXPECT_EQ(chat->special_token("eos_token"), "</s>");
  EXPECT_EQ(chat->special_token("unk_token"), "");
}

TEST(Chat, OfNamedTemplatesTheDefaultIsTaken) {
  const Folder folder(Files{{"tokenizer_config.json",
                             R"({"chat_template": [{"name": "rag", "template": "r"},
                                              {"name": "default", "template": "d"}]})"}});
  EXPECT_EQ(rendered(Chat::load(folder.path()), {.messages = kHello}), "d");
}

TEST(Chat, SaysWhatIsMissingOrWrong) {
  const auto code_of = [](const Files& files) {
    const Folder folder(files);
    const auto chat = Chat::load(folder.path());
    EXPECT_FALSE(chat);
    return chat ? Code::io : chat.error().code;
  };
  EXPECT_EQ(code_of({}), Code::not_found);
  EXPECT_EQ(code_of({{"tokenizer_config.json", R"({"chat_template": null})"}}), Code::not_found);
  EXPECT_EQ(code_of({{"tokenizer_config.json", R"({"chat_template": 5})"}}), Code::invalid);
  EXPECT_EQ(code_of({{"tokenizer_config.json", "{"}}), Code::invalid);
  EXPECT_EQ(
      code_of({{"tokenizer_config.json", R"({"chat_template": [{"name": "a", "template": ""}]})"}}),
      Code::unsupported);
  EXPECT_EQ(code_of({{"chat_template.jinja", "{% if %}"}}), Code::invalid);
  EXPECT_EQ(
      code_of({{"chat_template.jinja", "x"}, {"tokenizer_config.json", R"({"bos_token": 1})"}}),
      Code::invalid);
}

TEST(Chat, VariablesReachTheTemplate) {
  const auto chat = Chat::from_source(
      "{{ tools is none }}{{ documents is none }}{{ add_generation_prompt }}{{ enable_thinking }}",
      "test", Json());
  EXPECT_EQ(rendered(chat, {.messages = kHello}), "TrueTrueTrue");
  EXPECT_EQ(rendered(chat, {.messages = kHello,
                            .add_generation_prompt = false,
                            .variables = {{"tools", Json::Array{}}, {"enable_thinking", false}}}),
            "FalseTrueFalseFalse");
  EXPECT_FALSE(chat->render({.messages = "no array"}));
}

TEST(Chat, ZooCheckpointRenders) {
  const auto chat = Chat::load(std::string(ASHLAR_SOURCE_DIR) + "/zoo/mimo-tiny");
  EXPECT_EQ(rendered(chat, {.messages = kHello}),
            "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
}

// The head of the template, each message, and what follows the loop; loops inside a message and
// text gathered before it is written mark nothing.
TEST(Chat, BoundariesAreWhereMessagesBegin) {
  const auto chat = Chat::from_source(
      "head{% set all %}{% for m in messages %}x{% endfor %}{% endset %}"
      "{% for m in messages %}[{% for c in m.content %}{{ c }}{% endfor %}]{% endfor %}tail",
      "test", Json());
  const Json messages =
      Json::Array{Json(Json::Object{{"content", "abc"}}), Json(Json::Object{{"content", "de"}})};
  const auto rendered = chat->render({.messages = messages});
  ASSERT_TRUE(rendered);
  EXPECT_EQ(rendered->text, "head[abc][de]tail");
  EXPECT_EQ(rendered->boundaries, (std::vector<size_t>{4, 9, 13}));
}

// Marks count the tokens before a message's opening token, and the tokens before a mark do not
// depend on what follows it.
TEST(Chat, MarksOfAZooCheckpoint) {
  const std::string folder = std::string(ASHLAR_SOURCE_DIR) + "/zoo/mimo-tiny";
  const auto chat = Chat::load(folder);
  const auto tokenizer = Tokenizer::load(folder);
  ASSERT_TRUE(chat && tokenizer);
  Json::Array messages;
  const auto say = [&](const char* role, const char* text) {
    messages.push_back(Json::Object{{"role", role}, {"content", text}});
  };
  say("system", "Be brief.");
  say("user", "h\u00e9llo, how much is 2 + 2?");
  say("assistant", "4");
  say("user", "and 3?");
  const auto encode = [&](const Json::Array& part) {
    const auto rendered = chat->render({.messages = part});
    EXPECT_TRUE(rendered);
    return *encode_chat(*tokenizer, *rendered);
  };
  const ChatTokens whole = encode(messages);
  const int32_t open = *tokenizer->find("<|im_start|>");
  std::vector<int32_t> expected;
  for (size_t i = 1; i < whole.tokens.size(); ++i) {
    if (whole.tokens[i] == open) expected.push_back(static_cast<int32_t>(i));
  }
  EXPECT_EQ(whole.marks, expected);
  EXPECT_EQ(whole.marks.size(), 4u);
  messages.resize(2);
  const ChatTokens part = encode(messages);
  EXPECT_TRUE(
      std::equal(part.tokens.begin(), part.tokens.begin() + part.marks[1], whole.tokens.begin()));
}

}  // namespace
}  // namespace ashlar::text
