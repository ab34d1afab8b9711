#pragma once

// Buffer: owned bytes on a device. Move-only; a copy is a named operation, never a constructor.
// Memory is aligned to 64 bytes (2 MiB when large, so that the kernel can back it with huge pages)
// and is committed lazily by the operating system: reserving an arena costs address space until it
// is touched.

#include <cstddef>
#include <span>

#include "base/result.h"
#include "tensor/view.h"

namespace ashlar {

class Buffer {
 public:
  Buffer() = default;
  // Zeroed host memory; `what` names it in the error. exhausted when the system refuses.
  static Result<Buffer> host(size_t bytes, const char* what);

  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer();

  std::span<std::byte> bytes() const { return bytes_; }
  std::byte* data() const { return bytes_.data(); }

 private:
  std::span<std::byte> bytes_;
};

}  // namespace ashlar
