#include "tensor/view.h"

namespace ashlar {

std::string Shape::text() const {
  std::string out = "[";
  for (int i = 0; i < rank; ++i) out += fmt::format("{}{}", i ? ", " : "", (*this)[i]);
  return out + "]";
}

}  // namespace ashlar
