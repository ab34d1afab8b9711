#include "trace.h"

#include <iterator>
#include <sstream>

namespace ashlar::sim {
namespace {

struct VerbRow {
  const char* name;
  int n_arguments;
  int weight;  // how often it comes in a random life
};
constexpr VerbRow kRows[] = {
    {"admit", 4, 6},    {"resume", 1, 8}, {"reserve", 4, 120}, {"run", 0, 60},
    {"commit", 4, 130}, {"crop", 1, 2},   {"fork", 1, 2},      {"snapshot", 1, 2},
    {"preempt", 1, 1},  {"finish", 1, 3}, {"cancel", 1, 1},    {"refuse", 1, 1},
};
static_assert(std::size(kRows) == kVerbs);

}  // namespace

std::string print(const Trace& trace) {
  std::string out = "mix " + trace.mix + "\n";
  for (const Op& op : trace.ops) {
    const VerbRow& row = kRows[static_cast<size_t>(op.verb)];
    out += row.name;
    for (int i = 0; i < row.n_arguments; ++i) out += " " + std::to_string(op.arguments[i]);
    out += "\n";
  }
  return out;
}

Result<Trace> parse_trace(const std::string& text) {
  Trace trace;
  std::istringstream lines(text);
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    std::istringstream words(line.substr(0, line.find('#')));
    std::string verb;
    if (!(words >> verb)) continue;
    if (verb == "mix") {
      words >> trace.mix;
      continue;
    }
    Op op;
    size_t row = 0;
    while (row < kVerbs && verb != kRows[row].name) ++row;
    if (row == kVerbs) return invalid("line {}: no operation is called \"{}\"", number, verb);
    op.verb = static_cast<Verb>(row);
    for (int i = 0; i < kRows[row].n_arguments; ++i) {
      if (!(words >> op.arguments[i]))
        return invalid("line {}: {} takes {} numbers", number, verb, kRows[row].n_arguments);
    }
    trace.ops.push_back(op);
  }
  if (trace.mix.empty()) return invalid("the trace does not say which mix it runs on");
  return trace;
}

Op random_op(std::mt19937& random) {
  int total = 0;
  for (const VerbRow& row : kRows) total += row.weight;
  auto at = static_cast<int>(random() % static_cast<uint32_t>(total));
  Op op;
  size_t row = 0;
  for (; at >= kRows[row].weight; ++row) at -= kRows[row].weight;
  op.verb = static_cast<Verb>(row);
  for (int i = 0; i < kRows[row].n_arguments; ++i) op.arguments[i] = random() % 1000;
  return op;
}

}  // namespace ashlar::sim
