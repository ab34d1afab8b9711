#pragma once

// The flags that several subcommands share, as the user typed them. session.h turns them into an
// engine.

#include <CLI/App.hpp>
#include <cstdint>
#include <string>
#include <vector>

namespace ashlar {

struct ModelFlags {
  std::string model;  // a checkpoint folder, or a config.json with --load-format dummy
  std::string dtype = "auto";
  std::string kv_cache_dtype = "auto";
  std::vector<int32_t> kv_skip_layers;  // keep the model's type
  std::string kv_scales;                // a file; empty: the checkpoint's scales, or 1
  std::string load_format = "auto";
  std::string memory;  // bytes of the cache arena; empty: see session.cc
  std::string layout = "arena";
  std::string attention_backend;  // a row's name; empty: the first that can
  int32_t block_size = 16;
  int32_t pack = 1;  // attention layers per page; of the uniform layout alone
  int32_t max_step_tokens = 512;
  int32_t max_running = 128;
  std::string speculative_config;  // JSON, see speculation.h; empty: nothing is proposed
  int32_t threads = 0;             // 0: every processor this process may use
  bool json = false;
  int64_t count_tokens = 0;  // see ModelOptions; 0: as many as a warning needs. Set by commands
};

// `json_help` says what --json prints for this subcommand.
void add_model_flags(CLI::App* app, ModelFlags* flags, const std::string& json_help);

}  // namespace ashlar
