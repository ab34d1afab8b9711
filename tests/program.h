#pragma once

// What tests of the whole program share: run it as a user does, in a folder of its own.

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "base/json.h"

namespace ashlar {

inline const std::string kGoldens = std::string(ASHLAR_SOURCE_DIR) + "/tests/goldens/models/";

struct Ran {
  int code = -1;
  std::string out;  // stdout and stderr
};

// Runs the program through a shell, so that arguments are written as a user writes them.
inline Ran ashlar(const std::string& arguments, const std::string& environment = "",
                  const std::string& errors_to = "&1") {
  const std::string command =
      environment + " " + ASHLAR_BINARY + " " + arguments + " 2>" + errors_to + " </dev/null";
  FILE* pipe = ::popen(command.c_str(), "r");
  Ran ran;
  char chunk[4096];
  for (size_t n = 0; (n = std::fread(chunk, 1, sizeof chunk, pipe)) > 0;) ran.out.append(chunk, n);
  const int status = ::pclose(pipe);
  ran.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
  return ran;
}

inline Json json_of(const Ran& ran) {
  auto json = parse_json(ran.out, "output");
  EXPECT_TRUE(json) << ran.out;
  return json ? *json : Json();
}

// What a run prints with --json; warnings go elsewhere.
inline Json ask(const std::string& arguments) {
  const Ran ran = ashlar(arguments + " --json", "", "/dev/null");
  EXPECT_EQ(ran.code, 0) << arguments;
  return json_of(ran);
}

class Folder {
 public:
  Folder()
      : path_(std::filesystem::temp_directory_path() / fmt::format("ashlar_test_{}", ::getpid())) {
    std::filesystem::create_directories(path_);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name, std::ios::binary) << text;
    return (path_ / name).string();
  }
  // A copy of a golden checkpoint to damage.
  std::string copy(const std::string& name) const {
    std::filesystem::copy(kGoldens + name, path_ / name, std::filesystem::copy_options::recursive);
    return (path_ / name).string();
  }

 private:
  std::filesystem::path path_;
};

}  // namespace ashlar
