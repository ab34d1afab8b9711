#pragma once

// Runs traces in a process of their own, because a broken invariant aborts, and shortens one that
// fails to what is needed for it to fail.

#include "trace.h"

namespace ashlar::sim {

// Plays it from the beginning; false when the child did not end well. `quiet` drops what it prints.
bool survives(const Trace& trace, bool quiet);

// A trace that fails, with as few operations as leaving out parts, ever smaller, can reach.
Trace shrink(Trace failing);

}  // namespace ashlar::sim
