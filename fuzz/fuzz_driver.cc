// Feeds a fuzz target without libFuzzer: every file of the corpus, then a fixed number of seeded
// mutations of them (flip, insert, erase, duplicate, splice). Same inputs on every run and machine.
//
//   target -runs=20000 CORPUS_DIR

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using Bytes = std::vector<uint8_t>;

std::vector<Bytes> read_corpus(const std::string& folder) {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  std::vector<Bytes> corpus;
  for (const auto& path : paths) {
    std::ifstream file(path, std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return corpus;
}

void mutate(Bytes* bytes, const std::vector<Bytes>& corpus, std::mt19937_64& random) {
  const auto below = [&](size_t n) { return n == 0 ? 0 : random() % n; };
  const size_t at = below(bytes->size() + 1);
  const auto here = bytes->begin() + static_cast<std::ptrdiff_t>(at);
  switch (random() % 5) {
    case 0:
      if (at < bytes->size()) (*bytes)[at] ^= static_cast<uint8_t>(1u << (random() % 8));
      break;
    case 1: {
      static constexpr char kTokens[] = "{}[]()\"'\\:,.-%|~0123456789e\xff\x80\n ";
      bytes->insert(here, static_cast<uint8_t>(kTokens[below(sizeof kTokens)]));
      break;
    }
    case 2:
      bytes->erase(here, here + static_cast<std::ptrdiff_t>(
                                    below(std::min<size_t>(8, bytes->size() - at) + 1)));
      break;
    case 3: {
      const Bytes copy(here, here + static_cast<std::ptrdiff_t>(
                                        below(std::min<size_t>(64, bytes->size() - at) + 1)));
      bytes->insert(bytes->begin() + static_cast<std::ptrdiff_t>(below(bytes->size() + 1)),
                    copy.begin(), copy.end());
      break;
    }
    default: {
      const Bytes& other = corpus[below(corpus.size())];
      const size_t from = below(other.size() + 1);
      bytes->resize(at);
      bytes->insert(bytes->end(), other.begin() + static_cast<std::ptrdiff_t>(from), other.end());
      break;
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  long runs = 10000;
  std::string folder;
  for (int i = 1; i < argc; ++i) {
    if (std::strncmp(argv[i], "-runs=", 6) == 0) {
      runs = std::atol(argv[i] + 6);
    } else {
      folder = argv[i];
    }
  }
  const std::vector<Bytes> corpus = read_corpus(folder);
  if (corpus.empty()) {
    std::fprintf(stderr, "no corpus in \"%s\"\n", folder.c_str());
    return 1;
  }
  for (const Bytes& bytes : corpus) LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  std::mt19937_64 random(1);
  for (long run = 0; run < runs; ++run) {
    Bytes bytes = corpus[random() % corpus.size()];
    for (size_t n = 1 + random() % 4; n > 0; --n) mutate(&bytes, corpus, random);
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  }
  std::printf("%zu corpus files, %ld mutations: no finding\n", corpus.size(), runs);
  return 0;
}
