#include "weights/safetensors.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <tuple>

#include "base/checked.h"
#include "base/json.h"

namespace ashlar {
namespace {

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr size_t kNameExcerpt = 200;

constexpr StoredType kStoredTypes[] = {
    {"F32", 32, DType::f32},
    {"BF16", 16, DType::bf16},
    {"F16", 16, DType::f16},
    {"F8_E4M3", 8, DType::f8e4m3},
    {"U8", 8, DType::u8},
    {"I32", 32, DType::i32},
    {"I64", 64, DType::i64},
    {"F64", 64, std::nullopt},
    {"C64", 64, std::nullopt},
    {"U64", 64, std::nullopt},
    {"U32", 32, std::nullopt},
    {"U16", 16, std::nullopt},
    {"I16", 16, std::nullopt},
    {"I8", 8, std::nullopt},
    {"BOOL", 8, std::nullopt},
    {"F8_E5M2", 8, std::nullopt},
    {"F8_E4M3FNUZ", 8, std::nullopt},
    {"F8_E5M2FNUZ", 8, std::nullopt},
    {"F8_E8M0", 8, std::nullopt},
    {"F6_E2M3", 6, std::nullopt},
    {"F6_E3M2", 6, std::nullopt},
    {"F4", 4, std::nullopt},
};

struct Header {
  Json json;
  uint64_t data_begin = 0;  // where the header ends and the data begins
};

Result<Header> read_header(std::span<const std::byte> file, const std::string& path) {
  if (file.size() < kLengthBytes) {
    return invalid("{}: {} bytes: a safetensors file begins with an 8-byte header length", path,
                   file.size());
  }
  uint64_t length = 0;
  for (size_t i = 0; i < kLengthBytes; ++i) {
    length |= std::to_integer<uint64_t>(file[i]) << (8 * i);
  }
  if (length > kMaxHeaderBytes) {
    return invalid(
        "{}: header length {}: at most {} bytes are allowed; is this a safetensors file?", path,
        length, kMaxHeaderBytes);
  }
  if (length > file.size() - kLengthBytes) {
    return invalid("{}: header length {} but only {} bytes follow: the file was cut short", path,
                   length, file.size() - kLengthBytes);
  }
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + kLengthBytes, length);
  if (!text.starts_with('{')) {
    return invalid("{}: the header begins with \"{}\", expected \"{{\"", path, excerpt(text, 8));
  }
  TRY(Json json, parse_json(text, path + ": header", {.max_bytes = kMaxHeaderBytes}));
  return Header{std::move(json), kLengthBytes + length};
}

Status check_metadata(const Json& json, const std::string& path) {
  if (!json.is_object()) {
    return invalid("{}: __metadata__ is {}, expected an object", path, json.kind());
  }
  for (const auto& [key, value] : json.as_object()) {
    if (value.is_string()) continue;
    return invalid("{}: __metadata__: \"{}\" is {}, expected a string", path, excerpt(key),
                   value.kind());
  }
  return {};
}

// A list of non-negative integers; `what` names tensor and key in errors.
Result<std::vector<int64_t>> read_counts(const Json* json, const std::string& what) {
  if (json == nullptr) return invalid("{} is missing", what);
  if (!json->is_array()) return invalid("{} is {}, expected a list", what, json->kind());
  std::vector<int64_t> counts;
  for (const Json& item : json->as_array()) {
    if (!item.is_int() || item.as_int() < 0) {
      return invalid("{} holds {}, expected non-negative integers", what, excerpt(item.dump()));
    }
    counts.push_back(item.as_int());
  }
  return counts;
}

Result<const StoredType*> read_type(const Json* json, const std::string& what) {
  if (json == nullptr || !json->is_string()) return invalid("{}: dtype is missing", what);
  std::string known;
  for (const StoredType& type : kStoredTypes) {
    if (json->as_string() == type.name) return &type;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", type.name);
  }
  return unsupported("{}: dtype \"{}\": known are {}", what, excerpt(json->as_string()), known);
}

// The bytes that dims of a type take; sub-byte types must fill whole bytes.
Result<uint64_t> data_bytes(const TensorEntry& entry, const std::string& what) {
  uint64_t bits = static_cast<uint64_t>(entry.type->bits);
  for (const int64_t dim : entry.dims) {
    const Result<uint64_t> product = checked_mul({bits, static_cast<uint64_t>(dim)});
    if (!product) {
      return invalid("{}: shape {}: its size overflows 64 bits", what, shape_text(entry.dims));
    }
    bits = *product;
  }
  if (bits % 8 != 0) {
    return invalid("{}: {} of shape {} does not fill whole bytes", what, entry.type->name,
                   shape_text(entry.dims));
  }
  return bits / 8;
}

Result<TensorEntry> read_entry(const Json::Member& member, uint64_t data_begin, uint64_t data_size,
                               const std::string& path) {
  const auto& [name, json] = member;
  const std::string what = fmt::format("{}: {}", path, excerpt(name, kNameExcerpt));
  if (!json.is_object()) return invalid("{}: is {}, expected an object", what, json.kind());
  TensorEntry entry{.name = name};
  TRY(entry.type, read_type(json.find("dtype"), what));
  TRY(entry.dims, read_counts(json.find("shape"), what + ": shape"));
  TRY(const std::vector<int64_t> offsets,
      read_counts(json.find("data_offsets"), what + ": data_offsets"));
  if (offsets.size() != 2) {
    return invalid("{}: data_offsets has {} numbers, expected 2", what, offsets.size());
  }
  const auto begin = static_cast<uint64_t>(offsets[0]), end = static_cast<uint64_t>(offsets[1]);
  if (begin > end || end > data_size) {
    return invalid("{}: data_offsets [{}, {}] do not lie within the file's {} bytes of data", what,
                   begin, end, data_size);
  }
  TRY(const uint64_t bytes, data_bytes(entry, what));
  if (end - begin != bytes) {
    return invalid("{}: data_offsets [{}, {}] hold {} bytes but {} of shape {} takes {}", what,
                   begin, end, end - begin, entry.type->name, shape_text(entry.dims), bytes);
  }
  entry.begin = data_begin + begin, entry.end = data_begin + end;
  return entry;
}

// Sorted tensors must meet end to end and fill the file.
Status check_contiguous(const std::vector<TensorEntry>& entries, uint64_t data_begin,
                        uint64_t file_size, const std::string& path) {
  uint64_t expected = data_begin;
  const TensorEntry* previous = nullptr;
  for (const TensorEntry& entry : entries) {
    const std::string name = excerpt(entry.name, kNameExcerpt);
    if (entry.begin < expected) {
      return invalid("{}: {}: data begins at {}, inside {}, which ends at {}", path, name,
                     entry.begin - data_begin, excerpt(previous->name, kNameExcerpt),
                     expected - data_begin);
    }
    if (entry.begin > expected) {
      return invalid(
          "{}: {}: data begins at {} but the tensor before it ends at {}: {} bytes "
          "belong to no tensor",
          path, name, entry.begin - data_begin, expected - data_begin, entry.begin - expected);
    }
    expected = entry.end;
    previous = &entry;
  }
  if (expected == file_size) return {};
  return invalid("{}: the last tensor ends at {} but the data has {} bytes", path,
                 expected - data_begin, file_size - data_begin);
}

}  // namespace

