// The plan as a table of at most 100 columns.

#include <algorithm>

#include "cli/plan_report.h"

namespace ashlar {
namespace {

std::string bytes_text(int64_t bytes) { return human_bytes(static_cast<uint64_t>(bytes)); }

// Text wrapped to the width, every line after the first indented.
std::string bullet(std::string_view text) {
  constexpr size_t kWidth = 98;
  std::string out = "-";
  size_t column = 1;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(' ', begin), text.size());
    const std::string_view word = text.substr(begin, end - begin);
    if (column + 1 + word.size() > kWidth) out += "\n ", column = 1;
    out += " " + std::string(word);
    column += 1 + word.size();
    begin = end + 1;
  }
  return out + "\n";
}

std::string arena_groups(const PlanReport& report) {
  std::string out =
      fmt::format("{:<14} {:>6}  {:<11} {:<16} {:>9} {:>13} {:>6} {:>13}\n", "group", "layers",
                  "keeps", "heads x (K + V)", "page of", "page bytes", "align", "bytes/token");
  for (size_t g = 0; g < report.groups.size(); ++g) {
    const CacheGroup& group = report.groups[g];
    const std::string unit =
        group.has_tokens() ? fmt::format("{} tok", group.page_tokens) : std::string("1 layer");
    out +=
        fmt::format("{:<14} {:>6}  {:<11} {:<16} {:>9} {:>13} {:>6} {:>13}\n", report.group_name(g),
                    group.n_layers(), report.keeps(g), report.shape_of(g), unit,
                    grouped(group.page_bytes()), group.page_bytes() - group.page_data_bytes(),
                    group.has_tokens() ? grouped(group.token_bytes()) : "-");
  }
  return out;
}

std::string uniform_groups_text(const UniformPlan& plan) {
  std::string out = fmt::format("{:<14} {:>6} {:>8} {:>13} {:>13} {:>13}\n", "group", "layers",
                                "block", "page bytes", "of them data", "empty places");
  int64_t places = 0;
  for (const UniformGroup& group : plan.layout.groups) places = std::max(places, group.n_packs());
  // Groups dealt from the same layers are alike: one line for each kind, counted.
  const auto line_of = [&](const UniformGroup& group) {
    return fmt::format("{:>6} {:>8} {:>13} {:>13} {:>13}", group.n_packs(), group.spec.block_tokens,
                       grouped(page_bytes(group)), grouped(page_data_bytes(group)),
                       group.mixed() ? 0 : places - group.n_packs());
  };
  const auto& groups = plan.layout.groups;
  for (size_t g = 0; g < groups.size();) {
    size_t end = g;
    while (end < groups.size() && groups[end].spec.kind == groups[g].spec.kind &&
           line_of(groups[end]) == line_of(groups[g])) {
      ++end;
    }
    const std::string label = fmt::format("{} x {}", end - g, name(groups[g].spec.kind));
    out += fmt::format("{:<14} {}\n", label, line_of(groups[g]));
    g = end;
  }
  return out;
}

// How much of each byte that a sequence takes is not its own.
std::string waste(int64_t bytes, int64_t live) {
  const double part = 1.0 - static_cast<double>(live) / static_cast<double>(bytes);
  return fmt::format("{:.1f} %", 100.0 * std::max(0.0, part));
}

std::string curve(const PlanReport& report) {
  std::string out = fmt::format("{:>8} {:>12} | {:>10} {:>13} {:>7} | {:>10} {:>13} {:>7} {:>7}\n",
                                "length", "bytes each", "sequences", "tokens held", "waste",
                                "uniform", "tokens held", "waste", "gain");
  for (size_t i = 0; i < report.points.size(); ++i) {
    const PlanPoint& point = report.points[i];
    out += fmt::format("{:>8} {:>12} | {:>10} {:>13} {:>7} | ", short_count(point.n_tokens),
                       bytes_text(point.bytes), grouped(point.n_sequences),
                       grouped(point.n_sequences * point.n_tokens),
                       waste(point.bytes, point.live_bytes));
    if (!report.uniform) {
      out += fmt::format("{:>10} {:>13} {:>7} {:>7}\n", "refused", "-", "-", "-");
      continue;
    }
    const UniformPoint& other = report.uniform->points[i];
    const double gain = other.n_sequences == 0 ? 0
                                               : static_cast<double>(point.n_sequences) /
                                                     static_cast<double>(other.n_sequences);
    out += fmt::format("{:>10} {:>13} {:>7} {:>7}\n", grouped(other.n_sequences),
                       grouped(other.n_sequences * point.n_tokens),
                       waste(other.bytes, point.live_bytes),
                       gain == 0 ? "-" : fmt::format("{:.2f} x", gain));
  }
  return out;
}

}  // namespace

std::string plan_table(const PlanReport& report) {
  std::string out = report.title + "\n\n";
  const bool arena = report.layout == "arena";
  out += arena ? arena_groups(report) : uniform_groups_text(*report.uniform);
  out += fmt::format("\nsmallest reusable prefix: {} tokens", report.page_tokens);
  if (report.uniform) {
    out += fmt::format("; uniform: {}", grouped(report.uniform->grain.schedule_tokens));
  }
  out += fmt::format("\nlongest sequence: {} tokens{}\n\n", grouped(report.longest),
                     report.longest == report.max_model_len ? ", the limit" : "");
  out += curve(report);
  out += "\narena\n";
  for (const std::string& reason : report.reasons()) out += bullet(reason);
  out += "uniform (one pool of equal blocks, as vLLM lays it out)\n";
  if (!report.uniform) out += bullet("refuses: " + excerpt(report.uniform_refusal, 400));
  if (report.uniform && report.uniform->reasons.empty()) out += bullet("nothing is padded");
  if (report.uniform) {
    for (const std::string& reason : report.uniform->reasons) out += bullet(reason);
  }
  return out;
}

}  // namespace ashlar
