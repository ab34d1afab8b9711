#include "tensor/buffer.h"

#include <sys/mman.h>

#include <utility>

#include "base/checked.h"

namespace ashlar {

Result<Buffer> Buffer::host(size_t bytes, const char* what) {
  Buffer buffer;
  if (bytes == 0) return buffer;
  // mmap, not malloc: page-aligned, zeroed, lazily committed, and refused with an errno rather than
  // by the out-of-memory killer where overcommit is off.
  void* address = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED) {
    return error(Code::exhausted, "{}: the system refused {} ({} bytes)", what, human_bytes(bytes),
                 bytes);
  }
  if (bytes >= (size_t{4} << 20)) ::madvise(address, bytes, MADV_HUGEPAGE);
  buffer.bytes_ = {static_cast<std::byte*>(address), bytes};
  return buffer;
}

Buffer::Buffer(Buffer&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}

Buffer::~Buffer() {
  if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
}

}  // namespace ashlar
