#include "bench/attention_cuda/report.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <ctime>

namespace ashlar::bench {
namespace {

std::string mark(double us, const char* none = "-") {
  return us > 0 ? fmt::format("{:.{}f}", us, us < 100 ? 1 : 0) : none;
}

double percent(const Result& r, const CardRoof& roof) { return 100 * roof.us(work_of(r.c)) / r.us; }

std::string line(const Result& r, const CardRoof& roof) {
  const Roof work = work_of(r.c);
  const Marks& marks = r.c.marks;
  const char* verdict = marks.required == 0     ? ""
                        : r.us > marks.required ? "MISSED"
                        : marks.aim == 0        ? "ok"
                        : r.us > marks.aim      ? "ok, not the aim"
                                                : "aim";
  return fmt::format(
      "{:<30} {:<20} {:>7} {:>8} {:>7} {:>9} {:>8} {:>5.1f} {:>6.0f} {:>7.1f} {:>8.1e} {}\n",
      r.c.name, r.body, mark(marks.best), mark(marks.required), mark(marks.aim), mark(r.us),
      mark(roof.us(work)), percent(r, roof), work.bytes / r.us / 1e3, work.flops / r.us / 1e6,
      r.error, verdict);
}

double time_of(const Run& run, std::string_view name) {
  for (const Result& r : run.results)
    if (r.picked && name == r.c.name) return r.us;
  return 0;
}

struct MeasuredRatio {
  Ratio ratio;
  double of_us = 0;
  double over_us = 0;
  double times() const { return of_us / over_us; }
};

std::vector<MeasuredRatio> measured_ratios(const Run& run) {
  std::vector<MeasuredRatio> measured;
  for (const Ratio& ratio : ratios()) {
    const MeasuredRatio m{ratio, time_of(run, ratio.of), time_of(run, ratio.over)};
    if (m.of_us > 0 && m.over_us > 0) measured.push_back(m);
  }
  return measured;
}

std::string ratio_table(const Run& run) {
  const std::vector<MeasuredRatio> measured = measured_ratios(run);
  if (measured.empty()) return "";
  std::string text =
      fmt::format("\n{:<44} {:>9} {:>9} {:>6} {:>5}\n", "Ratios", "us", "over", "is", "most");
  for (const MeasuredRatio& m : measured)
    text += fmt::format("{:<44} {:>9} {:>9} {:>6.3f} {:>5.2f}{}\n", m.ratio.what, mark(m.of_us),
                        mark(m.over_us), m.times(), m.ratio.most,
                        m.times() > m.ratio.most ? " MISSED" : "");
  return text;
}

}  // namespace

std::string header_json(const Run& run) {
  return fmt::format(
      R"({{"device": "{}", "multiprocessors": {}, "date": "{:%Y-%m-%d}", "read_gb_per_s": {:.0f}, )"
      R"("matmul_tflop_per_s": {:.0f}, "repetitions": {}, "flush": "{}"}})",
      run.device, run.multiprocessors, fmt::gmtime(std::time(nullptr)),
      run.roof.read_bytes_per_s / 1e9, run.roof.matmul_flops_per_s / 1e12, run.repetitions,
      run.clean ? "written, then read" : "written");
}

std::string to_json(const Result& r, const CardRoof& roof) {
  const Roof work = work_of(r.c);
  const Marks& marks = r.c.marks;
  const auto number = [](double us) { return us > 0 ? fmt::format("{:g}", us) : "null"; };
  return fmt::format(
      R"({{"case": "{}", "section": "{}", "what": "{}", "body": "{}", "picked": {}, "us": {:.2f}, )"
      R"("bytes": {:.0f}, "flops": {:.0f}, "roof_us": {:.2f}, "roof_percent": {:.1f}, )"
      R"("relative_error": {:.2e}, "blocks": {}, "best_us": {}, "best": "{}", "required_us": {}, )"
      R"("aim_us": {}}})",
      r.c.name, r.c.section, to_text(r.c), r.body, r.picked, r.us, work.bytes, work.flops,
      roof.us(work), percent(r, roof), r.error, r.n_blocks, number(marks.best), marks.best_name,
      number(marks.required), number(marks.aim));
}

std::string ratios_json(const Run& run) {
  std::string text;
  for (const MeasuredRatio& m : measured_ratios(run))
    text += fmt::format(
        R"({{"ratio": "{}", "us": {:.2f}, "over_us": {:.2f}, "times": {:.3f}, "most": {:g}}})"
        "\n",
        m.ratio.what, m.of_us, m.over_us, m.times(), m.ratio.most);
  return text;
}

std::string tables(const Run& run) {
  std::string text = fmt::format(
      "{}, {} multiprocessors: reads {:.2f} TB/s, multiplies {:.0f} TFLOP/s (bf16, cuBLASLt, "
      "8192^3)\n",
      run.device, run.multiprocessors, run.roof.read_bytes_per_s / 1e12,
      run.roof.matmul_flops_per_s / 1e12);
  std::string_view section;
  for (const Result& r : run.results) {
    if (section != r.c.section) {
      section = r.c.section;
      text += fmt::format("\n{:<30} {:<20} {:>7} {:>8} {:>7} {:>9} {:>8} {:>5} {:>6} {:>7} {:>8}\n",
                          section, "body", "best", "required", "aim", "us", "roof us", "%", "GB/s",
                          "TFLOP/s", "error");
    }
    text += line(r, run.roof);
  }
  return text + ratio_table(run);
}

}  // namespace ashlar::bench
