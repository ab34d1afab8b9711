#include "weights/load.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <unordered_set>

#include "base/checked.h"
#include "base/file.h"
#include "weights/blocks.h"
#include "weights/convert.h"
#include "weights/kv_scales.h"

namespace ashlar {
namespace {

constexpr int64_t kAlignment = 64;           // of every converted weight
constexpr int64_t kPieceElements = 1 << 20;  // one task
constexpr int64_t kPageBytes = 4096;
constexpr int64_t kPiecesBetweenReports = 64;

// One weight on its way from the file to its view.
struct Placement {
  const WeightRow* row = nullptr;
  const WeightSource* source = nullptr;
  const std::byte* tensor = nullptr;  // its first byte
  DType stored = DType::f32;
  ConstView* view = nullptr;
  int64_t elements = 0;
  int64_t offset = -1;          // in the converted buffer; -1: the view looks into the file
  std::byte* target = nullptr;  // where that is, once there is a buffer
  // Of codes that are multiplied out.
  const CheckpointTensor* scales = nullptr;
  ScaleGrid grid;

  const std::byte* at(int64_t i) const { return tensor + source->element(i) * size_of(stored); }
  // Elements from the i-th on that lie one after another in the file.
  int64_t contiguous(int64_t i) const {
    if (source->element_stride != 1) return 1;
    const int64_t run = source->run_elements;
    return run == 0 ? elements - i : run - i % run;
  }
};

// What is wrong between rows and checkpoint, kind by kind.
struct Differences {
  std::vector<std::string> missing, unexpected, mis_shaped, denied, unreadable;

  bool only_unreadable() const {
    return missing.empty() && unexpected.empty() && mis_shaped.empty() && denied.empty();
  }
  bool none() const { return only_unreadable() && unreadable.empty(); }
  Error report(const std::string& folder) const {
    std::string text = fmt::format("{}: the weights do not fit config.json:", folder);
    const auto add = [&](const char* kind, const std::vector<std::string>& names) {
      if (names.empty()) return;
      text += fmt::format("\n  {} {}: {}", names.size(), kind, list_names(names));
    };
    add("missing", missing);
    add("unexpected", unexpected);
    add("of another shape", mis_shaped);
    add("stored as F8_E4M3 where config.json says they are not", denied);
    add("of an unsupported type (float32, bfloat16 and float16 are supported)", unreadable);
    return Error{only_unreadable() ? Code::unsupported : Code::invalid, std::move(text)};
  }
};

// Finds each row's tensor and decides how it reaches its view.
class Matching {
 public:
  Matching(const Checkpoint& checkpoint, const ModelSpec& model, std::optional<DType> matrix_dtype)
      : checkpoint_(checkpoint), model_(model), matrix_dtype_(matrix_dtype) {}

  // First of all: in how many chunks this checkpoint's fused tensors are.
  Status find_chunks(const WeightTree<WeightRow>& rows) {
    std::vector<FusedTensor> fused;
    WeightTree<char> ignored;
    zip_weights(rows, &ignored, [&](const WeightRow& row, char&) {
      for (const WeightSource& source : row.sources) {
        const CheckpointTensor* tensor = source.most_chunks > 0 ? find(source.tensor) : nullptr;
        if (tensor == nullptr || !has_shape(*tensor, source.tensor_shape)) continue;
        const CheckpointTensor* scales = find(source.tensor + kScaleSuffix);
        // Codes without scales are refused in match().
        if (scales == nullptr && tensor->entry->type->dtype == DType::f8e4m3) continue;
        fused.push_back({tensor->entry->name, tensor->entry->dims,
                         scales ? scales->entry->dims : std::vector<int64_t>(),
                         source.most_chunks});
      }
    });
    TRY(chunks_, detect_chunks(fused));
    return {};
  }

