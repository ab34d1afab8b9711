#pragma once

// The configurations that `eval` compares: lists given to the flags below, every combination of
// them, and what each --row changes.

#include <CLI/App.hpp>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "cli/options.h"

namespace ashlar {

struct Configuration {
  ModelFlags flags;
  std::string label;  // what sets it apart: "fp8, uniform"
};

// Lets --dtype, --kv-cache-dtype, --kv-scales, --layout, --attn-pack-size and --block-size take
// lists, as a,b, and --speculative-config be repeated ("none" stands for no scales and no
// proposals), and adds --row. REQUIRES add_model_flags(app, flags).
void add_configuration_flags(CLI::App* app, std::vector<std::string>* rows);

// All of them, the base of comparison first; `flags` is what the parsed `app` filled. invalid
// names the --row that cannot be read. Whether a configuration can run is not known here.
Result<std::vector<Configuration>> list_configurations(const CLI::App& app, const ModelFlags& flags,
                                                       const std::vector<std::string>& rows);

// The values of those flags, as typed: {"dtype": "auto", ...}.
Json describe(const ModelFlags& flags);

}  // namespace ashlar
