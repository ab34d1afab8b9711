#pragma once

// What one configuration gave, and how it is printed: alone, or as rows of a table with
// differences to the first.

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "cli/configurations.h"
#include "cli/scoring.h"

namespace ashlar {

struct ExactMatch {
  int64_t n = 0;
  int64_t n_correct = 0;
  int64_t n_prompt_tokens = 0;
  int64_t n_tokens = 0;  // generated
  double seconds = 0;
  std::vector<std::vector<int32_t>> answers;
  double share() const { return static_cast<double>(n_correct) / static_cast<double>(n); }
  double rate() const { return static_cast<double>(n_tokens) / seconds; }
};

// One configuration, run.
struct EvalRow {
  Configuration configuration;
  std::string refused;  // why it could not run; then nothing else is set
  std::optional<ExactMatch> exact;
  std::optional<TextLoss> loss;
  double bytes_per_token = 0;  // of cache, padding included, while the token is in every layer
  Json cache;
  Json speculative;
  std::string speculation_text;
};

// Answers whose tokens are not the same. REQUIRES as many problems in both.
int64_t different_answers(const ExactMatch& a, const ExactMatch& b);

// A configuration alone.
std::string as_text(const EvalRow& row, const TextFlags& text);
Json as_json(const EvalRow& row, const TextFlags& text);
// The same as a row: with its configuration and, where both ran, the differences to `first`.
Json as_json_row(const EvalRow& row, const EvalRow& first, const TextFlags& text);

// Tables of at most 80 columns, printed row by row.
class EvalTable {
 public:
  enum class Of { exact, loss };
  EvalTable(Of what, const std::vector<Configuration>& rows);
  std::string head() const;
  std::string row(const EvalRow& row, const EvalRow& first) const;

 private:
  std::string line(const std::string& label, const std::string& cells) const;
  std::string exact_cells(const EvalRow& row, const EvalRow& first) const;

  Of what_;
  bool drafts_ = false;  // a configuration has one
  size_t label_width_ = 0;
};

// What the loss was taken of: "63,882 tokens of FILE in 500 windows ...".
std::string describe(const TextLoss& loss, const TextFlags& text);

}  // namespace ashlar