std::string shape_text(std::span<const int64_t> dims) {
  std::string out = "[";
  for (const int64_t dim : dims) out += fmt::format("{}{}", out.size() > 1 ? ", " : "", dim);
  return out + "]";
}

Result<std::vector<TensorEntry>> parse_safetensors(std::span<const std::byte> file,
                                                   const std::string& path) {
  TRY(const Header header, read_header(file, path));
  std::vector<TensorEntry> entries;
  for (const Json::Member& member : header.json.as_object()) {
    if (member.first == "__metadata__") {
      TRY_STATUS(check_metadata(member.second, path));
      continue;
    }
    TRY(TensorEntry entry,
        read_entry(member, header.data_begin, file.size() - header.data_begin, path));
    entries.push_back(std::move(entry));
  }
  std::sort(entries.begin(), entries.end(), [](const TensorEntry& a, const TensorEntry& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  TRY_STATUS(check_contiguous(entries, header.data_begin, file.size(), path));
  return entries;
}

Result<TensorFile> TensorFile::open(const std::string& path) {
  TRY(MappedFile mapped, MappedFile::open(path));
  TRY(std::vector<TensorEntry> entries, parse_safetensors(mapped.bytes(), path));
  return TensorFile(path, std::move(mapped), std::move(entries));
}

}  // namespace ashlar
