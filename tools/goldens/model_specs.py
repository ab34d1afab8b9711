"""Small checkpoints with random weights and awkward shapes: every row is one folder of tests/goldens/models."""

from typing import NamedTuple

import torch
from transformers import (DeepseekV2Config, DeepseekV3Config, Gemma3TextConfig, GptOssConfig,
                          LlamaConfig, MiMoV2FlashConfig, Qwen3_5MoeTextConfig, Qwen3_5TextConfig,
                          Qwen3Config, Qwen3NextConfig)


class Spec(NamedTuple):
    name: str
    config: object
    dtype: torch.dtype = torch.bfloat16
    shard_size: str = "50GB"
    hub_twin: bool = False  # write the same weights once more under the keys and names of the published MiMo checkpoints
    hub_only: dict = {}  # what the published keys can say and transformers' cannot; see hub_mimo.py


FULL, SLIDING = "full_attention", "sliding_attention"


def plain_rope(theta, **more):
    return {"rope_type": "default", "rope_theta": theta, **more}


def mimo(layers, sparse, theta_full=5e5, theta_sliding=1e4, rotary=0.334, **keys):
    """`layers` and `sparse` are strings, one letter a layer: f(ull) or s(liding); d(ense) or m(ixture)."""
    return MiMoV2FlashConfig(
        num_hidden_layers=len(layers), layer_types=[FULL if c == "f" else SLIDING for c in layers],
        mlp_layer_types=["dense" if c == "d" else "sparse" for c in sparse],
        rope_parameters={FULL: plain_rope(theta_full, partial_rotary_factor=rotary),
                         SLIDING: plain_rope(theta_sliding, partial_rotary_factor=rotary)},
        max_position_embeddings=1024, bos_token_id=None, eos_token_id=None, **keys)


def common(**keys):
    return dict(max_position_embeddings=1024, bos_token_id=None, eos_token_id=None, **keys)


