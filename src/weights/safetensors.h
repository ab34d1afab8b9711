#pragma once

// One safetensors file: an 8-byte little-endian header length, a JSON header that maps each
// tensor's name to its dtype, shape and data_offsets, then the data. Everything in the header is a
// claim by a stranger: it is checked here, in full and before any use, so that what stands in a
// TensorEntry can be relied on.
//
// The rules are those of the format's reference reader: the header is at most 100 MB and begins
// with
// '{', offsets run from the end of the header, tensors neither overlap nor leave holes, the last
// one ends where the file ends. Beyond it, a name that appears twice is refused.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "tensor/dtype.h"

namespace ashlar {

// An element type as files spell it. Types we compute with have a DType; the rest can be stepped
// over, and named when someone asks for them.
struct StoredType {
  const char* name;  // "BF16"
  int32_t bits;
  std::optional<DType> dtype;
};

struct TensorEntry {
  std::string name;
  const StoredType* type = nullptr;  // a row of a constant table
  std::vector<int64_t> dims;         // each >= 0; no limit on their number
  uint64_t begin = 0;                // bytes [begin, end) of the file; not necessarily aligned
  uint64_t end = 0;
};

// "[4096, 1024]"
std::string shape_text(std::span<const int64_t> dims);

// The tensors of a whole file in the order of their data. Pure; `path` names the file in errors,
// which also name the tensor, the value and the limit.
Result<std::vector<TensorEntry>> parse_safetensors(std::span<const std::byte> file,
                                                   const std::string& path);

// A mapped file and its tensors. Move-only; pointers into it stay valid when it is moved.
class TensorFile {
 public:
  static Result<TensorFile> open(const std::string& path);

  const std::string& path() const { return path_; }
  const std::vector<TensorEntry>& entries() const { return entries_; }
  // REQUIRES an entry of this file.
  const std::byte* data(const TensorEntry& entry) const {
    return mapped_.bytes().data() + entry.begin;
  }

 private:
  TensorFile(std::string path, MappedFile mapped, std::vector<TensorEntry> entries)
      : path_(std::move(path)), mapped_(std::move(mapped)), entries_(std::move(entries)) {}
  std::string path_;
  MappedFile mapped_;
  std::vector<TensorEntry> entries_;
};

}  // namespace ashlar