  // `view` must stay where it is until the placements are filled.
  void match(const WeightRow& row, Matrix* view) {
    if (row.sources.empty()) return;
    for (const WeightSource& source : row.sources) {
      const CheckpointTensor* tensor = find(source.tensor);
      if (tensor == nullptr) continue;
      used_.insert(tensor);
      if (!source.scales.empty()) return match_codes(row, source, *tensor, view);
      if (!fits(row, source, *tensor)) return;
      const WeightSource& as_stored =
          made_.emplace_back(in_chunks(source, row.shape.elements(), chunks_));
      if (tensor->entry->type->dtype == DType::f8e4m3)
        return place_codes(row, as_stored, *tensor, view);
      return place(row, as_stored, *tensor, view);
    }
    if (row.optional) return;
    std::string names = row.sources[0].tensor;
    for (size_t i = 1; i < row.sources.size(); ++i) names += " or " + row.sources[i].tensor;
    differences_.missing.push_back(std::move(names));
  }

  // After every row: the tensors that no row took.
  void find_unexpected() {
    const auto ours = [&](const std::string& name) {
      for (const auto& [theirs, own] : model_.renamed_prefixes) {
        if (name.starts_with(theirs)) return own + name.substr(theirs.size());
      }
      return name;
    };
    const auto rule_of = [&](const std::string& name) -> std::string {
      if (model_.tied_head && ours(name) == "lm_head.weight") return "lm_head.weight";
      if (is_kv_scale(name)) return "cache scales";
      for (const std::string& prefix : model_.ignored_prefixes) {
        if (name.starts_with(prefix) || ours(name).starts_with(prefix)) return prefix;
      }
      for (const std::string& suffix : model_.ignored_suffixes) {
        if (name.ends_with(suffix)) return suffix;
      }
      return {};
    };
    for (const CheckpointTensor& tensor : checkpoint_.tensors()) {
      if (used_.contains(&tensor)) continue;
      const std::string rule = rule_of(tensor.entry->name);
      if (rule.empty()) {
        differences_.unexpected.push_back(tensor.entry->name);
      } else {
        skip(tensor, rule);
      }
    }
  }

  const Differences& differences() const { return differences_; }
  const SkippedTensors& skipped() const { return skipped_; }
  std::vector<Placement>& placements() { return placements_; }
  int64_t owned_bytes() const { return owned_bytes_; }
  int64_t mapped_bytes() const { return mapped_bytes_; }

 private:
  // By our name, or by what the checkpoint calls it.
  const CheckpointTensor* find(const std::string& name) const {
    if (const CheckpointTensor* tensor = checkpoint_.find(name)) return tensor;
    for (const auto& [theirs, ours] : model_.renamed_prefixes) {
      if (!name.starts_with(ours)) continue;
      if (const auto* tensor = checkpoint_.find(theirs + name.substr(ours.size()))) return tensor;
    }
    return nullptr;
  }

  void skip(const CheckpointTensor& tensor, const std::string& rule) {
    ++skipped_.n;
    skipped_.bytes += static_cast<int64_t>(tensor.entry->end - tensor.entry->begin);
    auto& rules = skipped_.rules;
    if (std::find(rules.begin(), rules.end(), rule) == rules.end()) rules.push_back(rule);
  }

  static bool has_shape(const CheckpointTensor& tensor, const Shape& shape) {
    const auto& dims = tensor.entry->dims;
    const auto asked = std::span(shape.dims).first(static_cast<size_t>(shape.rank));
    return std::equal(dims.begin(), dims.end(), asked.begin(), asked.end());
  }

  // A stacked tensor is asked for by many rows; its fault is told once. False, for short.
  bool tell(std::vector<std::string>* kind, const CheckpointTensor& tensor, std::string fault) {
    if (told_.insert(&tensor).second) kind->push_back(std::move(fault));
    return false;
  }

  bool shape_fits(const Shape& shape, const CheckpointTensor& tensor) {
    if (has_shape(tensor, shape)) return true;
    const TensorEntry& entry = *tensor.entry;
    return tell(&differences_.mis_shaped, tensor,
                fmt::format("{}: checkpoint has {}, config asks for {}", entry.name,
                            shape_text(entry.dims), shape.text()));
  }

