#include "cli/eval_report.h"

#include <algorithm>
#include <cmath>

#include "cli/help.h"
#include "cli/plan_report.h"

namespace ashlar {
namespace {

constexpr size_t kColumns = 80;
constexpr size_t kLeastLabel = 14;
constexpr size_t kDraftCells = 8;
constexpr size_t kExactCells = 46;
constexpr size_t kLossCells = 44;

double points(const EvalRow& row, const EvalRow& first) {
  return 100 * (row.exact->share() - first.exact->share());
}

Json as_json(const TextLoss& loss, const TextFlags& text) {
  return Json::Object{{"file", text.file},         {"texts", loss.n_texts},
                      {"windows", loss.n_windows}, {"context", text.context},
                      {"stride", text.stride},     {"tokens", loss.n_tokens},
                      {"mean_nll", loss.mean()},   {"perplexity", loss.perplexity()}};
}

Json::Object members(const EvalRow& row, const TextFlags& text) {
  Json::Object object;
  if (row.exact) {
    const ExactMatch& exact = *row.exact;
    object = {{"n", exact.n},
              {"exact_match", exact.share()},
              {"correct", exact.n_correct},
              {"prompt_tokens", exact.n_prompt_tokens},
              {"generated_tokens", exact.n_tokens},
              {"seconds", exact.seconds},
              {"tokens_per_s", exact.rate()}};
  }
  if (row.loss) object.emplace_back("perplexity", as_json(*row.loss, text));
  object.emplace_back("cache_bytes_per_token", row.bytes_per_token);
  object.emplace_back("cache", row.cache);
  object.emplace_back("speculative", row.speculative);
  return object;
}

std::string loss_cells(const EvalRow& row, const EvalRow& first) {
  const TextLoss& loss = *row.loss;
  if (&row == &first) {
    return fmt::format(" {:>10.5f} {:>10} {:>10.4f} {:>10}", loss.mean(), "", loss.perplexity(),
                       "");
  }
  return fmt::format(" {:>10.5f} {:>+10.5f} {:>10.4f} {:>+10.4f}", loss.mean(),
                     loss.mean() - first.loss->mean(), loss.perplexity(),
                     loss.perplexity() - first.loss->perplexity());
}

}  // namespace

int64_t different_answers(const ExactMatch& a, const ExactMatch& b) {
  int64_t n = 0;
  for (size_t i = 0; i < a.answers.size(); ++i) n += a.answers[i] != b.answers[i];
  return n;
}

std::string describe(const TextLoss& loss, const TextFlags& text) {
  return fmt::format("{} tokens of {}, in {} windows of at most {} tokens, {} apart",
                     grouped(loss.n_tokens), text.file, grouped(loss.n_windows), text.context,
                     text.stride);
}

std::string as_text(const EvalRow& row, const TextFlags& text) {
  std::string out;
  if (row.exact) {
    const ExactMatch& exact = *row.exact;
    out =
        fmt::format("exact match {:.1f} % ({} of {}); {} tokens generated in {}, {:.0f} tokens/s\n",
                    100 * exact.share(), exact.n_correct, exact.n, exact.n_tokens,
                    human_seconds(exact.seconds), exact.rate());
    out += row.speculation_text;
  }
  if (row.loss) {
    out += fmt::format("perplexity {:.4f}, mean nll {:.5f}: {}\n", row.loss->perplexity(),
                       row.loss->mean(), describe(*row.loss, text));
  }
  return out;
}

Json as_json(const EvalRow& row, const TextFlags& text) { return members(row, text); }

Json as_json_row(const EvalRow& row, const EvalRow& first, const TextFlags& text) {
  Json::Object object = {{"configuration", describe(row.configuration.flags)},
                         {"label", row.configuration.label}};
  if (!row.refused.empty()) {
    object.emplace_back("error", row.refused);
    return object;
  }
  for (Json::Member& member : members(row, text)) object.push_back(std::move(member));
  Json::Object difference;
  if (row.exact) {
    difference.emplace_back("exact_match_points", points(row, first));
    difference.emplace_back("answers", different_answers(*row.exact, *first.exact));
  }
  if (row.loss) {
    difference.emplace_back("mean_nll", row.loss->mean() - first.loss->mean());
    difference.emplace_back("perplexity", row.loss->perplexity() - first.loss->perplexity());
  }
  object.emplace_back("difference", std::move(difference));
  return object;
}

EvalTable::EvalTable(Of what, const std::vector<Configuration>& rows) : what_(what) {
  size_t longest = kLeastLabel;
  for (const Configuration& row : rows) {
    drafts_ |= !row.flags.speculative_config.empty();
    longest = std::max(longest, row.label.size());
  }
  const size_t cells = what == Of::loss ? kLossCells : kExactCells + (drafts_ ? kDraftCells : 0);
  label_width_ = std::min(longest, kColumns - cells);
}

// The label may take several lines; the cells stand on its first.
std::string EvalTable::line(const std::string& label, const std::string& cells) const {
  const std::string lines = wrap(label, label_width_);
  const size_t end = std::min(lines.find('\n'), lines.size());
  std::string out = fmt::format("{:<{}}{}", lines.substr(0, end), label_width_, cells);
  out.erase(out.find_last_not_of(' ') + 1);
  return out + lines.substr(end) + "\n";
}

std::string EvalTable::head() const {
  if (what_ == Of::loss) {
    return line("configuration", fmt::format(" {:>10} {:>10} {:>10} {:>10}", "mean nll",
                                             "difference", "perplexity", "difference"));
  }
  return line("configuration",
              fmt::format(" {:>9} {:>6} {:>6} {:>6}{} {:>6} {:>7}", "right", "%", "points",
                          "differ", drafts_ ? "  a step" : "", "tok/s", "B/token"));
}

std::string EvalTable::exact_cells(const EvalRow& row, const EvalRow& first) const {
  const ExactMatch& exact = *row.exact;
  std::string cells = fmt::format(" {:>9} {:>6.1f}", fmt::format("{}/{}", exact.n_correct, exact.n),
                                  100 * exact.share());
  cells += &row == &first ? fmt::format(" {:>6} {:>6}", "", "")
                          : fmt::format(" {:>+6.1f} {:>6}", points(row, first),
                                        different_answers(exact, *first.exact));
  if (drafts_) {
    const Json* accepted = row.speculative.find("mean_accepted_length");
    cells += accepted == nullptr ? fmt::format("{:>8}", "-")
                                 : fmt::format("{:>8.2f}", accepted->as_double());
  }
  return cells + fmt::format(" {:>6.0f} {:>7.0f}", exact.rate(), row.bytes_per_token);
}

std::string EvalTable::row(const EvalRow& row, const EvalRow& first) const {
  const std::string& label = row.configuration.label;
  if (!row.refused.empty()) {
    std::string why = "\n" + wrap("refused: " + row.refused, kColumns - 2);
    for (size_t at = 0; (at = why.find('\n', at)) != std::string::npos; at += 3) {
      why.replace(at, 1, "\n  ");
    }
    return wrap(label, kColumns) + why + "\n";
  }
  return line(label, what_ == Of::loss ? loss_cells(row, first) : exact_cells(row, first));
}

}  // namespace ashlar
