"""A DFlash draft: a few attention layers that read hidden states of a target and propose a block of tokens at once.

Plain PyTorch, whole sequences, no cache: what it computes is what an engine with a cache must.
"""

import json
import pathlib

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

# What the zoo's drafts are. Each is smaller than its target's cache in another ratio.
ARCHITECTURES = {
    # Windowed, sinks, half of each head turned; its pages stand to the target's full layers' as 4 to 5.
    "mimo-tiny": dict(num_attention_heads=8, num_key_value_heads=1, head_dim=32,
                      partial_rotary_factor=0.5, num_hidden_layers=3,
                      dflash_config=dict(target_layer_ids=[0, 2, 4], use_swa=True, swa_window_size=96,
                                         attention_sink_bias=True)),
    "deepseek-tiny": dict(num_attention_heads=8, num_key_value_heads=2, head_dim=32,
                          num_hidden_layers=3, layer_types=["full_attention"] * 3,
                          dflash_config=dict(target_layer_ids=[0, 2, 3])),
    "qwen-tiny": dict(num_attention_heads=4, num_key_value_heads=1, head_dim=48,
                      num_hidden_layers=3, layer_types=["full_attention"] * 3,
                      dflash_config=dict(target_layer_ids=[1, 3, 6])),
}


def config_of(name, target, mask_token):
    own = ARCHITECTURES[name]
    return {
        "architectures": ["DFlashDraftModel"], "model_type": "qwen3", "dtype": "bfloat16",
        "hidden_size": target.hidden_size, "intermediate_size": 384, "hidden_act": "silu",
        "attention_bias": False, "vocab_size": target.vocab_size, "rms_norm_eps": 1e-6,
        "max_position_embeddings": target.max_position_embeddings, "rope_theta": 10000.0,
        "tie_word_embeddings": False, "block_size": 8,
        "num_target_layers": target.num_hidden_layers, **own,
        "dflash_config": {"mask_token_id": mask_token, **own["dflash_config"]},
    }


class RmsNorm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x):
        y = x.float()
        return (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.eps)).to(x.dtype) * self.weight