  bool type_fits(const CheckpointTensor& tensor, bool supported) {
    const TensorEntry& entry = *tensor.entry;
    return supported || tell(&differences_.unreadable, tensor,
                             fmt::format("{} is stored as {}", entry.name, entry.type->name));
  }

  bool fits(const WeightRow& row, const WeightSource& source, const CheckpointTensor& tensor) {
    if (!shape_fits(source.tensor_shape, tensor)) return false;
    const auto& type = tensor.entry->type->dtype;
    if (type == DType::f8e4m3 && row.form == WeightForm::matrix) return codes_fit(source, tensor);
    return type_fits(tensor, type && is_float(*type));
  }

  // A tensor of codes needs its scales, and a config that knows of them.
  bool codes_fit(const WeightSource& source, const CheckpointTensor& tensor) {
    const std::string& name = tensor.entry->name;
    const CheckpointTensor* scales = find(source.tensor + kScaleSuffix);
    if (scales == nullptr) {
      return tell(&differences_.missing, tensor, name + kScaleSuffix);
    }
    used_.insert(scales);
    if (model_.quantization.method.empty() || is_exempt(name) || is_exempt(source.tensor)) {
      return tell(&differences_.denied, tensor, name);
    }
    const std::vector<int64_t> asked = scale_dims(source, chunks_);
    if (scales->entry->dims != asked) {
      return tell(&differences_.mis_shaped, *scales,
                  fmt::format("{}: checkpoint has {}, {} {} asks for {}", scales->entry->name,
                              shape_text(scales->entry->dims), name, shape_text(tensor.entry->dims),
                              shape_text(asked)));
    }
    const auto type = scales->entry->type->dtype;
    if (type != DType::f32 && type != DType::bf16) {
      return tell(
          &differences_.unreadable, *scales,
          fmt::format("{} is stored as {}", scales->entry->name, scales->entry->type->name));
    }
    return true;
  }

  // Modules are named without ".weight".
  bool is_exempt(std::string_view name) const {
    constexpr std::string_view kWeight = ".weight";
    if (name.ends_with(kWeight)) name.remove_suffix(kWeight.size());
    const auto& exempt = model_.quantization.exempt;
    return std::find(exempt.begin(), exempt.end(), name) != exempt.end();
  }

  // Of codes of four bits or their scales.
  bool bytes_fit(const Shape& shape, const CheckpointTensor& tensor) {
    return shape_fits(shape, tensor) && type_fits(tensor, tensor.entry->type->dtype == DType::u8);
  }

  // Codes and scales are looked at where they lie.
  void match_codes(const WeightRow& row, const WeightSource& source, const CheckpointTensor& tensor,
                   Matrix* view) {
    const Shape& shape = source.tensor_shape;
    const CheckpointTensor* scales = find(source.scales);
    if (scales == nullptr) return differences_.missing.push_back(source.scales);
    used_.insert(scales);
    const bool both = bytes_fit(shape, tensor);
    if (!bytes_fit({shape[0], shape[1], shape[2]}, *scales) || !both) return;
    const int64_t n = row.shape[0], width = row.shape[1], bytes = shape[3];  // bytes: of a group
    ConstView codes(tensor.data + source.first_element, DType::u8, {n, width / 2});
    codes.strides[0] = source.run_stride;
    ConstView of_codes(scales->data + source.first_element / bytes, DType::u8,
                       {n, width / kScaleGroup});
    of_codes.strides[0] = source.run_stride / bytes;
    *view = Matrix(codes, of_codes);
    mapped_bytes_ += view->bytes();
    placements_.push_back({.row = &row,
                           .source = &source,
                           .tensor = tensor.data,
                           .stored = DType::u8,
                           .view = view,
                           .elements = codes.shape.elements()});
  }

