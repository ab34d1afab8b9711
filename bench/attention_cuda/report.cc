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

std::string ratio_table(const Run& run) {
  std::string text;
  for (const Ratio& ratio : ratios()) {
    const double of = time_of(run, ratio.of), over = time_of(run, ratio.over);
    if (of == 0 || over == 0) continue;
    text += fmt::format("{:<44} {:>9} {:>9} {:>6.3f} {:>5.2f}{}\n", ratio.what, mark(of),
                        mark(over), of / over, ratio.most, of / over > ratio.most ? " MISSED" : "");
  }
  if (text.empty()) return text;
  return fmt::format("\n{:<44} {:>9} {:>9} {:>6} {:>5}\n", "Ratios", "us", "over", "is", "most") +
         text;
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
