"""MiMo checkpoints under the keys and tensor names of the published files, which differ from what transformers 5 writes."""

import copy
import json
import pathlib

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM


def build(config, special):
    """A model for `config`, changed where the published keys can say more: sinks on full layers, any number of sliding KV heads."""
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    for index, layer in enumerate(model.model.layers):
        sliding = config.layer_types[index] == "sliding_attention"
        if sliding and special:
            # The class doubles the KV heads of sliding layers by itself, so build a full layer's attention with our number.
            changed = copy.deepcopy(config)
            changed.layer_types = ["full_attention"] * len(config.layer_types)
            changed.num_key_value_heads = special["swa_num_key_value_heads"]
            layer.self_attn = type(layer.self_attn)(changed, index)
        if special and (sliding or special["full_sinks"]):
            layer.self_attn.sinks = torch.nn.Parameter(torch.zeros(config.num_attention_heads))
    return model


def hub_config(config, special):
    sliding = [int(t == "sliding_attention") for t in config.layer_types]
    full_rope, swa_rope = (config.rope_parameters[t] for t in ("full_attention", "sliding_attention"))
    return {
        "architectures": ["MiMoV2FlashForCausalLM"], "model_type": "mimo_v2_flash",
        "torch_dtype": "bfloat16",
        "vocab_size": config.vocab_size, "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "intermediate_size": config.intermediate_size, "hidden_act": "silu",
        "layernorm_epsilon": config.rms_norm_eps,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim, "v_head_dim": config.v_head_dim,
        "swa_num_attention_heads": config.num_attention_heads,
        "swa_num_key_value_heads": special.get("swa_num_key_value_heads",
                                               2 * config.num_key_value_heads),
        "swa_head_dim": config.head_dim, "swa_v_head_dim": config.v_head_dim,
        "hybrid_layer_pattern": sliding, "sliding_window": config.sliding_window,
        "sliding_window_size": config.sliding_window,
        "attention_chunk_size": config.sliding_window, "attention_bias": False,
        "attention_dropout": 0.0,
        "add_swa_attention_sink_bias": True,
        "add_full_attention_sink_bias": special.get("full_sinks", False),
        "attention_value_scale": config.attention_value_scale,
        "rope_theta": full_rope["rope_theta"], "swa_rope_theta": swa_rope["rope_theta"],
        "partial_rotary_factor": full_rope["partial_rotary_factor"],
        "moe_layer_freq": [int(t == "sparse") for t in config.mlp_layer_types],
        "moe_intermediate_size": config.moe_intermediate_size,
        "n_routed_experts": config.n_routed_experts, "n_shared_experts": None,
        "num_experts_per_tok": config.num_experts_per_tok,
        "scoring_func": "sigmoid", "topk_method": "noaux_tc", "n_group": config.n_group,
        "topk_group": config.topk_group,
        "norm_topk_prob": config.norm_topk_prob,
        "routed_scaling_factor": None if config.routed_scaling_factor == 1.0 else config.routed_scaling_factor,
        "tie_word_embeddings": config.tie_word_embeddings,
        "max_position_embeddings": config.max_position_embeddings,
    }


def hub_tensors(model):
    """Expert by expert, sinks under their published name, the router in fp32."""
    out = {}
    for name, tensor in model.state_dict().items():
        tensor = tensor.detach()
        if name.endswith("mlp.experts.gate_up_proj"):
            for expert, both in enumerate(tensor):
                gate, up = both.chunk(2)
                stem = name.replace("gate_up_proj", str(expert))
                out[f"{stem}.gate_proj.weight"], out[f"{stem}.up_proj.weight"] = gate.bfloat16(), up.bfloat16()
        elif name.endswith("mlp.experts.down_proj"):
            for expert, down in enumerate(tensor):
                out[f"{name.replace('down_proj', str(expert))}.down_proj.weight"] = down.bfloat16()
        elif ".mlp.gate." in name:
            out[name] = tensor.float()
        elif not (name == "lm_head.weight" and model.config.tie_word_embeddings):
            out[name.replace("self_attn.sinks",
                             "self_attn.attention_sink_bias")] = tensor.bfloat16()
    return {name: tensor.clone().contiguous() for name, tensor in out.items()}


def write(model, folder, special):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(hub_tensors(model), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(hub_config(model.config, special),
                                                   indent=2) + "\n")