  void place(const WeightRow& row, const WeightSource& source, const CheckpointTensor& tensor,
             ConstView* view) {
    const DType stored = *tensor.entry->type->dtype;
    const DType wanted = row.form == WeightForm::vector  ? DType::f32
                         : row.form == WeightForm::exact ? stored
                                                         : matrix_dtype_.value_or(stored);
    const auto address = reinterpret_cast<uintptr_t>(tensor.data);
    const bool aligned = address % static_cast<size_t>(size_of(stored)) == 0;
    const bool as_stored = wanted == stored && aligned && source.run_elements == 0;
    add(row, source, tensor, view, ConstView(nullptr, wanted, row.shape),
        row.form == WeightForm::vector || !as_stored);
  }

  // Codes are looked at where they lie, if they can be; their scales always become floats of ours.
  void place_codes(const WeightRow& row, const WeightSource& source, const CheckpointTensor& tensor,
                   Matrix* view) {
    const CheckpointTensor& scales = *find(source.tensor + kScaleSuffix);
    const ScaleGrid grid = grid_of(source, chunks_);
    const RowParts parts = row_parts(source, row.shape[0]);
    const CodeUse use = code_use(parts, grid);
    if (use == CodeUse::decode) {
      const DType wanted = matrix_dtype_.value_or(DType::bf16);
      Placement& codes =
          add(row, source, tensor, view, ConstView(nullptr, wanted, row.shape), /*own=*/true);
      codes.scales = &scales;
      codes.grid = grid;
      return;
    }
    const bool chunked = use == CodeUse::view && parts.n > 1;
    const Shape shape = chunked ? Shape{parts.n, parts.rows, grid.columns} : row.shape;
    add(row, source, tensor, view, ConstView(nullptr, DType::f8e4m3, shape),
        use == CodeUse::gather);
    if (chunked) view->strides[0] = source.run_stride;
    view->first_row = parts.first % grid.height % kScaleBlock;
    const int64_t blocks = ceil_div(view->first_row + parts.rows, kScaleBlock);
    const int64_t columns = grid.block_columns();
    WeightSource& of_scales = made_.emplace_back();
    of_scales = {.tensor = scales.entry->name,
                 .first_element = grid.row(parts.first) * columns,
                 .run_elements = blocks * columns,
                 .run_stride = grid.row(parts.stride) * columns};
    const Shape scale_shape =
        chunked ? Shape{parts.n, blocks, columns} : Shape{parts.n * blocks, columns};
    add(scale_row_, of_scales, scales, &view->scales, ConstView(nullptr, DType::f32, scale_shape),
        /*own=*/true);
  }

  // A placement whose view will be `shape`, in the file or in memory of our own.
  Placement& add(const WeightRow& row, const WeightSource& source, const CheckpointTensor& tensor,
                 ConstView* view, const ConstView& shape, bool own) {
    const DType stored = *tensor.entry->type->dtype;
    Placement& placement = placements_.emplace_back(Placement{.row = &row,
                                                              .source = &source,
                                                              .tensor = tensor.data,
                                                              .stored = stored,
                                                              .view = view,
                                                              .elements = shape.shape.elements()});
    const auto bytes = static_cast<int64_t>(tensor.entry->end - tensor.entry->begin);
    CHECK((source.element(placement.elements - 1) + 1) * size_of(stored) <= bytes,
          "row of {} takes {} elements from {} of {} bytes", source.tensor, placement.elements,
          source.first_element, bytes);
    *view = shape;
    view->data = placement.at(0);
    if (own) {
      placement.offset = owned_bytes_;
      owned_bytes_ += round_up(view->bytes(), kAlignment);
    } else {
      mapped_bytes_ += view->bytes();
    }
    return placement;
  }

