#pragma once

// Recorded prefix-cache sessions as JSON, one a line (kv/replay.h says what they are).
//
// A line: {"name", "config": {"groups": [{"kind": full|mla|swa|chunk|mamba, "block_size", "window"
// | "chunk"}], "num_blocks" (block 0 included, which holds nothing), "max_model_len",
// "hash_block_size", "family"}, "ops": [...]}. An op: {"op": ...} with
//   new {req, prompt [[k, n], ...], salt}   tokens k*1000 .. k*1000+n-1 of each pair
//   lookup {req, expect {hit}}
//   alloc {req, num_new, use_hit, lookahead, expect null | {...}}   null: there was no room
//   append {req, tokens}
//   free {req}, drop {req}
//   step, split, free_retained, dump_cached   the other cache's affairs
// Further members are not read.

#include "base/json.h"
#include "kv/replay.h"

namespace ashlar {

// invalid for a line that is not of this form, naming the op and the member.
Result<ReplaySession> read_session(const Json& line);

}  // namespace ashlar
