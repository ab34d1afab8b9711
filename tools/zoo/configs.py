"""The three architectures of the zoo, each about 4 million parameters, each with layers that disagree about memory."""

from transformers import DeepseekV3Config, MiMoV2FlashConfig, Qwen3_5TextConfig


def mimo(common):
    """Full and sliding layers with different numbers of KV heads, K wider than V, sinks, a value scale, sparse experts."""
    rope = lambda theta: {"rope_type": "default", "rope_theta": theta,
                          "partial_rotary_factor": 0.334}
    return MiMoV2FlashConfig(
        **common, hidden_size=256, intermediate_size=384, num_hidden_layers=6,
        num_attention_heads=8, num_key_value_heads=1,
        head_dim=48, v_head_dim=32, sliding_window=32, attention_value_scale=0.707,
        layer_types=["full_attention", "sliding_attention", "sliding_attention"] * 2,
        mlp_layer_types=["dense"] + ["sparse"] * 5, n_routed_experts=8, num_experts_per_tok=2,
        moe_intermediate_size=64,
        rope_parameters={"full_attention": rope(100000.0), "sliding_attention": rope(10000.0)},
        rms_norm_eps=1e-5,
        bos_token_id=None)


def deepseek(common):
    """Latent attention with low-rank queries and interleaved rotary pairs; routed groups beside a shared expert."""
    return DeepseekV3Config(
        **common, hidden_size=256, intermediate_size=384, num_hidden_layers=5,
        num_attention_heads=8, num_key_value_heads=8,
        q_lora_rank=96, kv_lora_rank=64, qk_nope_head_dim=32, qk_rope_head_dim=16, v_head_dim=32,
        first_k_dense_replace=1,
        n_routed_experts=8, num_experts_per_tok=2, n_group=2, topk_group=1, n_shared_experts=1,
        moe_intermediate_size=80,
        routed_scaling_factor=1.5, num_nextn_predict_layers=0,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        bos_token_id=None)


def qwen(common):
    """Three Gated DeltaNet layers to one gated full-attention layer, twice; tied embeddings."""
    return Qwen3_5TextConfig(
        **common, hidden_size=256, intermediate_size=256, num_hidden_layers=8,
        num_attention_heads=4, num_key_value_heads=1,
        head_dim=64, linear_num_key_heads=4, linear_num_value_heads=8, linear_key_head_dim=32,
        linear_value_head_dim=32,
        linear_conv_kernel_dim=4, layer_types=(["linear_attention"] * 3 + ["full_attention"]) * 2,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 100000.0,
                         "partial_rotary_factor": 0.25,
                         "mrope_section": [3, 3, 2], "mrope_interleaved": True})


ARCHITECTURES = {"mimo-tiny": mimo, "deepseek-tiny": deepseek, "qwen-tiny": qwen}


def build(name, tokenizer):
    common = dict(vocab_size=len(tokenizer), max_position_embeddings=4096, initializer_range=0.04,
                  attention_bias=False,
                  eos_token_id=tokenizer.eos_token_id, pad_token_id=None)
    return ARCHITECTURES[name](common)
