#include "base/sha256.h"

#include <openssl/evp.h>

#include "base/check.h"

namespace ashlar {

// Fetching the algorithm and its context costs more than a short digest: both are kept.
struct Sha256::State {
  EVP_MD* algorithm = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~State() {
    EVP_MD_CTX_free(context);
    EVP_MD_free(algorithm);
  }
};

Sha256::Sha256() : state_(std::make_unique<State>()) {
  CHECK(state_->algorithm != nullptr && state_->context != nullptr, "OpenSSL has no SHA-256");
}
Sha256::Sha256(Sha256&& other) noexcept = default;
Sha256& Sha256::operator=(Sha256&& other) noexcept = default;
Sha256::~Sha256() = default;

Digest Sha256::operator()(std::span<const std::byte> first, std::span<const std::byte> second) {
  Digest digest;
  const bool done =
      EVP_DigestInit_ex(state_->context, state_->algorithm, nullptr) == 1 &&
      EVP_DigestUpdate(state_->context, first.data(), first.size()) == 1 &&
      EVP_DigestUpdate(state_->context, second.data(), second.size()) == 1 &&
      EVP_DigestFinal_ex(state_->context, reinterpret_cast<unsigned char*>(digest.data()),
                         nullptr) == 1;
  CHECK(done, "OpenSSL refused to compute a SHA-256 digest");
  return digest;
}

}  // namespace ashlar
