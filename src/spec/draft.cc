// Whether a draft fits a target: it reads hidden states of it and uses its embedding and its head.

#include <algorithm>

#include "spec/model.h"

namespace ashlar {
namespace {

Status check_taps(const DraftSpec& draft, const ModelSpec& target) {
  if (draft.taps.empty()) return invalid("draft: target_layer_ids is empty: it reads no layer");
  for (const int32_t tap : draft.taps) {
    if (tap >= 0 && static_cast<size_t>(tap) < target.layers.size()) continue;
    return invalid("draft: target_layer_ids has layer {}: the target has layers 0 to {}", tap,
                   target.layers.size() - 1);
  }
  return {};
}

// Every row of a block is seen by all of them.
Status check_windows(const ModelSpec& draft) {
  for (size_t i = 0; i < draft.layers.size(); ++i) {
    const int32_t window = attention_of(draft.layers[i]).window;
    if (window == 0 || window >= draft.draft->block_tokens) continue;
    return invalid("draft: layer {} has a window of {} tokens: less than a block of {}", i, window,
                   draft.draft->block_tokens);
  }
  return {};
}

}  // namespace

Result<ModelSpec> read_draft_spec(const Json& config, const ModelSpec& target) {
  TRY(ModelSpec draft, read_cache_spec(config));
  if (!draft.draft) {
    return invalid("draft: a {} that says nothing of blocks to propose (dflash_config)",
                   excerpt(draft.model_type));
  }
  if (draft.hidden != target.hidden) {
    return invalid("draft: hidden size {}, the target's is {}: it was made for another model",
                   draft.hidden, target.hidden);
  }
  if (draft.vocab != target.vocab) {
    return invalid("draft: a vocabulary of {} tokens, the target's has {}: it was made for another",
                   draft.vocab, target.vocab);
  }
  if (draft.draft->mask_token >= target.vocab) {
    return invalid("draft: mask_token_id {}: the vocabulary has ids 0 to {}",
                   draft.draft->mask_token, target.vocab - 1);
  }
  TRY_STATUS(check_taps(*draft.draft, target));
  TRY_STATUS(check_windows(draft));
  draft.tied_head = false;
  return draft;
}

}  // namespace ashlar
