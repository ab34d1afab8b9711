// ashlar replay: recorded prefix-cache sessions on our cache, every hit checked.

#include <cstdio>

#include "cli/commands.h"
#include "cli/lines.h"
#include "cli/replay_read.h"
#include "cli/replay_report.h"

namespace ashlar {
namespace {

Status replay_file(const std::string& path, bool json) {
  TRY(const ReplayReport report, replay_sessions(path));
  std::printf("%s", (json ? replay_json(report) : replay_table(report)).c_str());
  const ReplayTotals all = report.all();
  if (all.invalid == 0) return {};
  return error(Code::invalid, "{}: {} reads of pages that hold another text's tokens",
               excerpt(path), all.invalid);
}

class ReplayCommand final : public Command {
 public:
  explicit ReplayCommand(CLI::App* program)
      : Command(program->add_subcommand(
            "replay",
            "Play recorded prefix-cache sessions on the cache: what is found, and is it valid.")) {
    app()
        ->add_option("FILE", file_,
                     "JSON lines, each a session {\"name\", \"config\", \"ops\"} with what another "
                     "engine's cache of as many blocks found.")
        ->required();
    app()->add_flag("--json", json_,
                    "Print each lookup, each family's totals and all in all as JSON lines.");
    app()->footer(
        "Every page carries tags of the tokens it stands for, and each page that a hit or a step "
        "reads is\ncompared with the prompt: one that is not the prompt's is invalid, and the exit "
        "code is 2.");
  }

  Status run(Isa) override { return replay_file(file_, json_); }

 private:
  std::string file_;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> make_replay(CLI::App* program) {
  return std::make_unique<ReplayCommand>(program);
}

}  // namespace ashlar