def rotate(x, positions, theta, width):
    """x [..., T, heads, head_dim], positions [..., T]: the first `width` dims turn, i paired with i + width / 2."""
    frequencies = theta ** (-torch.arange(0, width, 2, device=x.device).float() / width)
    angles = (positions.float()[..., None] * frequencies)[..., None, :]
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    a, b, rest = x[..., :width // 2], x[..., width // 2:width], x[..., width:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], -1)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c, h, d = c, c["hidden_size"], c["head_dim"]
        self.rotary = int(d * c.get("partial_rotary_factor", 1.0))
        self.q_proj = nn.Linear(h, c["num_attention_heads"] * d, bias=False)
        self.k_proj = nn.Linear(h, c["num_key_value_heads"] * d, bias=False)
        self.v_proj = nn.Linear(h, c["num_key_value_heads"] * d, bias=False)
        self.o_proj = nn.Linear(c["num_attention_heads"] * d, h, bias=False)
        self.q_norm, self.k_norm = RmsNorm(d, c["rms_norm_eps"]), RmsNorm(d, c["rms_norm_eps"])
        if c["dflash_config"].get("attention_sink_bias"):
            self.attention_sink_bias = nn.Parameter(torch.zeros(c["num_attention_heads"]))

    def heads(self, x):
        return x.unflatten(-1, (-1, self.c["head_dim"]))

    def keys(self, x, positions):
        k = rotate(self.k_norm(self.heads(self.k_proj(x))), positions, self.c["rope_theta"], self.rotary)
        return k, self.heads(self.v_proj(x))

    def forward(self, x, positions, context, context_positions, mask):
        """x [B, N, H]; context [B, S, H]; mask [B, N, S + N], true where a row may look."""
        q = rotate(self.q_norm(self.heads(self.q_proj(x))), positions, self.c["rope_theta"], self.rotary)
        k0, v0 = self.keys(context, context_positions)
        k1, v1 = self.keys(x, positions)
        group = self.c["num_attention_heads"] // self.c["num_key_value_heads"]
        k = torch.cat([k0, k1], 1).repeat_interleave(group, 2)
        v = torch.cat([v0, v1], 1).repeat_interleave(group, 2)
        scores = torch.einsum("bnhd,bshd->bhns", q, k).float() * self.c["head_dim"] ** -0.5
        scores = scores.masked_fill(~mask[:, None], float("-inf"))
        if hasattr(self, "attention_sink_bias"):
            sink = self.attention_sink_bias.float()[None, :, None, None].expand(*scores.shape[:3], 1)
            share = torch.cat([scores, sink], -1).softmax(-1)[..., :-1]
        else:
            share = scores.softmax(-1)
        return self.o_proj(torch.einsum("bhns,bshd->bnhd", share.to(v.dtype), v).flatten(2))


class Mlp(nn.Module):
    def __init__(self, c):
        super().__init__()
        h, i = c["hidden_size"], c["intermediate_size"]
        self.gate_proj, self.up_proj = nn.Linear(h, i, bias=False), nn.Linear(h, i, bias=False)
        self.down_proj = nn.Linear(i, h, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.self_attn, self.mlp = Attention(c), Mlp(c)
        self.input_layernorm = RmsNorm(c["hidden_size"], c["rms_norm_eps"])
        self.post_attention_layernorm = RmsNorm(c["hidden_size"], c["rms_norm_eps"])

    def forward(self, x, *where):
        x = x + self.self_attn(self.input_layernorm(x), *where)
        return x + self.mlp(self.post_attention_layernorm(x))


class Draft(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c, h = c, c["hidden_size"]
        self.fc = nn.Linear(len(c["dflash_config"]["target_layer_ids"]) * h, h, bias=False)
        self.hidden_norm, self.norm = RmsNorm(h, c["rms_norm_eps"]), RmsNorm(h, c["rms_norm_eps"])
        self.layers = nn.ModuleList(Layer(c) for _ in range(c["num_hidden_layers"]))

    def mask(self, anchors, length, block):
        """Blocks at `anchors` [B, A] over a context of `length`: a row sees the context before its block, and its block."""
        B, A = anchors.shape
        at = anchors.repeat_interleave(block, 1)  # [B, A * block]
        position = at + torch.arange(block, device=at.device).repeat(A)
        context = torch.arange(length, device=at.device)[None, None]
        seen = context < at[..., None]
        window = self.c["dflash_config"].get("swa_window_size") if self.c["dflash_config"].get("use_swa") else None
        if window:
            seen &= context > position[..., None] - window
        number = torch.arange(A, device=at.device).repeat_interleave(block)
        same = (number[:, None] == number[None]).expand(B, -1, -1)
        return position, torch.cat([seen, same], -1)

    def forward(self, taps, embedding, ids, anchors):
        """taps [B, S, n_taps * H]; ids [B, A, block], what stands in the blocks. -> [B, A, block, H]"""
        B, A, block = ids.shape
        context = self.hidden_norm(self.fc(taps))
        places = torch.arange(taps.shape[1], device=taps.device)[None].expand(B, -1)
        position, mask = self.mask(anchors, taps.shape[1], block)
        x = F.embedding(ids.flatten(1), embedding)
        for layer in self.layers:
            x = layer(x, position, context, places, mask)
        return self.norm(x).unflatten(1, (A, block))


def save(draft, folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.detach().to(torch.bfloat16).cpu().contiguous() for k, v in draft.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(draft.c, indent=1) + "\n")


def load(folder, device="cpu"):
    folder = pathlib.Path(folder)
    draft = Draft(json.loads((folder / "config.json").read_text()))
    draft.load_state_dict({k: v.float() for k, v in load_file(folder / "model.safetensors").items()})
    return draft.to(device).eval()