  const Checkpoint& checkpoint_;
  const ModelSpec& model_;
  const std::optional<DType> matrix_dtype_;
  Differences differences_;
  const WeightRow scale_row_ = {.form = WeightForm::vector};
  int64_t chunks_ = 1;             // of every fused tensor
  std::deque<WeightSource> made_;  // what placements point to; a deque's elements stay put
  SkippedTensors skipped_;
  std::vector<Placement> placements_;
  std::unordered_set<const CheckpointTensor*> used_, told_;
  int64_t owned_bytes_ = 0;
  int64_t mapped_bytes_ = 0;
};

// Elements [begin, end) of a placement: the unit of work and of progress.
struct Piece {
  const Placement* placement = nullptr;
  int64_t begin = 0;
  int64_t end = 0;
  int64_t bad_element = -1;  // written by the one task that runs it
  int64_t source_bytes() const { return (end - begin) * size_of(placement->stored); }
};

std::vector<Piece> cut(const std::vector<Placement>& placements, bool touch_pages) {
  std::vector<Piece> pieces;
  for (const Placement& placement : placements) {
    if (placement.target == nullptr && !touch_pages) continue;
    for (int64_t begin = 0; begin < placement.elements; begin += kPieceElements) {
      pieces.push_back({&placement, begin, std::min(begin + kPieceElements, placement.elements)});
    }
  }
  return pieces;
}

void touch(const std::byte* bytes, int64_t n) {
  for (int64_t i = 0; i < n; i += kPageBytes) {
    [[maybe_unused]] const std::byte read = *static_cast<const volatile std::byte*>(bytes + i);
  }
}

// Elements [begin, begin + n) of a placement of codes, multiplied out; answers as convert_elements.
int64_t decode(const Placement& p, int64_t begin, int64_t n, std::byte* target) {
  const DType scale_type = *p.scales->entry->type->dtype;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t at = p.source->element(begin + i);
    const int64_t row = at / p.grid.columns, column = at % p.grid.columns;
    const int64_t scale = p.grid.row(row) * p.grid.block_columns() + column / kScaleBlock;
    const float value = to_float(F8E4M3{std::to_integer<uint8_t>(p.tensor[at])}) *
                        element(p.scales->data, scale_type, scale);
    const int64_t bad = convert_elements(reinterpret_cast<const std::byte*>(&value), DType::f32,
                                         target + i * size_of(p.view->dtype), p.view->dtype, 1);
    if (bad >= 0 || !std::isfinite(value)) return i;
  }
  return -1;
}

// Elements [begin, begin + n), which lie one after another in the file; answers which of them,
// counted from begin, is not what it must be, or -1.
int64_t convert(const Placement& p, int64_t begin, int64_t n) {
  std::byte* target = p.target + begin * size_of(p.view->dtype);
  if (p.scales != nullptr) return decode(p, begin, n, target);
  if (p.row->form != WeightForm::vector) {
    return convert_elements(p.at(begin), p.stored, target, p.view->dtype, n);
  }
  convert_elements(p.at(begin), p.stored, target, p.view->dtype, n);
  const std::span values(reinterpret_cast<float*>(target), static_cast<size_t>(n));
  const int64_t bad = find_not_finite(values.data(), n);
  if (p.row->add != 0) {
    for (float& value : values) value += p.row->add;
  }
  return bad;
}

void run(Piece* piece) {
  const Placement& p = *piece->placement;
  for (int64_t i = piece->begin; i < piece->end && piece->bad_element < 0;) {
    const int64_t n = std::min(piece->end - i, p.contiguous(i));
    const int64_t bytes = n * size_of(p.stored);
    if (p.target == nullptr) {
      touch(p.at(i), bytes);
    } else {
      const int64_t bad = convert(p, i, n);
      if (bad >= 0) piece->bad_element = i + bad;
      // The copy is what is used from now on.
      if (bytes >= kPageBytes) drop_pages({p.at(i), static_cast<size_t>(bytes)});
    }
    i += n;
  }
}

Error bad_element(const Piece& piece) {
  const Placement& p = *piece.placement;
  const std::string tensor = excerpt(p.source->tensor, 200);
  if (p.scales != nullptr) {
    return invalid("{}: code {} times its scale is no number that {} can hold", tensor,
                   piece.bad_element, name(p.view->dtype));
  }
  const float value = element(p.at(piece.bad_element), p.stored, 0);
  if (p.row->form == WeightForm::vector) {
    return invalid("{}: element {} is {}: this tensor must hold finite numbers", tensor,
                   piece.bad_element, value);
  }
  return invalid("{}: element {} is {}, which {} cannot hold: load as bfloat16 or float32", tensor,
                 piece.bad_element, value, name(p.view->dtype));
}

Status fill(const std::vector<Placement>& placements, const LoadOptions& options) {
  std::vector<Piece> pieces = cut(placements, options.touch_pages);
  int64_t done = 0, total = 0;
  for (const Piece& piece : pieces) total += piece.source_bytes();
  Pool alone(1);
  Pool& pool = options.pool != nullptr ? *options.pool : alone;
  const auto n = static_cast<int64_t>(pieces.size());
  for (int64_t first = 0; first < n; first += kPiecesBetweenReports) {
    const int64_t count = std::min(kPiecesBetweenReports, n - first);
    const std::span<Piece> batch =
        std::span(pieces).subspan(static_cast<size_t>(first), static_cast<size_t>(count));
    pool.each(count, [&](int64_t task, int) { run(&batch[static_cast<size_t>(task)]); });
    for (const Piece& piece : batch) {
      if (piece.bad_element >= 0) return bad_element(piece);
      done += piece.source_bytes();
    }
    if (options.progress) options.progress(done, total);
  }
  if (n == 0 && options.progress) options.progress(0, 0);
  return {};
}

// One kernel runs all experts of a layer.
Status check_experts(const std::string& folder, const WeightTree<Matrix>& views) {
  for (size_t i = 0; i < views.layers.size(); ++i) {
    const auto& experts = views.layers[i].moe.experts;
    for (size_t e = 0; e < experts.size(); ++e) {
      for (const Matrix* matrix : {&experts[e].gate, &experts[e].up, &experts[e].down}) {
        const DType first = experts.front().gate.dtype;
        if (matrix->dtype == first) continue;
        return unsupported(
            "{}: layer {}: a matrix of expert {} is {}, but expert 0's gate is {}: experts of one "
            "layer must be stored alike",
            folder, i, e, name(matrix->dtype), name(first));
      }
    }
  }
  return {};
}

}  // namespace

