"""Checkpoints with FP8 block weights as published ones store them, beside their twins: the same numbers multiplied out to bf16.

    python3 hub_fp8.py [FOLDER]       writes NAME/ and NAME-twin/ for every model below; needs no packages

Scales have four significant bits, as codes do, so every product is exact in bf16 and the twins hold the very same model.
Widths are no multiples of 128: last blocks are partial, and rows of one weight begin inside a block.
"""

import json
import pathlib
import random
import struct
import sys

BLOCK = 128


def from_e4m3(code):
    exponent, mantissa = code >> 3 & 15, code & 7
    value = mantissa * 2.0**-9 if exponent == 0 else (8 + mantissa) * 2.0 ** (exponent - 10)
    return -value if code & 0x80 else value


VALUES = [from_e4m3(code) for code in range(256)]


def bf16(value):
    """The two bytes of a number that bf16 holds exactly."""
    bits = struct.pack("<f", value)
    assert bits[:2] == b"\0\0", value
    return bits[2:]


def to_bf16(value):
    return struct.unpack("<f", b"\0\0" + struct.pack("<f", value)[2:])[0]


def blocks(n):
    return -(-n // BLOCK)


class Pair:
    """The tensors of a checkpoint and of its twin: name -> (type, shape, bytes)."""

    def __init__(self, seed, scale_type="F32"):
        self.random = random.Random(seed)
        self.scale_type = scale_type
        self.stored, self.twin = {}, {}

    def numbers(self, name, shape, mean=0.0, spread=1.0, kind="BF16"):
        """A tensor both hold, of numbers that bf16 holds."""
        n = 1
        for dim in shape:
            n *= dim
        values = [to_bf16(self.random.gauss(mean, spread)) for _ in range(n)]
        data = b"".join(map(bf16, values)) if kind == "BF16" else struct.pack(f"<{n}f", *values)
        self.stored[name] = self.twin[name] = (kind, list(shape), data)

    def matrix(self, name, rows, columns):
        """Elements in both."""
        self.numbers(name, (rows, columns), spread=columns**-0.5)

    def codes(self, rows, columns):
        """A grid of codes with its scales: (rows of codes, rows of scales)."""
        codes = [bytes(self.random.randrange(2) << 7 | self.random.randrange(72) for _ in range(columns)) for _ in range(rows)]
        rms = 1.1  # of codes below 72: magnitudes to 3.75
        exponent = -1
        while 2.0**exponent * rms * 1.4 > columns**-0.5:
            exponent -= 1
        scales = [[(8 + self.random.randrange(8)) / 8 * 2.0**exponent for _ in range(blocks(columns))] for _ in range(blocks(rows))]
        return codes, scales

    def store_codes(self, name, codes, scales):
        self.stored[name] = ("F8_E4M3", [len(codes), len(codes[0])], b"".join(codes))
        flat = [scale for row in scales for scale in row]
        data = b"".join(map(bf16, flat)) if self.scale_type == "BF16" else struct.pack(f"<{len(flat)}f", *flat)
        self.stored[name + "_scale_inv"] = (self.scale_type, [len(scales), len(scales[0])], data)

    @staticmethod
    def multiplied(codes, scales, begin, end):
        """Rows of a grid as bf16."""
        return b"".join(bf16(VALUES[code] * scales[row // BLOCK][k // BLOCK])
                        for row in range(begin, end) for k, code in enumerate(codes[row]))

    def quantised(self, name, rows, columns):
        codes, scales = self.codes(rows, columns)
        self.store_codes(name, codes, scales)
        self.twin[name] = ("BF16", [rows, columns], self.multiplied(codes, scales, 0, rows))

    def fused(self, prefix, parts, columns, chunks):
        """parts: name -> rows. Every chunk holds its share of each part, one above the other, under a grid of its own."""
        codes, scales, split = [], [], {name: b"" for name in parts}
        for _ in range(chunks):
            share_codes, share_scales = self.codes(sum(parts.values()) // chunks, columns)
            codes += share_codes
            scales += share_scales
            begin = 0
            for name, rows in parts.items():
                split[name] += self.multiplied(share_codes, share_scales, begin, begin + rows // chunks)
                begin += rows // chunks
        self.store_codes(prefix + "qkv_proj.weight", codes, scales)
        for name, rows in parts.items():
            self.twin[f"{prefix}{name}_proj.weight"] = ("BF16", [rows, columns], split[name])

    def mlp(self, prefix, inner, hidden):
        for name in ("gate", "up"):
            self.quantised(f"{prefix}{name}_proj.weight", inner, hidden)
        self.quantised(f"{prefix}down_proj.weight", hidden, inner)

    def norm(self, name, size):
        self.numbers(name, (size,), mean=1.0, spread=0.1)

    def ends(self, vocab, hidden):
        self.numbers("model.embed_tokens.weight", (vocab, hidden))
        self.matrix("lm_head.weight", vocab, hidden)
        self.norm("model.norm.weight", hidden)


def write_tensors(path, tensors):
    header, begin = {"__metadata__": {"format": "pt"}}, 0
    for name, (kind, shape, data) in sorted(tensors.items()):
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [begin, begin + len(data)]}
        begin += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(tensors[name][2] for name in sorted(tensors)))


def write(root, name, pair, config, quantised_keys):
    for folder, tensors, keys in ((root / name, pair.stored, {**config, **quantised_keys}), (root / f"{name}-twin", pair.twin, config)):
        folder.mkdir(parents=True, exist_ok=True)
        write_tensors(folder / "model.safetensors", tensors)
        (folder / "config.json").write_text(json.dumps(keys, indent=2) + "\n")


def quantization(**more):
    return {"quantization_config": {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
                                    "weight_block_size": [BLOCK, BLOCK], **more}}


def mimo(root, name, seed, chunks, heads, kv_heads, swa_kv_heads, k_dim, v_dim, layers):
    """`layers`: (sliding, sparse) of each. One count of chunks fits the full layers; the sliding ones alone would leave a choice."""
    hidden, dense, inner, experts, vocab = 136, 144, 40, 3, 64
    pair = Pair(seed)
    pair.ends(vocab, hidden)
    for index, (sliding, sparse) in enumerate(layers):
        layer = f"model.layers.{index}."
        kv = swa_kv_heads if sliding else kv_heads
        pair.norm(layer + "input_layernorm.weight", hidden)
        pair.norm(layer + "post_attention_layernorm.weight", hidden)
        pair.fused(layer + "self_attn.", {"q": heads * k_dim, "k": kv * k_dim, "v": kv * v_dim}, hidden, chunks)
        pair.matrix(layer + "self_attn.o_proj.weight", hidden, heads * v_dim)
        if sliding:
            pair.numbers(layer + "self_attn.attention_sink_bias", (heads,))
        if not sparse:
            pair.mlp(layer + "mlp.", dense, hidden)
            continue
        pair.numbers(layer + "mlp.gate.weight", (experts, hidden), spread=hidden**-0.5, kind="F32")
        pair.numbers(layer + "mlp.gate.e_score_correction_bias", (experts,), spread=0.1, kind="F32")
        for expert in range(experts):
            pair.mlp(f"{layer}mlp.experts.{expert}.", inner, hidden)
    for extra in ("model.mtp.layers.0.enorm.weight", "model.mtp.layers.0.hnorm.weight", "visual.merger.ln_q.weight"):
        pair.numbers(extra, (8,))
        del pair.twin[extra]
    config = {
        "architectures": ["MiMoV2ForCausalLM"], "model_type": "mimo_v2", "dtype": "bfloat16", "vocab_size": vocab,
        "hidden_size": hidden, "num_hidden_layers": len(layers), "intermediate_size": dense, "hidden_act": "silu",
        "layernorm_epsilon": 1e-5, "num_attention_heads": heads, "num_key_value_heads": kv_heads, "head_dim": k_dim,
        "v_head_dim": v_dim, "swa_num_attention_heads": heads, "swa_num_key_value_heads": swa_kv_heads, "swa_head_dim": k_dim,
        "swa_v_head_dim": v_dim, "hybrid_layer_pattern": [int(sliding) for sliding, _ in layers], "sliding_window": 24,
        "attention_bias": False, "add_swa_attention_sink_bias": True, "add_full_attention_sink_bias": False,
        "attention_value_scale": 0.707, "rope_theta": 10000000, "swa_rope_theta": 10000, "partial_rotary_factor": 0.334,
        "moe_layer_freq": [int(sparse) for _, sparse in layers], "moe_intermediate_size": inner, "n_routed_experts": experts,
        "n_shared_experts": None, "num_experts_per_tok": 2, "scoring_func": "sigmoid", "topk_method": "noaux_tc", "n_group": 1,
        "topk_group": 1, "norm_topk_prob": True, "routed_scaling_factor": None, "tie_word_embeddings": False,
        "max_position_embeddings": 4096,
    }
    exempt = [f"model.layers.{index}.self_attn.o_proj" for index in range(len(layers))]
    write(root, name, pair, config, {"attention_projection_layout": "fused_qkv", **quantization(
        store_dtype="fp8", ignored_layers=exempt + ["model.decoder.self_attn.o_proj"])})


def qwen3(root, name, seed):
    """Scales in bf16; values of the head's width begin inside a block nowhere, but every matrix ends inside one."""
    hidden, inner, heads, kv_heads, head_dim, vocab, n_layers = 136, 200, 3, 1, 64, 64, 2
    pair = Pair(seed, scale_type="BF16")
    pair.ends(vocab, hidden)
    for index in range(n_layers):
        layer = f"model.layers.{index}."
        pair.norm(layer + "input_layernorm.weight", hidden)
        pair.norm(layer + "post_attention_layernorm.weight", hidden)
        for part, rows in (("q", heads * head_dim), ("k", kv_heads * head_dim), ("v", kv_heads * head_dim)):
            pair.quantised(f"{layer}self_attn.{part}_proj.weight", rows, hidden)
        pair.quantised(layer + "self_attn.o_proj.weight", hidden, heads * head_dim)
        pair.norm(layer + "self_attn.q_norm.weight", head_dim)
        pair.norm(layer + "self_attn.k_norm.weight", head_dim)
        pair.mlp(layer + "mlp.", inner, hidden)
    config = {
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "torch_dtype": "bfloat16", "vocab_size": vocab,
        "hidden_size": hidden, "num_hidden_layers": n_layers, "intermediate_size": inner, "hidden_act": "silu",
        "rms_norm_eps": 1e-6, "num_attention_heads": heads, "num_key_value_heads": kv_heads, "head_dim": head_dim,
        "attention_bias": False, "rope_theta": 1000000, "tie_word_embeddings": False, "max_position_embeddings": 4096,
    }
    write(root, name, pair, config, quantization(modules_to_not_convert=["lm_head"]))


def deepseek(root, name, seed):
    """A latent of one block and a bit, its rotary key behind it; kv_b's heads cut blocks."""
    hidden, dense, inner, heads, vocab, n_layers, experts = 136, 144, 40, 3, 64, 2, 4
    q_lora, kv_lora, nope, rope, v_dim = 72, 136, 24, 8, 16
    pair = Pair(seed)
    pair.ends(vocab, hidden)
    for index in range(n_layers):
        layer = f"model.layers.{index}."
        pair.norm(layer + "input_layernorm.weight", hidden)
        pair.norm(layer + "post_attention_layernorm.weight", hidden)
        pair.quantised(layer + "self_attn.q_a_proj.weight", q_lora, hidden)
        pair.norm(layer + "self_attn.q_a_layernorm.weight", q_lora)
        pair.quantised(layer + "self_attn.q_b_proj.weight", heads * (nope + rope), q_lora)
        pair.quantised(layer + "self_attn.kv_a_proj_with_mqa.weight", kv_lora + rope, hidden)
        pair.norm(layer + "self_attn.kv_a_layernorm.weight", kv_lora)
        pair.quantised(layer + "self_attn.kv_b_proj.weight", heads * (nope + v_dim), kv_lora)
        pair.quantised(layer + "self_attn.o_proj.weight", hidden, heads * v_dim)
        if index == 0:
            pair.mlp(layer + "mlp.", dense, hidden)
            continue
        pair.matrix(layer + "mlp.gate.weight", experts, hidden)
        pair.numbers(layer + "mlp.gate.e_score_correction_bias", (experts,), spread=0.1, kind="F32")
        pair.mlp(layer + "mlp.shared_experts.", inner, hidden)
        for expert in range(experts):
            pair.mlp(f"{layer}mlp.experts.{expert}.", inner, hidden)
    config = {
        "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "torch_dtype": "bfloat16", "vocab_size": vocab,
        "hidden_size": hidden, "num_hidden_layers": n_layers, "intermediate_size": dense, "hidden_act": "silu",
        "rms_norm_eps": 1e-6, "num_attention_heads": heads, "q_lora_rank": q_lora, "kv_lora_rank": kv_lora,
        "qk_nope_head_dim": nope, "qk_rope_head_dim": rope, "v_head_dim": v_dim, "rope_theta": 10000,
        "first_k_dense_replace": 1, "moe_layer_freq": 1, "moe_intermediate_size": inner, "n_routed_experts": experts,
        "n_shared_experts": 1, "num_experts_per_tok": 2, "scoring_func": "sigmoid", "topk_method": "noaux_tc", "n_group": 1,
        "topk_group": 1, "norm_topk_prob": True, "routed_scaling_factor": 2.5, "tie_word_embeddings": False,
        "max_position_embeddings": 4096,
    }
    write(root, name, pair, config, quantization())


def main():
    here = pathlib.Path(__file__).resolve().parent
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else here.parent.parent / "tests/goldens/models"
    full, sliding, dense, sparse = False, True, False, True
    mimo(root, "mimo-fp8-2chunks", 1, chunks=2, heads=4, kv_heads=2, swa_kv_heads=4, k_dim=48, v_dim=32,
         layers=[(full, dense), (sliding, sparse), (full, sparse)])
    mimo(root, "mimo-fp8-4chunks", 2, chunks=4, heads=8, kv_heads=4, swa_kv_heads=8, k_dim=40, v_dim=24,
         layers=[(full, dense), (sliding, sparse)])
    qwen3(root, "qwen3-fp8", 3)
    deepseek(root, "deepseek-fp8", 4)


if __name__ == "__main__":
    main()