SPECS = (
    # The published head sizes, one KV head on full layers, a window that is no power of two.
    Spec("mimo-wide",
         mimo("fss", "dmm", vocab_size=256, hidden_size=48, num_attention_heads=2,
              num_key_value_heads=1, head_dim=192,
                           v_head_dim=128, sliding_window=17, intermediate_size=96,
                           moe_intermediate_size=32, n_routed_experts=4,
                           num_experts_per_tok=2)),
    # Groups of six and three query heads, tied embeddings, top 3 of 8 experts, scaled routing.
    Spec("mimo-gqa",
         mimo("fssfs", "dmmmm", rotary=0.5, vocab_size=320, hidden_size=64, num_attention_heads=6,
              num_key_value_heads=1,
                          head_dim=24, v_head_dim=16, sliding_window=17, intermediate_size=96,
                          moe_intermediate_size=12,
                          n_routed_experts=8, num_experts_per_tok=3, routed_scaling_factor=1.7,
                          attention_value_scale=0.612,
                          tie_word_embeddings=True), hub_twin=True),
    # Groups of 16 and 8, odd widths, routing groups, no value scale, unnormalised routing, a window longer than any prompt; fp32.
    Spec("mimo-groups16",
         mimo("sfs", "mdm", theta_full=1e6, vocab_size=256, hidden_size=48, num_attention_heads=16,
              num_key_value_heads=1,
                               head_dim=20, v_head_dim=12, sliding_window=512, intermediate_size=64,
                               moe_intermediate_size=16,
                               n_routed_experts=6, num_experts_per_tok=2, n_group=2, topk_group=1,
                               norm_topk_prob=False,
                               attention_value_scale=None, rms_norm_eps=1e-6), dtype=torch.float32),
    # Sinks on the full layers too, and KV head counts that are not in the ratio 1:2. Only the published keys can say so.
    Spec("mimo-fullsink-hub",
         mimo("sfsf", "mdmm", rotary=0.5, vocab_size=256, hidden_size=72, num_attention_heads=6,
                                   num_key_value_heads=2, head_dim=32, v_head_dim=20,
                                   sliding_window=5, intermediate_size=96,
                                   moe_intermediate_size=16, n_routed_experts=5,
                                   num_experts_per_tok=2, attention_value_scale=0.612,
                                   rms_norm_eps=1e-6),
                                   hub_only={"full_sinks": True, "swa_num_key_value_heads": 3}),
    # Groups of three, tied, several shards with an index.
    Spec("qwen3-gqa3",
         Qwen3Config(**common(), vocab_size=384, hidden_size=80, num_attention_heads=6,
                     num_key_value_heads=2, head_dim=40,
                                   intermediate_size=128, num_hidden_layers=2,
                                   tie_word_embeddings=True, rms_norm_eps=1e-6,
                                   rope_parameters=plain_rope(1e6)), shard_size="100KB"),
    # One KV head for 16 query heads, sliding layers after the first; fp16.
    Spec("qwen3-window",
         Qwen3Config(**common(), vocab_size=256, hidden_size=64, num_attention_heads=16,
                     num_key_value_heads=1, head_dim=16,
                                     intermediate_size=96, num_hidden_layers=3,
                                     use_sliding_window=True, sliding_window=17,
                                     max_window_layers=1, rms_norm_eps=1e-5,
                                     rope_parameters=plain_rope(1e4)), dtype=torch.float16),
    # Llama-3's frequency scaling with a short original context, so that all three of its branches are taken; tied.
    Spec("llama3-rope",
         LlamaConfig(**common(), vocab_size=320, hidden_size=96, num_attention_heads=6,
                     num_key_value_heads=2,
                                    intermediate_size=128, num_hidden_layers=3,
                                    tie_word_embeddings=True, rms_norm_eps=1e-5,
                                    rope_parameters={"rope_type": "llama3", "rope_theta": 5e5,
                                                     "factor": 8.0, "low_freq_factor": 1.0,
                                                     "high_freq_factor": 4.0,
                                                     "original_max_position_embeddings": 128})),
    # Multi-head attention, biases everywhere, heads that do not add up to the hidden size.
    Spec("llama-bias",
         LlamaConfig(**common(), vocab_size=512, hidden_size=64, num_attention_heads=4,
                     num_key_value_heads=4, head_dim=24,
                                   intermediate_size=96, num_hidden_layers=2, attention_bias=True,
                                   mlp_bias=True, rms_norm_eps=1e-6,
                                   rope_parameters=plain_rope(1e4))),
    # Latent attention without low-rank queries, YaRN with its attention factor in the scale.
    Spec("deepseek-yarn", DeepseekV3Config(
        **common(), vocab_size=256, hidden_size=64, num_attention_heads=3, num_key_value_heads=3,
        q_lora_rank=None, kv_lora_rank=40,
        qk_nope_head_dim=24, qk_rope_head_dim=16, v_head_dim=20, intermediate_size=96,
        moe_intermediate_size=24, num_hidden_layers=3,
        first_k_dense_replace=1, n_routed_experts=6, num_experts_per_tok=3, n_group=1, topk_group=1,
        n_shared_experts=2,
        routed_scaling_factor=2.5, num_nextn_predict_layers=0, rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "yarn", "rope_theta": 1e4, "factor": 16.0,
                         "original_max_position_embeddings": 64,
                         "beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0,
                         "mscale_all_dim": 1.0})),
    # Gated DeltaNet with K and V heads of different size and number, groups of three in the full layer; untied.
    Spec("qwen35-odd", Qwen3_5TextConfig(
        **common(), vocab_size=256, hidden_size=64, num_attention_heads=6, num_key_value_heads=2,
        head_dim=32, intermediate_size=96,
        num_hidden_layers=4, linear_num_key_heads=2, linear_num_value_heads=6,
        linear_key_head_dim=16, linear_value_head_dim=24,
        linear_conv_kernel_dim=4, layer_types=["linear_attention"] * 3 + [FULL], rms_norm_eps=1e-6,
        rope_parameters=plain_rope(1e6, partial_rotary_factor=0.25, mrope_section=[2, 1, 1],
                                   mrope_interleaved=True))),
    # Low-rank queries, 16 experts in 4 groups of which 2 are kept, YaRN whose two factors differ.
    Spec("deepseek-groups", DeepseekV3Config(
        **common(), vocab_size=320, hidden_size=72, num_attention_heads=6, num_key_value_heads=6,
        q_lora_rank=28, kv_lora_rank=48, qk_nope_head_dim=20, qk_rope_head_dim=12, v_head_dim=28,
        intermediate_size=88, moe_intermediate_size=20, num_hidden_layers=4,
        first_k_dense_replace=2, n_routed_experts=16, num_experts_per_tok=4, n_group=4,
        topk_group=2, n_shared_experts=1, norm_topk_prob=True, routed_scaling_factor=1.3,
        num_nextn_predict_layers=0, rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "yarn", "rope_theta": 5e4, "factor": 8.0,
                         "original_max_position_embeddings": 32, "beta_fast": 1.0,
                         "beta_slow": 1.0, "mscale": 0.707, "mscale_all_dim": 0.4})),
    # The second generation's router: softmax, greedy, weights not renormalised; fp32.
    Spec("deepseek-softmax", DeepseekV2Config(
        **common(), vocab_size=256, hidden_size=64, num_attention_heads=4, num_key_value_heads=4,
        q_lora_rank=None, kv_lora_rank=32, qk_nope_head_dim=32, qk_rope_head_dim=16,
        v_head_dim=32, intermediate_size=96, moe_intermediate_size=24, num_hidden_layers=3,
        first_k_dense_replace=1, n_routed_experts=8, num_experts_per_tok=3, n_group=1,
        topk_group=1, topk_method="greedy", n_shared_experts=2, norm_topk_prob=False,
        routed_scaling_factor=1.0, rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "yarn", "rope_theta": 1e4, "factor": 40.0,
                         "original_max_position_embeddings": 64, "beta_fast": 32.0,
                         "beta_slow": 1.0, "mscale": 0.707, "mscale_all_dim": 0.707}),
         dtype=torch.float32),
    # Projections grouped by key head, three value heads to a key head, routed and shared experts.
    Spec("qwen3-next-odd", Qwen3NextConfig(
        **common(), vocab_size=256, hidden_size=64, num_attention_heads=6, num_key_value_heads=2,
        head_dim=24, intermediate_size=96, num_hidden_layers=4, linear_num_key_heads=2,
        linear_num_value_heads=6, linear_key_head_dim=16, linear_value_head_dim=20,
        linear_conv_kernel_dim=4, decoder_sparse_step=1, moe_intermediate_size=20,
        shared_expert_intermediate_size=28, num_experts=8, num_experts_per_tok=3,
        norm_topk_prob=True, mlp_only_layers=[1],
        layer_types=["linear_attention", FULL, "linear_attention", FULL], rms_norm_eps=1e-6,
        rope_parameters=plain_rope(1e6, partial_rotary_factor=0.5))),
    # Stacked experts, one value head to a key head, heads of 192.
    Spec("qwen35-moe-odd", Qwen3_5MoeTextConfig(
        **common(), vocab_size=256, hidden_size=48, num_attention_heads=2, num_key_value_heads=1,
        head_dim=192, num_hidden_layers=3, linear_num_key_heads=4, linear_num_value_heads=4,
        linear_key_head_dim=32, linear_value_head_dim=32, linear_conv_kernel_dim=3,
        moe_intermediate_size=16, shared_expert_intermediate_size=24, num_experts=6,
        num_experts_per_tok=2, layer_types=["linear_attention", "linear_attention", FULL],
        rms_norm_eps=1e-6,
        rope_parameters=plain_rope(1e5, partial_rotary_factor=0.25, mrope_section=[12, 6, 6],
                                   mrope_interleaved=True))),
    # Sinks on every layer, biases everywhere, clamped experts, YaRN that does not round its range.
    Spec("gpt-oss-yarn", GptOssConfig(
        **common(), vocab_size=256, hidden_size=64, num_attention_heads=8, num_key_value_heads=2,
        head_dim=24, intermediate_size=32, num_hidden_layers=4, sliding_window=17,
        num_local_experts=6, num_experts_per_tok=3, rms_norm_eps=1e-5,
        layer_types=[SLIDING, FULL] * 2,
        rope_parameters={"rope_type": "yarn", "rope_theta": 15e4, "factor": 16.0,
                         "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False,
                         "original_max_position_embeddings": 64})),
    # One KV head for sixteen query heads, another window, fp32.
    Spec("gpt-oss-mqa", GptOssConfig(
        **common(), vocab_size=320, hidden_size=96, num_attention_heads=16, num_key_value_heads=1,
        head_dim=32, intermediate_size=64, num_hidden_layers=3, sliding_window=24,
        num_local_experts=4, num_experts_per_tok=2, rms_norm_eps=1e-6,
        layer_types=[SLIDING, FULL, SLIDING],
        rope_parameters={"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0,
                         "beta_fast": 8.0, "beta_slow": 1.0, "truncate": False,
                         "original_max_position_embeddings": 128}), dtype=torch.float32),
    # Five windowed layers to a full one, four norms, linear rope scaling on the full layer.
    Spec("gemma3-odd", Gemma3TextConfig(
        **common(), vocab_size=320, hidden_size=72, num_attention_heads=4, num_key_value_heads=2,
        head_dim=40, intermediate_size=112, num_hidden_layers=7, sliding_window=19,
        query_pre_attn_scalar=33, layer_types=[SLIDING] * 5 + [FULL, SLIDING],
        rope_parameters={FULL: {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
                         SLIDING: plain_rope(1e4)})),
    # One KV head, a window of a whole page, fp32.
    Spec("gemma3-mqa", Gemma3TextConfig(
        **common(), vocab_size=256, hidden_size=48, num_attention_heads=3, num_key_value_heads=1,
        head_dim=64, intermediate_size=80, num_hidden_layers=6, sliding_window=16,
        query_pre_attn_scalar=64, layer_types=[SLIDING, FULL] * 3,
        rope_parameters={FULL: plain_rope(1e6), SLIDING: plain_rope(1e4)}), dtype=torch.float32),
)
