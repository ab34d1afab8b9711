// The plan as a drawing: one page of each group to scale, and what the memory holds under three
// loads, beside the same memory under the uniform layout.

#include <algorithm>

#include "cli/plan_report.h"

namespace ashlar {
namespace {

constexpr double kWidth = 1000, kLeft = 170, kBar = 800, kRight = kLeft + kBar;
constexpr const char* kInk = "#222";
constexpr const char* kQuiet = "#666";
constexpr const char* kWaste = "#d6412f";
constexpr const char* kFree = "#e9e9e6";

struct Tint {
  const char* dark;
  const char* light;
};

// Of a group, by kind; drafts have a column of their own.
Tint tint_of(const PlanReport& report, size_t group) {
  constexpr Tint kTints[] = {{"#2f6aa8", "#86b3de"},   // full
                             {"#c97a1e", "#efb877"},   // window
                             {"#7d55a8", "#bfa2dd"},   // chunk
                             {"#23805f", "#7dc4a6"},   // latent
                             {"#a33a62", "#dd8fac"}};  // state
  constexpr Tint kDraft = {"#6f7f1a", "#bccb63"};
  static_assert(std::size(kTints) == kLayerKinds);
  return report.is_draft(group) ? kDraft : kTints[static_cast<size_t>(report.groups[group].kind)];
}

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '&': out += "&amp;"; break;
      default: out += c;
    }
  }
  return out;
}

class Drawing {
 public:
  double y = 0;  // the next free line

  void rect(double x, double width, double height, std::string_view fill) {
    if (width <= 0) return;
    body_ += fmt::format("<rect x='{:.2f}' y='{:.1f}' width='{:.2f}' height='{:.1f}' fill='{}'/>\n",
                         x, y, width, height, fill);
  }
  void text(double x, double dy, std::string_view what, std::string_view anchor = "start",
            int size = 13, std::string_view fill = kInk, bool bold = false) {
    body_ += fmt::format(
        "<text x='{:.1f}' y='{:.1f}' text-anchor='{}' font-size='{}' fill='{}'{}>{}</text>\n", x,
        y + dy, anchor, size, fill, bold ? " font-weight='600'" : "", escaped(what));
  }
  void outline(double x, double width, double height) {
    body_ += fmt::format(
        "<rect x='{:.2f}' y='{:.1f}' width='{:.2f}' height='{:.1f}' fill='none' stroke='#444' "
        "stroke-width='0.8'/>\n",
        x, y, width, height);
  }
  std::string finish() const {
    return fmt::format(
               "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {:.0f} {:.0f}' "
               "font-family='Helvetica, Arial, sans-serif'>\n"
               "<rect width='{:.0f}' height='{:.0f}' fill='white'/>\n",
               kWidth, y, kWidth, y) +
           body_ + "</svg>\n";
  }

 private:
  std::string body_;
};

std::string bytes_text(int64_t bytes) { return human_bytes(static_cast<uint64_t>(bytes)); }

// What stands in a page, in words.
std::string anatomy(const CacheGroup& group) {
  if (!group.has_tokens()) {
    return fmt::format("the state of 1 of {} layers; a sequence holds {} such pages",
                       group.n_layers(), group.n_layers());
  }
  if (group.kind == LayerKind::latent) {
    return fmt::format("{} tokens of {} layers, each one row of {}", group.page_tokens,
                       group.n_layers(), group.k_dim);
  }
  return fmt::format("{} tokens of {} layers, each K ({} x {}) then V ({} x {})", group.page_tokens,
                     group.n_layers(), group.kv_heads, group.k_dim, group.kv_heads, group.v_dim);
}

// One page to scale: layers one after another, K dark and V light, alignment red.
void draw_page(const PlanReport& report, size_t g, double bytes_per_pixel, Drawing* drawing) {
  const CacheGroup& group = report.groups[g];
  const Tint tint = tint_of(report, g);
  constexpr double kHeight = 30;
  const auto pixels = [&](int64_t bytes) { return static_cast<double>(bytes) / bytes_per_pixel; };
  drawing->text(kLeft - 12, 14, report.group_name(g), "end", 14, tint.dark, true);
  drawing->text(kLeft - 12, 29, bytes_text(group.page_bytes()), "end", 12, kQuiet);
  const int64_t cells = group.has_tokens() ? group.n_layers() : 1;
  const double cell = pixels(group.layer_bytes());
  const double gap = cell > 4 && cells > 1 ? 0.8 : 0;
  for (int64_t i = 0; i < cells; ++i) {
    const double x = kLeft + cell * static_cast<double>(i);
    const double k = group.v_dim > 0 ? pixels(group.k_bytes()) : cell;
    drawing->rect(x, k - (group.v_dim > 0 ? 0 : gap), kHeight, tint.dark);
    drawing->rect(x + k, cell - k - gap, kHeight, tint.light);
  }
  const double data = pixels(group.page_data_bytes());
  drawing->rect(kLeft + data, pixels(group.page_bytes()) - data, kHeight, kWaste);
  drawing->y += kHeight;
  drawing->text(kLeft, 15, anatomy(group), "start", 12, kQuiet);
  drawing->y += 26;
}

