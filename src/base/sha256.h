#pragma once

// SHA-256 (FIPS 180-4), for keys that must not collide even when someone tries. OpenSSL behind this
// face; one object may compute any number of digests, one after another, on one thread.

#include <array>
#include <cstddef>
#include <memory>
#include <span>

namespace ashlar {

using Digest = std::array<std::byte, 32>;

class Sha256 {
 public:
  Sha256();
  Sha256(Sha256&& other) noexcept;
  Sha256& operator=(Sha256&& other) noexcept;
  ~Sha256();

  // The digest of the parts, laid end to end.
  Digest operator()(std::span<const std::byte> first, std::span<const std::byte> second = {});

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace ashlar
