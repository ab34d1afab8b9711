// Jamba: Mamba-1 layers and every eighth of full attention, nothing rotated.

#include "spec/families/families.h"

namespace ashlar {

Result<ModelSpec> read_jamba(const ConfigReader& config) {
  TRY(ModelSpec model, read_common(config, "rms_norm_eps", 1e-6));
  TRY(AttentionSpec attention, read_attention(config));
  attention.rope = kNoRope;
  StateSpec scan{.recurrence = Recurrence::channel_scan, .value_dim = 1};
  TRY(const int32_t expand, config.integer_or("mamba_expand", 2, 1, 64));
  scan.heads = expand * model.hidden;
  TRY(scan.key_dim, config.integer_or("mamba_d_state", 16, 1, 4096));
  TRY(scan.conv_kernel, config.integer_or("mamba_d_conv", 4, 1, 64));
  TRY_STATUS(read_state_dtypes(config, &scan));
  TRY(const int32_t period, config.integer_or("attn_layer_period", 8));
  TRY(const int32_t offset, config.integer_or("attn_layer_offset", 4, 0));
  for (size_t i = 0; i < model.layers.size(); ++i) {
    const bool attends = static_cast<int32_t>(i) % period == offset;
    model.layers[i].mixer = attends ? Mixer(attention) : Mixer(scan);
  }
  return model;
}

}  // namespace ashlar
