// ashlar backends: which body serves which attention, and why.

#include <fmt/ranges.h>

#include <cstdio>
#include <memory>

#include "base/file.h"
#include "cli/attention_needs.h"
#include "cli/cache_choice.h"
#include "cli/commands.h"

namespace ashlar {
namespace {

struct BackendsFlags {
  std::string model;  // a config.json, or a folder with one; empty: the table alone
  std::string device;
  std::string kv_cache_dtype = "auto";
  std::string backend;
  int32_t block_size = 16;
  bool why = false;
  bool json = false;
  bool markdown = false;
};

const char* short_name(DType type) {
  switch (type) {
    case DType::f32: return "f32";
    case DType::bf16: return "bf16";
    case DType::f16: return "f16";
    case DType::f8e4m3: return "e4m3";
    case DType::f8e5m2: return "e5m2";
    default: return name(type);
  }
}

std::string types_text(DTypeSet set) {
  std::vector<std::string_view> names;
  for (const DType type : {DType::f32, DType::bf16, DType::f16, DType::f8e4m3, DType::f8e5m2}) {
    if (contains(set, type)) names.push_back(short_name(type));
  }
  return fmt::format("{}", fmt::join(names, " "));
}

std::string widths_text(const AttentionBackend& row) {
  if (row.widths.empty()) return "any";
  std::vector<std::string> texts;
  for (const Widths& w : row.widths) texts.push_back(fmt::format("{}/{}", w.k, w.v));
  return fmt::format("{}", fmt::join(texts, " "));
}

std::string device_text(const AttentionBackend& row) {
  if (row.least.kind == Device::Kind::cpu) return fmt::format("cpu, {}", name(row.least.isa));
  const char* later = row.this_sm_only ? " alone" : " and later";
  const std::string shared =
      row.shared_kib > 0 ? fmt::format(", {} KiB shared", row.shared_kib) : "";
  return fmt::format("cuda, sm_{}{}{}", row.least.sm, later, shared);
}

const char* steps_text(const AttentionBackend& row) {
  return row.decode && row.prefill ? "decode, prefill" : row.decode ? "decode" : "prefill";
}

std::string group_text(const AttentionBackend& row) {
  if (row.max_group > 0) return fmt::format("{} to {}", row.min_group, row.max_group);
  return row.min_group > 1 ? fmt::format("{} or more", row.min_group) : "any";
}

// How long pages may be.
std::string pages_text(const AttentionBackend& row) {
  if (row.most_page > 0) return fmt::format("of {} to {} tokens", row.least_page, row.most_page);
  return row.least_page > 1
             ? fmt::format("of {}, {}, ... tokens", row.least_page, 2 * row.least_page)
             : "of any length";
}

// Beyond what every row takes.
std::string extras_text(const AttentionBackend& row) {
  std::vector<std::string_view> extras;
  if (row.token_scales) extras.push_back("scales of each token");
  if (row.bidirectional) extras.push_back("rows that see later ones");
  return fmt::format("{}", fmt::join(extras, ", "));
}

Json row_json(const AttentionBackend& row) {
  Json::Array widths;
  for (const Widths& w : row.widths) widths.push_back(Json::Array{w.k, w.v});
  return Json::Object{{"form", name(row.form)},
                      {"backend", row.name},
                      {"device", device_text(row)},
                      {"decode", row.decode},
                      {"prefill", row.prefill},
                      {"widths", std::move(widths)},
                      {"queries", types_text(row.queries)},
                      {"pages", types_text(row.pages)},
                      {"least_group", row.min_group},
                      {"most_group", row.max_group},
                      {"token_scales", row.token_scales},
                      {"bidirectional", row.bidirectional},
                      {"least_page", row.least_page},
                      {"most_page", row.most_page},
                      {"shared_kib", row.shared_kib},
                      {"how", row.how}};
}

std::string table_text(AttentionForm form, const std::optional<Device>& device) {
  std::string out = fmt::format("{} attention\n", name(form));
  for (const AttentionBackend& row : attention_backends()) {
    if (row.form != form || (device && row.least.kind != device->kind)) continue;
    out += fmt::format("  {:<14} {:<34} {}\n", row.name, device_text(row), row.how);
    out += fmt::format("  {:<14}   {}; widths {}\n", "", steps_text(row), widths_text(row));
    out +=
        fmt::format("  {:<14}   {} heads over one; queries {}; pages {}, {}\n", "", group_text(row),
                    types_text(row.queries), types_text(row.pages), pages_text(row));
    if (const std::string extras = extras_text(row); !extras.empty())
      out += fmt::format("  {:<14}   also {}\n", "", extras);
  }
  return out;
}

std::string markdown(AttentionForm form) {
  std::string out =
      "| backend | needs | steps | widths K/V | queries | pages | heads over one | also |\n"
      "|---|---|---|---|---|---|---|---|\n";
  for (const AttentionBackend& row : attention_backends()) {
    if (row.form != form) continue;
    out += fmt::format("| `{}` | {} | {} | {} | {} | {} | {} | {} |\n", row.name, device_text(row),
                       steps_text(row), widths_text(row), types_text(row.queries),
                       types_text(row.pages) + ", " + pages_text(row), group_text(row),
                       extras_text(row));
  }
  return out;
}

std::string document() {
  return "# Attention backends\n\n"
         "Generated by `ashlar backends --markdown` from the table that dispatches "
         "(`src/kernels/attention/backends_table.cc`): rows stand best first, and the first that "
         "can serve a layer does. `ashlar backends CONFIG --why` says what each layer of a model "
         "gets, and why the others were passed over; `--attention-backend NAME` takes exactly that "
         "row or is refused with the reason.\n\n"
         "Every body takes pages anywhere in the arena (garbage between them), sequences of any "
         "lengths in one batch, and gives a row the same bits whatever else is in the batch. "
         "Bodies of K and V also take sliding windows, sinks and softcaps. FP8 pages are converted "
         "on load; sums are float.\n\n"
         "## K and V of their own\n\n" +
         markdown(AttentionForm::heads) + "\n## Latents (absorbed MLA)\n\n" +
         markdown(AttentionForm::latent);
}

struct Choice {
  LayerNeed layer;
  StepForm step;
  Result<AttentionPick> pick;
};

std::string choice_text(const Choice& choice, bool why) {
  const LayerNeed& layer = choice.layer;
  std::string out = fmt::format("{:>3} {}{}: {}\n", layer.n_layers, layer.draft ? "draft " : "",
                                name(layer.kind), to_text(layer.need));
  if (!choice.pick) return out + fmt::format("    none: {}\n", choice.pick.error().text);
  out += fmt::format("    {}: {}\n", choice.pick->row->name, choice.pick->row->how);
  if (!why) return out;
  for (const PassedOver& other : choice.pick->others)
    out += fmt::format("      not {}: {}\n", other.row->name, other.why);
  return out;
}

Json choice_json(const Choice& choice) {
  Json::Object line{{"layers", choice.layer.n_layers},
                    {"kind", name(choice.layer.kind)},
                    {"draft", choice.layer.draft},
                    {"step", name(choice.step)},
                    {"need", to_text(choice.layer.need)}};
  if (!choice.pick) {
    line.emplace_back("error", choice.pick.error().text);
    return line;
  }
  line.emplace_back("backend", choice.pick->row->name);
  Json::Array others;
  for (const PassedOver& other : choice.pick->others)
    others.push_back(Json::Object{{"backend", other.row->name}, {"why", other.why}});
  line.emplace_back("passed_over", std::move(others));
  return line;
}

Result<std::vector<Choice>> choices(const BackendsFlags& flags, const Device& device) {
  const std::string path =
      flags.model.ends_with(".json") ? flags.model : flags.model + "/config.json";
  TRY(const std::string text, read_file(path));
  TRY(const Json config, parse_json(text, path));
  TRY(const ModelSpec spec, read_cache_spec(config));
  TRY(CacheFormat format, parse_cache_format(flags.kv_cache_dtype, spec.dtype));
  format.page_tokens = flags.block_size;
  TRY(const std::vector<CacheGroup> groups, cache_groups(spec, format));
  const bool halves = spec.dtype == DType::bf16 || device.kind == Device::Kind::cuda;
  std::vector<Choice> found;
  for (LayerNeed& layer :
       attention_needs(spec, groups, device.kind, halves ? spec.dtype : DType::f32)) {
    for (const StepForm step : {StepForm::decode, StepForm::prefill}) {
      layer.need.step = step;
      found.push_back({layer, step, pick_attention(device, layer.need, flags.backend)});
    }
  }
  return found;
}

Status print_choices(const BackendsFlags& flags, const Device& device) {
  TRY(const std::vector<Choice> found, choices(flags, device));
  Json::Array lines;
  std::string text = fmt::format("{} on {}\n", excerpt(flags.model), name(device));
  for (const Choice& choice : found) {
    lines.push_back(choice_json(choice));
    text += choice_text(choice, flags.why);
  }
  if (found.empty()) text += "  no layer of it attends\n";
  std::printf("%s", flags.json ? (Json(std::move(lines)).dump() + "\n").c_str() : text.c_str());
  for (const Choice& choice : found)
    if (!choice.pick) return choice.pick.error();
  return {};
}

Status backends(const BackendsFlags& flags, Isa isa) {
  std::optional<Device> device;
  if (!flags.device.empty()) {
    auto parsed = parse_device(flags.device);
    if (!parsed) return Error{parsed.error().code, "--device " + parsed.error().text};
    device = *parsed;
  }
  if (!flags.model.empty()) return print_choices(flags, device.value_or(Device{.isa = isa}));
  if (flags.why || !flags.backend.empty())
    return invalid("--{}: give a model's config to choose for",
                   flags.why ? "why" : "attention-backend");
  if (flags.markdown) {
    std::printf("%s", document().c_str());
  } else if (flags.json) {
    Json::Array rows;
    for (const AttentionBackend& row : attention_backends())
      if (!device || row.least.kind == device->kind) rows.push_back(row_json(row));
    std::printf("%s\n", Json(std::move(rows)).dump().c_str());
  } else {
    std::printf("%s\n%s", table_text(AttentionForm::heads, device).c_str(),
                table_text(AttentionForm::latent, device).c_str());
  }
  return {};
}

class BackendsCommand final : public Command {
 public:
  explicit BackendsCommand(CLI::App* program)
      : Command(program->add_subcommand(
            "backends", "Which attention body serves which layer on which machine, and why.")) {
    app()->add_option("CONFIG", flags_.model,
                      "A config.json, or a folder with one: what each kind of its layers gets. "
                      "Without: the table of all bodies.");
    app()->add_option("--device", flags_.device,
                      "cpu:baseline|avx2|avx512|avx512_bf16 or a card such as cuda:sm_90. "
                      "Default: this machine's processor; without CONFIG, all.");
    app()->add_option("--attention-backend", flags_.backend, "Exactly this row, or the reasons.");
    app()
        ->add_option("--kv-cache-dtype", flags_.kv_cache_dtype, "What the cache stores.")
        ->capture_default_str();
    app()
        ->add_option("--block-size", flags_.block_size, "Tokens per cache page.")
        ->check(CLI::Range(1, 1024))
        ->capture_default_str();
    app()->add_flag("--why", flags_.why, "Also the rows passed over, and why.");
    app()->add_flag("--json", flags_.json, "Print JSON.");
    app()->add_flag("--markdown", flags_.markdown, "Print docs/attention_backends.md.");
  }
  Status run(Isa isa) override { return backends(flags_, isa); }

 private:
  BackendsFlags flags_;
};

}  // namespace

std::unique_ptr<Command> make_backends(CLI::App* program) {
  return std::make_unique<BackendsCommand>(program);
}

}  // namespace ashlar
