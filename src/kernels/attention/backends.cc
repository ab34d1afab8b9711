#include "kernels/attention/backends.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <charconv>

#include "base/text.h"

namespace ashlar {
namespace {

std::string list(DTypeSet set) {
  std::vector<std::string_view> names;
  for (int i = 0; i < 32; ++i) {
    if ((set >> i & 1) != 0) names.push_back(name(static_cast<DType>(i)));
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

std::string list(std::span<const Widths> widths) {
  std::vector<std::string> texts;
  for (const Widths& w : widths) texts.push_back(fmt::format("{}/{}", w.k, w.v));
  return fmt::format("{}", fmt::join(texts, ", "));
}

std::string wrong_device(const AttentionBackend& row, const Device& device) {
  if (row.least.kind == Device::Kind::cpu) {
    if (device.isa >= row.least.isa) return "";
    return fmt::format("needs {}, the machine has {}", name(row.least.isa), name(device.isa));
  }
  if (row.this_sm_only && device.sm != row.least.sm)
    return fmt::format("is for sm_{} alone, the card is sm_{}", row.least.sm, device.sm);
  if (device.sm < row.least.sm)
    return fmt::format("needs sm_{}, the card is sm_{}", row.least.sm, device.sm);
  if (row.shared_kib > shared_kib_of(device.sm))
    return fmt::format("needs {} KiB of shared memory, a block of sm_{} has {}", row.shared_kib,
                       device.sm, shared_kib_of(device.sm));
  return "";
}

std::string wrong_types(const AttentionBackend& row, const AttentionNeed& need) {
  if (!contains(row.queries, need.query))
    return fmt::format("queries of {}: takes {}", name(need.query), list(row.queries));
  if (!contains(row.pages, need.pages))
    return fmt::format("pages of {}: takes {}", name(need.pages), list(row.pages));
  if (row.same_type && !is_f8(need.pages) && need.pages != need.query)
    return fmt::format("pages of {} under queries of {}: takes equal types, or FP8 pages",
                       name(need.pages), name(need.query));
  if (need.token_scales && !row.token_scales) return "takes no scales of each token";
  return "";
}

std::string wrong_shape(const AttentionBackend& row, const AttentionNeed& need) {
  if (!(need.step == StepForm::decode ? row.decode : row.prefill))
    return fmt::format("is not for {}", name(need.step));
  const int32_t group = need.heads / std::max(need.kv_heads, 1);
  if (group < row.min_group)
    return fmt::format("{} query heads over one: is for {} or more", group, row.min_group);
  if (row.max_group > 0 && group > row.max_group)
    return fmt::format("{} query heads over one: takes up to {}", group, row.max_group);
  const auto fits = [&](const Widths& w) { return w.k == need.k_dim && w.v == need.v_dim; };
  if (!row.widths.empty() && std::none_of(row.widths.begin(), row.widths.end(), fits))
    return fmt::format("widths {}/{}: takes {}", need.k_dim, need.v_dim, list(row.widths));
  if (need.chunk > 0)
    return fmt::format("chunks of {} tokens: no body stops at chunks", need.chunk);
  if (!need.causal && !row.bidirectional) return "takes causal rows only";
  const bool power = std::has_single_bit(static_cast<uint32_t>(need.page_tokens));
  if (row.least_page > 1 && (need.page_tokens < row.least_page || !power))
    return fmt::format("pages of {} tokens: takes powers of two from {} on", need.page_tokens,
                       row.least_page);
  if (row.most_page > 0 && need.page_tokens > row.most_page)
    return fmt::format("pages of {} tokens: takes up to {}", need.page_tokens, row.most_page);
  return "";
}

bool competes(const AttentionBackend& row, const Device& device, const AttentionNeed& need) {
  return row.form == need.form && row.least.kind == device.kind;
}

Error no_such_row(const Device& device, const AttentionNeed& need, std::string_view named) {
  std::vector<std::string_view> known;
  for (const AttentionBackend& row : attention_backends())
    if (competes(row, device, need)) known.push_back(row.name);
  return invalid("\"{}\" is no backend of {} attention on {}: known are {}", excerpt(named),
                 name(need.form), name(device), fmt::join(known, ", "));
}

}  // namespace

const char* name(AttentionForm form) { return form == AttentionForm::heads ? "heads" : "latent"; }

const char* name(StepForm step) { return step == StepForm::decode ? "decode" : "prefill"; }

std::string name(const Device& device) {
  return device.kind == Device::Kind::cpu ? fmt::format("cpu:{}", name(device.isa))
                                          : fmt::format("cuda:sm_{}", device.sm);
}

Result<Device> parse_device(std::string_view text) {
  constexpr std::string_view kCpu = "cpu:", kCuda = "cuda:sm_";
  if (text == "cpu") return Device{.isa = best_isa()};
  if (text.starts_with(kCpu)) {
    for (const Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512, Isa::avx512_bf16})
      if (text.substr(kCpu.size()) == name(isa)) return Device{.isa = isa};
  }
  if (text.starts_with(kCuda)) {
    const std::string_view digits = text.substr(kCuda.size());
    int32_t sm = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), sm);
    if (error == std::errc() && end == digits.data() + digits.size() && sm >= 10 && sm < 1000)
      return Device{.kind = Device::Kind::cuda, .sm = sm};
  }
  return invalid(
      "\"{}\": expected cpu, cpu:baseline, cpu:avx2, cpu:avx512, cpu:avx512_bf16, or a card such "
      "as cuda:sm_90",
      excerpt(text));
}

