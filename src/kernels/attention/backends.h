#pragma once

// The attention backends: one table of what each body can do, best first, and the one rule that
// picks from it. What is printed, documented, refused and dispatched is this table; tests run every
// row of it on the machines they have.
//
// Pure host code over data: any machine can ask what another would choose.

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "kernels/isa.h"
#include "tensor/dtype.h"

namespace ashlar {

// A kind of machine: a CPU with an instruction set, or a GPU of a compute capability.
struct Device {
  enum class Kind : uint8_t { cpu, cuda };
  Kind kind = Kind::cpu;
  Isa isa = Isa::baseline;  // cpu
  int32_t sm = 0;           // cuda: 90 for compute capability 9.0
  bool operator==(const Device&) const = default;
};

std::string name(const Device& device);  // "cpu:avx512_bf16", "cuda:sm_90"

// "cpu" (this machine's best), "cpu:avx2" (any set, of this machine or not) or "cuda:sm_90".
Result<Device> parse_device(std::string_view text);

// heads: K and V of their own; latent: one row per token, which is K, and V in its first part.
enum class AttentionForm : uint8_t { heads, latent };
// decode: a few query tokens per sequence, kMaxDecodeTokens at most; prefill: any number.
enum class StepForm : uint8_t { decode, prefill };

const char* name(AttentionForm form);
const char* name(StepForm step);

// What a layer asks of a body.
struct AttentionNeed {
  AttentionForm form = AttentionForm::heads;
  StepForm step = StepForm::decode;
  int32_t heads = 1;
  int32_t kv_heads = 1;  // latent: 1
  int32_t k_dim = 0;
  int32_t v_dim = 0;  // latent: of k_dim
  int32_t window = 0;
  int32_t chunk = 0;
  bool sinks = false;
  bool softcap = false;
  bool causal = true;
  DType query = DType::bf16;  // what queries are rounded to; f32: nothing is rounded
  DType pages = DType::bf16;
  bool token_scales = false;  // FP8 pages with a scale for each token of a head
  int32_t page_tokens = 16;
  bool operator==(const AttentionNeed&) const = default;
};

std::string to_text(const AttentionNeed& need);

struct Widths {
  int32_t k = 0;
  int32_t v = 0;
};

// Sets of element types, as bits.
using DTypeSet = uint32_t;
constexpr DTypeSet one_of(std::initializer_list<DType> types) {
  DTypeSet set = 0;
  for (const DType type : types) set |= DTypeSet{1} << static_cast<int>(type);
  return set;
}
constexpr bool contains(DTypeSet set, DType type) {
  return (set >> static_cast<int>(type) & 1) != 0;
}

// What one block of a card may take of its multiprocessor's shared memory (CUDA C++ Programming
// Guide, "Technical specifications per compute capability").
constexpr int32_t shared_kib_of(int32_t sm) {
  if (sm == 86 || sm == 89 || sm >= 120) return 99;
  return sm >= 90 ? 227 : 163;
}

// One row: what a body takes. Every body of form `heads` takes windows, sinks and softcaps, and
// every body pages anywhere in the arena and sequences of any lengths.
struct AttentionBackend {
  const char* name = "";
  AttentionForm form = AttentionForm::heads;
  Device least;               // cpu: needs this set or a better one; cuda: this capability or later
  bool this_sm_only = false;  // cuda: instructions that later cards do not have
  bool decode = true;
  bool prefill = true;
  std::span<const Widths> widths = {};  // empty: any
  DTypeSet queries = 0;
  DTypeSet pages = 0;
  bool same_type = false;  // pages that are not FP8 must be of the query's type
  bool token_scales = false;
  bool bidirectional = true;
  int32_t min_group = 1;   // query heads per KV head
  int32_t max_group = 0;   // 0: any
  int32_t least_page = 1;  // tokens; beyond 1: powers of two from here on
  int32_t most_page = 0;   // 0: any
  int32_t shared_kib = 0;  // cuda: of a multiprocessor's memory, for one block
  const char* how = "";    // one line for people
};

std::span<const AttentionBackend> attention_backends();

// Why a row cannot serve, "" when it can.
std::string refusal(const AttentionBackend& row, const Device& device, const AttentionNeed& need);

struct PassedOver {
  const AttentionBackend* row;
  std::string why;
};

struct AttentionPick {
  const AttentionBackend* row = nullptr;
  std::vector<PassedOver> others;  // of the same form and kind of device, in the table's order
};

// The first row that can; with `named`, exactly that row. unsupported, with every row's reason,
// when none can; invalid when there is no row of that name.
Result<AttentionPick> pick_attention(const Device& device, const AttentionNeed& need,
                                     std::string_view named = "");

}  // namespace ashlar