// A bar of the whole memory, filled from the left.
class MemoryBar {
 public:
  MemoryBar(double memory, double height, Drawing* drawing)
      : memory_(memory), height_(height), drawing_(drawing) {
    drawing->rect(kLeft, kBar, height, kFree);
  }
  void add(int64_t bytes, std::string_view fill) {
    const double width = std::min(static_cast<double>(bytes) / memory_ * kBar, kRight - x_);
    drawing_->rect(x_, width, height_, fill);
    x_ += std::max(0.0, width);
  }
  void finish() { drawing_->outline(kLeft, kBar, height_); }

 private:
  double memory_, height_, x_ = kLeft;
  Drawing* drawing_;
};

std::string load_text(int64_t n_sequences, int32_t n_tokens) {
  return fmt::format("{} sequences, {} tokens", grouped(n_sequences),
                     grouped(n_sequences * n_tokens));
}

std::string waste_text(int64_t bytes, int64_t live) {
  const double part = static_cast<double>(std::max<int64_t>(0, bytes - live));
  return fmt::format("{:.1f} % waste", 100.0 * part / static_cast<double>(bytes));
}

void draw_load(const PlanReport& report, size_t i, Drawing* drawing) {
  const PlanPoint& point = report.points[i];
  const auto memory = static_cast<double>(report.memory_bytes);
  drawing->text(12, 20, fmt::format("{} tokens each", short_count(point.n_tokens)), "start", 14,
                kInk, true);
  drawing->text(kLeft - 12, 44, "arena", "end", 12, kQuiet);
  drawing->text(kLeft, 20,
                load_text(point.n_sequences, point.n_tokens) + "; " +
                    waste_text(point.bytes, point.live_bytes));
  drawing->y += 28;
  MemoryBar arena(memory, 26, drawing);
  const int64_t wasted = point.n_sequences * (point.bytes - point.live_bytes);
  for (size_t g = 0; g < report.groups.size(); ++g) {
    const int64_t live = live_bytes(report.groups[g], point.n_tokens, resident(report.shape));
    arena.add(point.n_sequences * live, tint_of(report, g).dark);
  }
  arena.add(wasted, kWaste);
  arena.finish();
  drawing->y += 34;
  drawing->text(kLeft - 12, 12, "uniform", "end", 12, kQuiet);
  if (report.uniform) {
    const UniformPoint& other = report.uniform->points[i];
    MemoryBar bar(memory, 14, drawing);
    const int64_t live = std::min(point.live_bytes, other.bytes);
    bar.add(other.n_sequences * live, "#9a9a96");
    bar.add(other.n_sequences * (other.bytes - live), kWaste);
    bar.finish();
    drawing->y += 14;
    drawing->text(kLeft, 14,
                  load_text(other.n_sequences, point.n_tokens) + "; " +
                      waste_text(other.bytes, point.live_bytes),
                  "start", 12, kQuiet);
    drawing->y += 34;
  } else {
    drawing->text(kLeft, 12, "refused: its pages cannot be made equal", "start", 12, kQuiet);
    drawing->y += 34;
  }
}

// The shortest, a middle and the longest length that at least one sequence of fits.
std::vector<size_t> three_loads(const PlanReport& report) {
  std::vector<size_t> fitting;
  for (size_t i = 0; i < report.points.size(); ++i) {
    if (report.points[i].n_sequences > 0) fitting.push_back(i);
  }
  if (fitting.size() <= 3) return fitting;
  return {fitting.front(), fitting[fitting.size() / 2], fitting.back()};
}

void draw_legend(const PlanReport& report, Drawing* drawing) {
  double x = kLeft;
  const auto entry = [&](const char* fill, const std::string& text) {
    drawing->rect(x, 12, 12, fill);
    drawing->text(x + 17, 11, text, "start", 12, kQuiet);
    x += 32 + 6.4 * static_cast<double>(text.size());
  };
  for (size_t g = 0; g < report.groups.size(); ++g) {
    entry(tint_of(report, g).dark, report.group_name(g));
  }
  entry(kWaste, "waste: padding, page ends, second states");
  entry(kFree, "free: less than one more sequence");
  drawing->y += 26;
}

}  // namespace

std::string plan_svg(const PlanReport& report) {
  Drawing drawing;
  drawing.y = 14;
  drawing.text(kWidth / 2, 18, report.title, "middle", 17, kInk, true);
  drawing.y += 44;
  drawing.text(12, 10, "One page of each group, to scale", "start", 15, kInk, true);
  drawing.y += 24;
  int64_t largest = 0;
  for (const CacheGroup& group : report.groups) largest = std::max(largest, group.page_bytes());
  for (size_t g = 0; g < report.groups.size(); ++g) {
    draw_page(report, g, static_cast<double>(largest) / kBar, &drawing);
  }
  drawing.y += 10;
  drawing.text(12, 10, fmt::format("What {} holds", bytes_text(report.memory_bytes)), "start", 15,
               kInk, true);
  drawing.y += 24;
  draw_legend(report, &drawing);
  for (const size_t i : three_loads(report)) draw_load(report, i, &drawing);
  std::string reuse = fmt::format("Smallest reusable prefix: {} tokens", report.page_tokens);
  if (report.uniform) {
    reuse += fmt::format("; under the uniform layout {}",
                         grouped(report.uniform->grain.schedule_tokens));
  }
  drawing.text(kLeft, 10, reuse, "start", 13);
  drawing.y += 26;
  return drawing.finish();
}

}  // namespace ashlar
