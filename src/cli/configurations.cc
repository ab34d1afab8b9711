#include "cli/configurations.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>

#include "cli/speculation.h"

namespace ashlar {
namespace {

// One flag that configurations may differ in.
struct Axis {
  const char* flag;
  std::string (*get)(const ModelFlags&);
  void (*set)(ModelFlags*, const std::string&);  // null: takes no list
  // The value in a label's words.
  std::string (*word)(const std::string&);
};

int32_t number(const std::string& checked) {
  int32_t value = 0;
  std::from_chars(checked.data(), checked.data() + checked.size(), value);
  return value;
}

std::string text_or_none(const std::string& text) { return text.empty() ? "none" : text; }
std::string none_is_empty(const std::string& text) { return text == "none" ? "" : text; }

std::string file_name(const std::string& path) {
  const size_t end = path.find_last_not_of('/');
  const size_t slash = path.rfind('/', end);
  return path.substr(slash == std::string::npos ? 0 : slash + 1, end - slash);
}

std::string draft_word(const std::string& config) {
  if (config == "none") return "no draft";
  const auto parsed = parse_speculation(config);
  if (!parsed) return excerpt(config);
  const std::string n = parsed->n_tokens ? fmt::format(" {}", *parsed->n_tokens) : "";
  if (!parsed->model.empty()) return file_name(parsed->model) + n;
  return fmt::format("ngram{} ({}-{})", n, parsed->lookup_min, parsed->lookup_max);
}

const Axis kAxes[] = {
    {"--dtype", [](const ModelFlags& f) { return f.dtype; },
     [](ModelFlags* f, const std::string& v) { f->dtype = v; },
     [](const std::string& v) { return "dtype " + v; }},
    {"--kv-cache-dtype", [](const ModelFlags& f) { return f.kv_cache_dtype; },
     [](ModelFlags* f, const std::string& v) { f->kv_cache_dtype = v; },
     [](const std::string& v) { return v.starts_with("fp8") ? v : "cache " + v; }},
    {"--kv-cache-dtype-skip-layers",
     [](const ModelFlags& f) {
       return text_or_none(fmt::format("{}", fmt::join(f.kv_skip_layers, ",")));
     },
     nullptr, [](const std::string& v) { return "skip " + v; }},
    {"--kv-scales", [](const ModelFlags& f) { return text_or_none(f.kv_scales); },
     [](ModelFlags* f, const std::string& v) { f->kv_scales = none_is_empty(v); },
     [](const std::string& v) { return v == "none" ? "no scales" : "scales " + file_name(v); }},
    {"--layout", [](const ModelFlags& f) { return f.layout; },
     [](ModelFlags* f, const std::string& v) { f->layout = v; },
     [](const std::string& v) { return v; }},
    {"--attn-pack-size", [](const ModelFlags& f) { return fmt::format("{}", f.pack); },
     [](ModelFlags* f, const std::string& v) { f->pack = number(v); },
     [](const std::string& v) { return "pack " + v; }},
    {"--block-size", [](const ModelFlags& f) { return fmt::format("{}", f.block_size); },
     [](ModelFlags* f, const std::string& v) { f->block_size = number(v); },
     [](const std::string& v) { return "block " + v; }},
    {"--speculative-config", [](const ModelFlags& f) { return text_or_none(f.speculative_config); },
     [](ModelFlags* f, const std::string& v) { f->speculative_config = none_is_empty(v); },
     draft_word},
};

// Flags hold the last value of a list; the option keeps them all.
void accept_lists(CLI::App* app) {
  for (const Axis& axis : kAxes) {
    if (axis.set == nullptr) continue;
    CLI::Option* option = app->get_option(axis.flag);
    option->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    if (std::string_view(axis.flag) == "--speculative-config") {
      option->description(option->get_description() + " May be repeated; none: nothing proposes.");
    } else {
      option->delimiter(',');
      option->description(option->get_description() + " Takes a list.");
    }
  }
}

// Every combination of the values that `app` was given, the last flag's changing fastest.
std::vector<ModelFlags> combine(const CLI::App& app, const ModelFlags& flags) {
  std::vector<ModelFlags> all = {flags};
  for (const Axis& axis : kAxes) {
    if (axis.set == nullptr) continue;
    const std::vector<std::string>& values = app.get_option(axis.flag)->results();
    if (values.empty()) continue;
    std::vector<ModelFlags> next;
    for (const ModelFlags& one : all) {
      for (const std::string& value : values) {
        next.push_back(one);
        axis.set(&next.back(), value);
      }
    }
    all = std::move(next);
  }
  return all;
}

Result<std::vector<ModelFlags>> read_row(const std::string& row, const ModelFlags& base) {
  CLI::App app;
  ModelFlags flags = base;
  add_model_flags(&app, &flags, "");
  for (CLI::Option* option : app.get_options([](const CLI::Option*) { return true; })) {
    const bool is_axis = std::any_of(std::begin(kAxes), std::end(kAxes), [&](const Axis& axis) {
      return option->get_name() == axis.flag;
    });
    if (!is_axis) app.remove_option(option);
  }
  accept_lists(&app);
  try {
    app.parse(row);
  } catch (const CLI::ParseError& failure) {
    return invalid("--row \"{}\": {}", excerpt(row, 200), failure.what());
  }
  return combine(app, flags);
}

// The first row says every flag that differs anywhere and is more than an absence, the others what
// they have of their own.
void label(std::vector<Configuration>* rows) {
  const ModelFlags first = rows->front().flags;
  const auto add = [](const std::string& word, std::string* label) {
    *label += (label->empty() ? "" : ", ") + word;
  };
  std::string absences;
  for (const Axis& axis : kAxes) {
    const std::string usual = axis.get(first);
    bool varies = false;
    for (Configuration& row : *rows) {
      const std::string value = axis.get(row.flags);
      if (value == usual) continue;
      varies = true;
      add(axis.word(value), &row.label);
    }
    if (!varies) continue;
    add(axis.word(usual), usual == "none" ? &absences : &rows->front().label);
  }
  if (rows->front().label.empty()) rows->front().label = absences;
  for (Configuration& row : *rows) {
    if (row.label.empty()) row.label = "the same";
  }
}

}  // namespace

void add_configuration_flags(CLI::App* app, std::vector<std::string>* rows) {
  accept_lists(app);
  app->add_option("--row", *rows,
                  "One more configuration: the first one with these flags changed, as \"--layout "
                  "uniform --block-size 32\". May be repeated. With it, or with lists (every "
                  "combination of them), the result is a table, with differences to its first "
                  "row; a configuration that cannot run is a row that says why.")
      ->allow_extra_args(false);
}

Result<std::vector<Configuration>> list_configurations(const CLI::App& app, const ModelFlags& flags,
                                                       const std::vector<std::string>& rows) {
  std::vector<Configuration> list;
  for (ModelFlags& one : combine(app, flags)) list.push_back({.flags = std::move(one)});
  const ModelFlags base = list.front().flags;
  for (const std::string& row : rows) {
    TRY(std::vector<ModelFlags> more, read_row(row, base));
    for (ModelFlags& one : more) list.push_back({.flags = std::move(one)});
  }
  label(&list);
  return list;
}

Json describe(const ModelFlags& flags) {
  Json::Object object;
  for (const Axis& axis : kAxes) {
    std::string key = axis.flag + 2;
    std::replace(key.begin(), key.end(), '-', '_');
    object.emplace_back(std::move(key), axis.get(flags));
  }
  return object;
}

}  // namespace ashlar