Result<LoadedWeights> load_weights(const std::string& folder, const ModelSpec& model,
                                   const WeightTree<WeightRow>& rows, const LoadOptions& options) {
  if (!model.quantization.refusal.empty()) {
    return unsupported("{}: quantised weights that cannot be loaded: {}", folder,
                       model.quantization.refusal);
  }
  if (options.matrix_dtype && !is_float(*options.matrix_dtype)) {
    return unsupported("weights as {}: supported are float32, bfloat16, float16",
                       name(*options.matrix_dtype));
  }
  LoadedWeights loaded;
  TRY(loaded.checkpoint, Checkpoint::open(folder));
  Matching matching(loaded.checkpoint, model, options.matrix_dtype);
  const Status found = matching.find_chunks(rows);
  if (!found) return Error{found.error().code, folder + ": " + found.error().text};
  zip_weights(rows, &loaded.views,
              [&](const WeightRow& row, Matrix& view) { matching.match(row, &view); });
  matching.find_unexpected();
  if (!matching.differences().none()) return matching.differences().report(folder);
  TRY_STATUS(check_experts(folder, loaded.views));
  loaded.skipped = matching.skipped();
  loaded.owned_bytes = matching.owned_bytes();
  loaded.mapped_bytes = matching.mapped_bytes();
  TRY(loaded.converted,
      Buffer::host(static_cast<size_t>(loaded.owned_bytes), "weights that are converted"));
  for (Placement& placement : matching.placements()) {
    if (placement.offset < 0) continue;
    placement.target = loaded.converted.data() + placement.offset;
    placement.view->data = placement.target;
  }
  TRY_STATUS(fill(matching.placements(), options));
  return loaded;
}

}  // namespace ashlar
