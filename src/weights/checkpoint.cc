#include "weights/checkpoint.h"

#include <algorithm>

#include "base/file.h"
#include "base/json.h"

namespace ashlar {
namespace {

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";
constexpr size_t kMaxIndexBytes = 100'000'000;
constexpr size_t kNameExcerpt = 200;

// What the index says: shards in order of first mention, and each tensor's shard.
struct Index {
  std::vector<std::string> shards;
  std::unordered_map<std::string, size_t> shard_of;  // tensor -> index of shards
};

// A name that could leave the folder is refused, whether or not such a file exists.
bool is_plain_name(std::string_view name) {
  constexpr std::string_view kForbidden("/\\\0", 3);
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(kForbidden) == std::string_view::npos;
}

Result<Index> read_index(const std::string& path) {
  TRY(const std::string text, read_file(path, kMaxIndexBytes));
  TRY(const Json json, parse_json(text, path));
  const Json* map = json.find("weight_map");
  if (map == nullptr || !map->is_object()) {
    return invalid("{}: weight_map is {}, expected an object", path,
                   map == nullptr ? "missing" : map->kind());
  }
  Index index;
  std::unordered_map<std::string_view, size_t> seen;
  for (const auto& [tensor, shard] : map->as_object()) {
    if (!shard.is_string() || !is_plain_name(shard.as_string())) {
      return invalid("{}: {}: shard {}: expected the plain name of a file in this folder", path,
                     excerpt(tensor, kNameExcerpt), excerpt(shard.dump()));
    }
    const auto [it, is_new] = seen.emplace(shard.as_string(), index.shards.size());
    if (is_new) index.shards.push_back(shard.as_string());
    index.shard_of.emplace(tensor, it->second);
  }
  return index;
}

Status check_shards_exist(const Index& index, const std::string& folder) {
  std::vector<std::string> missing;
  for (const std::string& shard : index.shards) {
    if (!file_exists(folder + "/" + shard)) missing.push_back(shard);
  }
  if (missing.empty()) return {};
  return error(Code::not_found, "{}: {} of {} shards that {} names are missing: {}", folder,
               missing.size(), index.shards.size(), kIndex, list_names(missing));
}

// Each tensor must lie in the shard the index says, and nowhere else.
Status check_index(const Index& index, const std::vector<TensorFile>& files,
                   const std::string& folder) {
  std::unordered_map<std::string_view, size_t> found;  // tensor -> shard
  std::vector<std::string> unlisted, lacking;
  for (size_t i = 0; i < files.size(); ++i) {
    for (const TensorEntry& entry : files[i].entries()) {
      const auto listed = index.shard_of.find(entry.name);
      if (listed == index.shard_of.end() || listed->second != i) {
        unlisted.push_back(fmt::format("{} in {}", entry.name, index.shards[i]));
      } else {
        found.emplace(entry.name, i);
      }
    }
  }
  for (const auto& [tensor, shard] : index.shard_of) {
    if (!found.contains(tensor)) {
      lacking.push_back(fmt::format("{} in {}", tensor, index.shards[shard]));
    }
  }
  if (unlisted.empty() && lacking.empty()) return {};
  std::string text = fmt::format("{}: {} and the shards disagree:", folder, kIndex);
  std::sort(lacking.begin(), lacking.end());
  if (!lacking.empty()) {
    text += fmt::format("\n  {} listed but absent: {}", lacking.size(), list_names(lacking));
  }
  if (!unlisted.empty()) {
    text += fmt::format("\n  {} present but not listed there: {}", unlisted.size(),
                        list_names(unlisted));
  }
  return Error{Code::invalid, std::move(text)};
}

}  // namespace

std::string list_names(std::span<const std::string> names, size_t limit) {
  std::string out;
  for (size_t i = 0; i < std::min(limit, names.size()); ++i) {
    out += fmt::format("{}{}", i ? ", " : "", excerpt(names[i], kNameExcerpt));
  }
  if (names.size() > limit) out += fmt::format(" and {} more", names.size() - limit);
  return out;
}

Result<Checkpoint> Checkpoint::open(const std::string& folder) {
  Checkpoint checkpoint;
  if (file_exists(folder + "/" + kSingle)) {
    TRY(TensorFile file, TensorFile::open(folder + "/" + kSingle));
    checkpoint.files_.push_back(std::move(file));
  } else if (file_exists(folder + "/" + kIndex)) {
    TRY(const Index index, read_index(folder + "/" + kIndex));
    TRY_STATUS(check_shards_exist(index, folder));
    for (const std::string& shard : index.shards) {
      TRY(TensorFile file, TensorFile::open(folder + "/" + shard));
      checkpoint.files_.push_back(std::move(file));
    }
    TRY_STATUS(check_index(index, checkpoint.files_, folder));
  } else {
    return error(Code::not_found,
                 "{}: holds neither {} nor {}: weights are read from safetensors files only",
                 folder, kSingle, kIndex);
  }
  checkpoint.list_tensors();
  return checkpoint;
}

void Checkpoint::list_tensors() {
  for (const TensorFile& file : files_) {
    for (const TensorEntry& entry : file.entries()) {
      by_name_.emplace(entry.name, tensors_.size());
      tensors_.push_back({&entry, file.data(entry), &file.path()});
    }
  }
}

const CheckpointTensor* Checkpoint::find(std::string_view name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : &tensors_[it->second];
}

}  // namespace ashlar
