// What a checkpoint of FP8 blocks costs while it answers: its codes stay codes, and its file is
// mapped, not copied. A gigantic file would show it best; a sparse one of 400 MB of zeros is
// enough, because its pages count when they are read, whatever is in them.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "program.h"

namespace ashlar {
namespace {

constexpr int64_t kLayers = 8, kHidden = 2048, kInner = 6144, kVocab = 1024, kHeads = 16,
                  kKvHeads = 4, kHeadDim = 128;
constexpr int64_t kArena = int64_t{64} << 20;

// The header of a safetensors file, tensor by tensor.
class Header {
 public:
  void add(const std::string& name, const char* type, int64_t bytes_each,
           const std::vector<int64_t>& shape) {
    int64_t bytes = bytes_each;
    Json::Array dims;
    for (const int64_t dim : shape) bytes *= dim, dims.emplace_back(dim);
    tensors_.emplace_back(name, Json::Object{{"dtype", type},
                                             {"shape", std::move(dims)},
                                             {"data_offsets", Json::Array{end_, end_ + bytes}}});
    end_ += bytes;
  }
  // Codes and a scale for every 128 x 128 of them.
  void add_codes(const std::string& name, int64_t rows, int64_t columns) {
    add(name + ".weight_scale_inv", "F32", 4, {(rows + 127) / 128, (columns + 127) / 128});
    add(name + ".weight", "F8_E4M3", 1, {rows, columns});
  }
  // Writes the header and as many zeros as it promises; returns the file's size.
  int64_t write(const std::string& path) const {
    std::string text = Json(tensors_).dump();
    text.resize((text.size() + 7) / 8 * 8, ' ');
    const auto length = static_cast<uint64_t>(text.size());
    std::ofstream file(path, std::ios::binary);
    file.write(reinterpret_cast<const char*>(&length), sizeof length);
    file << text;
    file.close();
    const int64_t size = static_cast<int64_t>(sizeof length + text.size()) + end_;
    std::filesystem::resize_file(path, static_cast<uintmax_t>(size));
    return size;
  }

 private:
  Json::Object tensors_;
  int64_t end_ = 0;
};

const char* kConfig = R"({"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3",
  "torch_dtype": "bfloat16", "vocab_size": 1024, "hidden_size": 2048, "num_hidden_layers": 8,
  "intermediate_size": 6144, "hidden_act": "silu", "rms_norm_eps": 1e-06,
  "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 128, "attention_bias": false,
  "rope_theta": 1000000, "tie_word_embeddings": false, "max_position_embeddings": 4096,
  "quantization_config": {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
    "weight_block_size": [128, 128], "modules_to_not_convert": ["lm_head"]}})";

int64_t write_checkpoint(const std::string& path) {
  Header header;
  header.add("model.embed_tokens.weight", "BF16", 2, {kVocab, kHidden});
  header.add("lm_head.weight", "BF16", 2, {kVocab, kHidden});
  header.add("model.norm.weight", "BF16", 2, {kHidden});
  for (int64_t i = 0; i < kLayers; ++i) {
    const std::string layer = fmt::format("model.layers.{}.", i);
    for (const char* norm : {"input_layernorm", "post_attention_layernorm"})
      header.add(layer + norm + ".weight", "BF16", 2, {kHidden});
    for (const char* norm : {"q_norm", "k_norm"})
      header.add(layer + "self_attn." + norm + ".weight", "BF16", 2, {kHeadDim});
    header.add_codes(layer + "self_attn.q_proj", kHeads * kHeadDim, kHidden);
    header.add_codes(layer + "self_attn.k_proj", kKvHeads * kHeadDim, kHidden);
    header.add_codes(layer + "self_attn.v_proj", kKvHeads * kHeadDim, kHidden);
    header.add_codes(layer + "self_attn.o_proj", kHidden, kHeads * kHeadDim);
    header.add_codes(layer + "mlp.gate_proj", kInner, kHidden);
    header.add_codes(layer + "mlp.up_proj", kInner, kHidden);
    header.add_codes(layer + "mlp.down_proj", kHidden, kInner);
  }
  return header.write(path);
}

// Runs it quietly and waits; its exit status and the most memory it had, in bytes.
std::pair<int, int64_t> peak_of(const std::vector<std::string>& arguments) {
  const pid_t child = ::fork();
  if (child == 0) {
    const int null = ::open("/dev/null", O_RDWR);
    ::dup2(null, STDOUT_FILENO);
    std::vector<char*> argv;
    for (const std::string& argument : arguments)
      argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  int status = 0;
  rusage usage{};
  ::wait4(child, &status, 0, &usage);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128, int64_t{usage.ru_maxrss} << 10};
}

// At most 1.1 x (file + cache + 200 MB). Weights copied, or widened to bf16, would not fit.
TEST(Memory, AnFp8CheckpointCostsItsFile) {
  const Folder folder;
  folder.write("fp8/config.json", kConfig);
  const std::string path = folder.write("fp8/model.safetensors", "");
  const int64_t file = write_checkpoint(path);
  std::string tokens = "1";
  for (int i = 2; i <= 32; ++i) tokens += fmt::format(",{}", i);
  const auto [code, peak] =
      peak_of({ASHLAR_BINARY, "run", std::filesystem::path(path).parent_path().string(), "--tokens",
               tokens, "--max-tokens", "4", "--ignore-eos", "--memory", fmt::format("{}", kArena)});
  ASSERT_EQ(code, 0);
  const double limit = 1.1 * static_cast<double>(file + kArena + 200'000'000);
  RecordProperty("file_mb", static_cast<int>(file / 1'000'000));
  RecordProperty("peak_mb", static_cast<int>(peak / 1'000'000));
  EXPECT_LE(static_cast<double>(peak), limit) << "a file of " << file << " bytes";
  EXPECT_GE(peak, file) << "the file was not read";
  EXPECT_LT(limit, 2.0 * static_cast<double>(file)) << "a copy would go unnoticed";
}

}  // namespace
}  // namespace ashlar
