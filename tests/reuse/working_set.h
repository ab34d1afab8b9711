#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "spec/groups.h"
#include "trace.h"

namespace ashlar::reuse {

// Memory for everything, in bytes of an arena: every page of tokens that a request computes, and
// the window pages and the state with which any prompt's longest known prefix, or the end of any
// request, can be resumed; once each. Beside them what the running ones hold that is not shared
// yet: a step in the windows of one, and of the others the page they write, windows and states.
int64_t everything_bytes(const std::vector<Request>& trace, std::span<const CacheGroup> groups);

}  // namespace ashlar::reuse
