// ashlar plan: what fits in a cache of so many bytes, from a config alone.

#include <cstdio>
#include <memory>

#include "cli/commands.h"
#include "cli/lines.h"
#include "cli/plan_cases.h"
#include "cli/plan_report.h"

namespace ashlar {
namespace {

struct Outputs {
  bool json = false;
  std::string svg;
  std::string cases;
};

Status write_file(const std::string& path, const std::string& text) {
  std::FILE* file = std::fopen(path.c_str(), "wb");
  if (file == nullptr) return error(Code::io, "--svg {}: cannot be written", excerpt(path));
  const bool whole = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  if (std::fclose(file) != 0 || !whole) {
    return error(Code::io, "--svg {}: was not written to its end", excerpt(path));
  }
  return {};
}

// One answer per line, in the file's order. A case that is not of this form is answered so, and
// the run fails at its end.
Status print_cases(const std::string& path) {
  TRY(const std::vector<Json> lines, read_json_lines(path));
  std::string first_bad;
  for (size_t i = 0; i < lines.size(); ++i) {
    const Json* name = lines[i].find("name");
    const Json* input = lines[i].find("input");
    if (name == nullptr || input == nullptr) {
      return invalid("--cases {}: case {} lacks \"name\" or \"input\"", excerpt(path), i + 1);
    }
    Json line;
    if (auto answer = uniform_case(*input)) {
      const Json* refused = answer->find("error");
      line = refused == nullptr
                 ? Json(Json::Object{{"name", *name}, {"expected", *answer}})
                 : Json(Json::Object{{"name", *name}, {"error", *refused}, {"expected", *answer}});
    } else {
      const std::string& why = answer.error().text;
      line = Json::Object{{"name", *name}, {"error", "not a case"}, {"message", why}};
      if (first_bad.empty()) first_bad = fmt::format("case {}: {}", i + 1, why);
    }
    std::printf("%s\n", line.dump().c_str());
  }
  if (first_bad.empty()) return {};
  return invalid("--cases {}: {}", excerpt(path), first_bad);
}

Status plan(const PlanFlags& flags, const Outputs& outputs) {
  if (!outputs.cases.empty()) {
    if (flags.layout != "uniform") {
      return invalid("--cases {}: cases are of the uniform layout; add --layout uniform",
                     excerpt(outputs.cases));
    }
    if (!flags.model.empty()) {
      return invalid("MODEL {}: --cases reads its layers from the file; give one of them",
                     excerpt(flags.model));
    }
    return print_cases(outputs.cases);
  }
  if (flags.model.empty()) return invalid("MODEL is missing: a config.json or a folder with one");
  TRY(const PlanReport report, make_plan(flags));
  if (!outputs.svg.empty()) TRY_STATUS(write_file(outputs.svg, plan_svg(report)));
  std::printf(
      "%s", outputs.json ? (plan_json(report).dump() + "\n").c_str() : plan_table(report).c_str());
  return {};
}

class PlanCommand final : public Command {
 public:
  explicit PlanCommand(CLI::App* program)
      : Command(program->add_subcommand(
            "plan", "What fits in a cache of so many bytes: from a config alone, no weights.")) {
    add_model_options();
    add_layout_options();
    app()->add_flag("--json", outputs_.json, "Print the plan as one JSON object.");
    app()->add_option("--svg", outputs_.svg,
                      "Draw one page of each group and the memory under three loads to this file.");
    app()->add_option(
        "--cases", outputs_.cases,
        "JSON lines, each {\"name\", \"input\": {\"layers\", \"memory\", ...}}: print "
        "each one's layout instead. With --layout uniform.");
  }

  Status run(Isa) override { return plan(flags_, outputs_); }

 private:
  void add_model_options() {
    app()->add_option("MODEL", flags_.model, "A config.json, or a folder with one.");
    app()->add_option("--draft", flags_.draft, "The config of a draft that proposes tokens.");
    app()
        ->add_option("--memory", flags_.memory, "Bytes of the cache on each rank, as 512MiB.")
        ->capture_default_str();
    app()
        ->add_option("--max-model-len", flags_.max_model_len,
                     "The longest sequence. Default: the model's.")
        ->check(CLI::Range(1, 1 << 30));
    app()
        ->add_option("--tensor-parallel-size", flags_.ranks,
                     "Ranks that share a layer's heads; the plan is one rank's.")
        ->check(CLI::Range(1, 4096))
        ->capture_default_str();
    app()
        ->add_option("--max-num-batched-tokens", flags_.step_tokens,
                     "Tokens of one step: windows keep so many more while a prompt is computed.")
        ->check(CLI::Range(1, 65536))
        ->capture_default_str();
  }

  void add_layout_options() {
    app()
        ->add_option("--kv-cache-dtype", flags_.kv_cache_dtype,
                     "What the cache stores. auto: the model's type. fp8_per_token_head: with a "
                     "scale for each token of a head. fp8_ds_mla: latents as 8-bit floats with "
                     "scales, 656 bytes a token.")
        ->check(CLI::IsMember({"auto", "bfloat16", "float16", "float32", "fp8", "fp8_e4m3",
                               "fp8_e5m2", "fp8_per_token_head", "fp8_ds_mla"}))
        ->capture_default_str();
    app()
        ->add_option("--block-size", flags_.block_size,
                     "Tokens per cache page, for every layer kind.")
        ->check(CLI::Range(1, 1024))
        ->capture_default_str();
    app()
        ->add_option("--layout", flags_.layout,
                     "arena: groups share slabs. uniform: one pool of equal blocks, as vLLM lays "
                     "it out; what it refuses is refused.")
        ->check(CLI::IsMember({"arena", "uniform"}))
        ->capture_default_str();
    app()
        ->add_option("--attn-pack-size", flags_.pack,
                     "Attention layers per page of the uniform layout.")
        ->check(CLI::Range(1, 65536))
        ->capture_default_str();
  }

  PlanFlags flags_;
  Outputs outputs_;
};

}  // namespace

std::unique_ptr<Command> make_plan_command(CLI::App* program) {
  return std::make_unique<PlanCommand>(program);
}

}  // namespace ashlar
