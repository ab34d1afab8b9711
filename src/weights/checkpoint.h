#pragma once

// A checkpoint folder: the tensors of model.safetensors, or of the shards that
// model.safetensors.index.json names. Owns the mappings; move-only, and pointers into it stay valid
// when it is moved.

#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "weights/safetensors.h"

namespace ashlar {

struct CheckpointTensor {
  const TensorEntry* entry = nullptr;
  const std::byte* data = nullptr;    // entry->end - entry->begin mapped bytes, maybe unaligned
  const std::string* path = nullptr;  // of the file that holds it, for messages
};

class Checkpoint {
 public:
  Checkpoint() = default;  // no tensors

  // not_found when the folder holds neither file; invalid when index and shards disagree (missing
  // shards, tensors that only one side knows, a tensor in two shards), naming the first few of
  // each.
  static Result<Checkpoint> open(const std::string& folder);

  // Null when there is none of that name.
  const CheckpointTensor* find(std::string_view name) const;

  // Every tensor, file by file, in the order of the data.
  std::span<const CheckpointTensor> tensors() const { return tensors_; }

 private:
  void list_tensors();

  std::vector<TensorFile> files_;
  std::vector<CheckpointTensor> tensors_;
  std::unordered_map<std::string_view, size_t> by_name_;  // name -> index of tensors_
};

// "a, b, c and 7 more": at most `limit` names, each made safe to print.
std::string list_names(std::span<const std::string> names, size_t limit = 8);

}  // namespace ashlar
