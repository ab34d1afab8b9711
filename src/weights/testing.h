#pragma once

// Writes small safetensors files and folders, right ones and wrong ones. Test code only; no room
// includes it.

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "base/json.h"
#include "spec/weights.h"
#include "weights/convert.h"
#include "weights/safetensors.h"

namespace ashlar {

struct TensorData {
  std::string dtype;  // "BF16"
  std::vector<int64_t> dims;
  std::string bytes;
};
using TensorMap = std::map<std::string, TensorData>;

// Length, header, data: whatever they say.
inline std::string raw_file(const std::string& header, const std::string& data) {
  const uint64_t length = header.size();
  std::string file(reinterpret_cast<const char*>(&length), sizeof length);
  return file + header + data;
}

// A valid file; `padding` blanks after the header shift the data against its alignment.
inline std::string file_of(const TensorMap& tensors, size_t padding = 0) {
  Json::Object header = {{"__metadata__", Json::Object{{"format", "pt"}}}};
  std::string data;
  for (const auto& [name, tensor] : tensors) {
    Json::Array dims;
    for (const int64_t dim : tensor.dims) dims.emplace_back(dim);
    const auto begin = static_cast<int64_t>(data.size());
    data += tensor.bytes;
    header.emplace_back(
        name,
        Json::Object{{"dtype", tensor.dtype},
                     {"shape", std::move(dims)},
                     {"data_offsets", Json::Array{begin, static_cast<int64_t>(data.size())}}});
  }
  std::string text = Json(std::move(header)).dump();
  text.append((8 - text.size() % 8) % 8 + padding, ' ');
  return raw_file(text, data);
}

inline std::span<const std::byte> as_bytes(const std::string& text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

// `values` stored as F32, BF16 or F16.
inline TensorData tensor_of(const std::string& dtype, std::vector<int64_t> dims,
                            const std::vector<float>& values) {
  TensorData tensor{dtype, std::move(dims), {}};
  if (dtype == "F32") tensor.bytes = bytes_of(values);
  for (const float value : values) {
    if (dtype == "BF16") tensor.bytes += bytes_of(std::vector{to_bf16(value)});
    if (dtype == "F16") tensor.bytes += bytes_of(std::vector{to_f16(value)});
  }
  return tensor;
}

// A folder that lives as long as this object.
class Folder {
 public:
  Folder() {
    std::string path = std::filesystem::temp_directory_path() / "ashlar_weights_XXXXXX";
    CHECK(::mkdtemp(path.data()) != nullptr, "{}", path);
    path_ = path;
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  const std::string& path() const { return path_; }
  void write(const std::string& name, const std::string& bytes) const {
    std::ofstream(path_ + "/" + name, std::ios::binary) << bytes;
  }

 private:
  std::string path_;
};

// Element i of the weight called `name`, the same in every spelling and every file: small integers
// and halves, which all float types hold exactly.
inline float test_value(const std::string& name, int64_t i) {
  return static_cast<float>((std::hash<std::string>()(name) + static_cast<uint64_t>(i) * 37) %
                            251) /
             2.0f -
         60.0f;
}

// The tensors that `rows` ask for, each weight under its last spelling when `stacked` (else its
// first) and filled with test_value of its first spelling. Vectors are stored as `vector_dtype`.
inline TensorMap tensors_of(const WeightTree<WeightRow>& rows, bool stacked,
                            const std::string& dtype, const std::string& vector_dtype = "F32") {
  std::map<std::string, std::pair<TensorData, std::vector<float>>> tensors;
  WeightTree<char> ignored;
  zip_weights(rows, &ignored, [&](const WeightRow& row, char&) {
    if (row.sources.empty()) return;
    const WeightSource& source = stacked ? row.sources.back() : row.sources.front();
    auto& [tensor, values] = tensors[source.tensor];
    const Shape& shape = source.tensor_shape;
    tensor.dtype = row.form == WeightForm::vector ? vector_dtype : dtype;
    tensor.dims.assign(shape.dims.begin(), shape.dims.begin() + shape.rank);
    values.resize(static_cast<size_t>(shape.elements()));
    for (int64_t i = 0; i < row.shape.elements(); ++i) {
      values[static_cast<size_t>(source.element(i))] =
          test_value(row.sources.front().tensor, i) - row.add;
    }
  });
  TensorMap out;
  for (const auto& [name, tensor] : tensors) {
    out[name] = tensor_of(tensor.first.dtype, tensor.first.dims, tensor.second);
  }
  return out;
}

// Element (n, k) of a matrix as loaded: of elements or codes, in chunks or not.
inline float value_at(const Matrix& w, int64_t n, int64_t k) {
  const int64_t rows = w.dim(w.shape.rank - 2);
  const Matrix chunk = w.chunk(n / rows);
  const int64_t r = n % rows;
  if (w.dtype != DType::f8e4m3) return element(chunk.data, w.dtype, r * chunk.stride(0) + k);
  const auto* scales = reinterpret_cast<const float*>(chunk.scales_of(r));
  return to_float(chunk.row<F8E4M3>(r)[k]) * scales[k / kScaleBlock];
}

inline ModelSpec spec_of(const std::string& config) {
  auto json = parse_json(config, "config.json");
  CHECK(json.has_value());
  auto model = read_model_spec(*json);
  CHECK(model.has_value(), "{}", model.error().text);
  return *std::move(model);
}

// One of each: full and windowed layers, sinks, a dense and a routed MLP with three experts.
inline ModelSpec routed_spec() {
  return spec_of(R"({"model_type": "mimo_v2_flash", "vocab_size": 11, "hidden_size": 8,
    "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 6,
    "v_head_dim": 4, "sliding_window": 5, "intermediate_size": 10, "moe_intermediate_size": 3,
    "n_routed_experts": 3, "num_experts_per_tok": 2})");
}

// Dense, with q and k norms; tied or not.
inline ModelSpec dense_spec(bool tied = false) {
  return spec_of(fmt::format(R"({{"model_type": "qwen3", "vocab_size": 11, "hidden_size": 8,
    "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4,
    "intermediate_size": 10, "tie_word_embeddings": {}}})",
                             tied));
}

}  // namespace ashlar
