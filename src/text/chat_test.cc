#include "text/chat.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

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
  return text ? *text : "error: " + text.error().text;
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

}  // namespace
}  // namespace ashlar::text