std::string to_text(const AttentionNeed& need) {
  std::string text =
      fmt::format("{} {}, {} heads over {}, widths {}/{}", name(need.form), name(need.step),
                  need.heads, need.kv_heads, need.k_dim, need.v_dim);
  if (need.window > 0) text += fmt::format(", window {}", need.window);
  if (need.chunk > 0) text += fmt::format(", chunks of {}", need.chunk);
  if (need.sinks) text += ", sinks";
  if (need.softcap) text += ", softcap";
  if (!need.causal) text += ", not causal";
  text += fmt::format(", {} queries, {} pages of {}", name(need.query), name(need.pages),
                      need.page_tokens);
  return need.token_scales ? text + " with token scales" : text;
}

std::string refusal(const AttentionBackend& row, const Device& device, const AttentionNeed& need) {
  if (row.form != need.form) return fmt::format("is for {} attention", name(row.form));
  if (row.least.kind != device.kind) return fmt::format("is no body of {}", name(device));
  for (std::string why :
       {wrong_device(row, device), wrong_types(row, need), wrong_shape(row, need)})
    if (!why.empty()) return why;
  return "";
}

Result<AttentionPick> pick_attention(const Device& device, const AttentionNeed& need,
                                     std::string_view named) {
  AttentionPick pick;
  bool known = named.empty();
  for (const AttentionBackend& row : attention_backends()) {
    if (!competes(row, device, need)) continue;
    std::string why = refusal(row, device, need);
    if (!named.empty() && named != row.name) {
      pick.others.push_back({&row, why.empty() ? fmt::format("{} is asked for", named) : why});
      continue;
    }
    known = true;
    if (why.empty() && pick.row == nullptr) {
      pick.row = &row;
    } else {
      pick.others.push_back(
          {&row, why.empty() ? fmt::format("{} comes first", pick.row->name) : why});
    }
  }
  if (!known) return no_such_row(device, need, named);
  if (pick.row != nullptr) return pick;
  std::string text = fmt::format("{}: no {}attention backend of {} serves it", to_text(need),
                                 named.empty() ? "" : fmt::format("\"{}\" ", named), name(device));
  for (const PassedOver& other : pick.others)
    if (named.empty() || named == other.row->name)
      text += fmt::format("; {} {}", other.row->name, other.why);
  return Error{Code::unsupported, text};
}

}  // namespace ashlar
