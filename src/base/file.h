#pragma once

// Files as the rest of the program sees them: a whole small one read, a large one mapped.

#include <cstddef>
#include <span>
#include <string>

#include "base/result.h"

namespace ashlar {

// The whole file; an error names the path and the system's reason, or the size when over
// `max_bytes`.
Result<std::string> read_file(const std::string& path, size_t max_bytes = size_t{1} << 30);

bool file_exists(const std::string& path);

// Of bytes that are mapped: the pages wholly among them leave this process's memory until they are
// read again.
void drop_pages(std::span<const std::byte> mapped);

// A read-only mapping of a whole file. Move-only; unmaps when destroyed. A file truncated by
// someone else while mapped faults on access: that is the operating system's contract for every
// mapped loader.
class MappedFile {
 public:
  static Result<MappedFile> open(const std::string& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  MappedFile() = default;
  std::span<const std::byte> bytes_;
};

}  // namespace ashlar
