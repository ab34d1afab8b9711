#pragma once

// The subcommands. Each adds itself to the program and holds its own flags; when it was chosen it
// runs: Status ok is exit code 0, an error is printed by main and is exit code 2.

#include <CLI/App.hpp>
#include <memory>

#include "base/result.h"
#include "kernels/isa.h"

namespace ashlar {

class Command {
 public:
  explicit Command(CLI::App* app) : app_(app) {}
  virtual ~Command() = default;
  Command(const Command&) = delete;
  Command& operator=(const Command&) = delete;

  CLI::App* app() const { return app_; }
  virtual Status run(Isa isa) = 0;

 private:
  CLI::App* app_;
};

std::unique_ptr<Command> make_run(CLI::App* program);
std::unique_ptr<Command> make_score(CLI::App* program);
std::unique_ptr<Command> make_eval(CLI::App* program);
std::unique_ptr<Command> make_calibrate(CLI::App* program);
std::unique_ptr<Command> make_plan_command(CLI::App* program);
std::unique_ptr<Command> make_replay(CLI::App* program);
std::unique_ptr<Command> make_backends(CLI::App* program);
std::unique_ptr<Command> make_bench_ops(CLI::App* bench);
std::unique_ptr<Command> make_bench_model(CLI::App* bench);

}  // namespace ashlar
