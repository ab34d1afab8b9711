#include "weights/load.h"

#include <algorithm>
#include <unordered_set>

#include "base/checked.h"
#include "weights/convert.h"

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

  const std::byte* at(int64_t i) const { return tensor + source->element(i) * size_of(stored); }
  // Elements from the i-th on that lie one after another in the file.
  int64_t contiguous(int64_t i) const {
    const int64_t run = source->run_elements;
    return run == 0 ? elements - i : run - i % run;
  }
};

// What is wrong between rows and checkpoint, kind by kind.
struct Differences {
  std::vector<std::string> missing, unexpected, mis_shaped, unreadable;

  bool none() const {
    return missing.empty() && unexpected.empty() && mis_shaped.empty() && unreadable.empty();
  }
  Error report(const std::string& folder) const {
    std::string text = fmt::format("{}: the weights do not fit config.json:", folder);
    const auto add = [&](const char* kind, const std::vector<std::string>& names) {
      if (names.empty()) return;
      text += fmt::format("\n  {} {}: {}", names.size(), kind, list_names(names));
    };
    add("missing", missing);
    add("unexpected", unexpected);
    add("of another shape", mis_shaped);
    add("of an unsupported type (float32, bfloat16 and float16 are supported)", unreadable);
    const bool only_types = missing.empty() && unexpected.empty() && mis_shaped.empty();
    return Error{only_types ? Code::unsupported : Code::invalid, std::move(text)};
  }
};

// Finds each row's tensor and decides how it reaches its view.
class Matching {
 public:
  Matching(const Checkpoint& checkpoint, const ModelSpec& model, std::optional<DType> matrix_dtype)
      : checkpoint_(checkpoint), model_(model), matrix_dtype_(matrix_dtype) {}

  // `view` must stay where it is until the placements are filled.
  void match(const WeightRow& row, ConstView* view) {
    if (row.sources.empty()) return;
    for (const WeightSource& source : row.sources) {
      if (const CheckpointTensor* tensor = find(source.tensor)) {
        used_.insert(tensor);
        if (fits(source, *tensor)) place(row, source, *tensor, view);
        return;
      }
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
    const auto is_ignored = [&](const std::string& name) {
      return (model_.tied_head && ours(name) == "lm_head.weight") ||
             std::any_of(model_.ignored_prefixes.begin(), model_.ignored_prefixes.end(),
                         [&](const std::string& prefix) {
                           return name.starts_with(prefix) || ours(name).starts_with(prefix);
                         }) ||
             std::any_of(model_.ignored_suffixes.begin(), model_.ignored_suffixes.end(),
                         [&](const std::string& suffix) { return name.ends_with(suffix); });
    };
    for (const CheckpointTensor& tensor : checkpoint_.tensors()) {
      if (!used_.contains(&tensor) && !is_ignored(tensor.entry->name)) {
        differences_.unexpected.push_back(tensor.entry->name);
      }
    }
  }

  const Differences& differences() const { return differences_; }
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

  // A stacked tensor is asked for by many rows; its fault is told once.
  bool fits(const WeightSource& source, const CheckpointTensor& tensor) {
    const TensorEntry& entry = *tensor.entry;
    const auto asked =
        std::span(source.tensor_shape.dims).first(static_cast<size_t>(source.tensor_shape.rank));
    if (!std::equal(entry.dims.begin(), entry.dims.end(), asked.begin(), asked.end())) {
      if (told_.insert(&tensor).second) {
        differences_.mis_shaped.push_back(fmt::format("{}: checkpoint has {}, config asks for {}",
                                                      entry.name, shape_text(entry.dims),
                                                      source.tensor_shape.text()));
      }
      return false;
    }
    if (!entry.type->dtype || !is_float(*entry.type->dtype)) {
      if (told_.insert(&tensor).second) {
        differences_.unreadable.push_back(
            fmt::format("{} is stored as {}", entry.name, entry.type->name));
      }
      return false;
    }
    return true;
  }

  void place(const WeightRow& row, const WeightSource& source, const CheckpointTensor& tensor,
             ConstView* view) {
    const DType stored = *tensor.entry->type->dtype;
    Placement placement{.row = &row,
                        .source = &source,
                        .tensor = tensor.data,
                        .stored = stored,
                        .view = view,
                        .elements = row.shape.elements()};
    CHECK(source.element(placement.elements - 1) < source.tensor_shape.elements(),
          "row of {} takes {} elements from {} of {}", source.tensor, placement.elements,
          source.first_element, source.tensor_shape.text());
    const DType wanted = row.form == WeightForm::vector   ? DType::f32
                         : row.form == WeightForm::matrix ? matrix_dtype_.value_or(stored)
                                                          : stored;
    const std::byte* first = placement.at(0);
    *view = ConstView(first, wanted, row.shape);
    const bool aligned =
        reinterpret_cast<uintptr_t>(first) % static_cast<size_t>(size_of(stored)) == 0;
    const bool as_stored = wanted == stored && aligned && source.run_elements == 0;
    if (row.form == WeightForm::vector || !as_stored) {
      placement.offset = owned_bytes_;
      owned_bytes_ += round_up(view->bytes(), kAlignment);
    } else {
      mapped_bytes_ += view->bytes();
    }
    placements_.push_back(placement);
  }

  const Checkpoint& checkpoint_;
  const ModelSpec& model_;
  const std::optional<DType> matrix_dtype_;
  Differences differences_;
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

void run(Piece* piece) {
  const Placement& p = *piece->placement;
  if (p.target == nullptr) return touch(p.at(piece->begin), piece->source_bytes());
  for (int64_t i = piece->begin; i < piece->end && piece->bad_element < 0;) {
    const int64_t n = std::min(piece->end - i, p.contiguous(i));
    std::byte* target = p.target + i * size_of(p.view->dtype);
    int64_t bad = convert_elements(p.at(i), p.stored, target, p.view->dtype, n);
    if (p.row->form == WeightForm::vector) {
      const std::span values(reinterpret_cast<float*>(target), static_cast<size_t>(n));
      bad = find_not_finite(values.data(), n);
      if (p.row->add != 0) {
        for (float& value : values) value += p.row->add;
      }
    }
    if (bad >= 0) piece->bad_element = i + bad;
    i += n;
  }
}

Error bad_element(const Piece& piece) {
  const Placement& p = *piece.placement;
  const float value = element(p.at(piece.bad_element), p.stored, 0);
  const std::string tensor = excerpt(p.source->tensor, 200);
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

}  // namespace

Result<LoadedWeights> load_weights(const std::string& folder, const ModelSpec& model,
                                   const WeightTree<WeightRow>& rows, const LoadOptions& options) {
  if (!model.quantization.empty()) {
    return unsupported("{}: quantised weights ({}): only bfloat16, float16 and float32 are loaded",
                       folder, excerpt(model.quantization));
  }
  if (options.matrix_dtype && !is_float(*options.matrix_dtype)) {
    return unsupported("weights as {}: supported are float32, bfloat16, float16",
                       name(*options.matrix_dtype));
  }
  LoadedWeights loaded;
  TRY(loaded.checkpoint, Checkpoint::open(folder));
  Matching matching(loaded.checkpoint, model, options.matrix_dtype);
  zip_weights(rows, &loaded.views,
              [&](const WeightRow& row, Matrix& view) { matching.match(row, &view); });
  matching.find_unexpected();
  if (!matching.differences().none()) return matching.differences().report(folder);
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
