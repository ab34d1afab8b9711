#pragma once

// The face of the text room: strings to tokens and back, and conversations to strings.

#include "text/chat.h"         // IWYU pragma: export
#include "text/chat_tokens.h"  // IWYU pragma: export
#include "text/detokenizer.h"  // IWYU pragma: export
#include "text/tokenizer.h"    // IWYU pragma: export
