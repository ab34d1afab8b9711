#pragma once

// What the bodies of latent attention add to those of attention: how a tile of rows comes close,
// each row once, though it is key and value. Everything else is attention's (attention/tile.h).

#include "kernels/attention/tile.h"

namespace ashlar {

// Replaces `body`'s load where pages are FP8 and products are bf16: the tile becomes bf16 rows.
// REQUIRES a body of with_bf16_products().
TileBody with_e4m3_load(TileBody body);

}  // namespace ashlar
