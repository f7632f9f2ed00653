"""Mamba 1: no attention at all, a state-space mixer in every layer.

Source: transformers models/mamba.
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import D, H, decoder, flags, hf, last, may
from ckptkit.arch._libraries.forward import unturned
from ckptkit.arch._libraries.gguf import B, gguf
from ckptkit.arch._libraries.gguf_state import ALONE, DECAYS, ENDLESS, FREE, MAMBA_KEYS, NOTHING, one_epsilon, twice
from ckptkit.arch._libraries.gguf_state import mamba_rows as mamba_ggml
from ckptkit.arch._libraries.state_space import UNREAD, mamba, mamba_rows
from ckptkit.schema import Besides, Dialect, Key, embedding, norm

MODULES = {
    "embeddings.word": embedding("vocab hidden"),
    D + "state.in_norm": norm("hidden", bias=False),
    **mamba(),
    **last(),
}
KEYS: dict[str, str | Key] = {
    "vocab_size": "vocab",
    "hidden_size": "hidden",
    "num_hidden_layers": "layers",
    "state_size": "state",
    "conv_kernel": "kernel",
    "intermediate_size": may("inner"),
    "time_step_rank": may("step_rank"),
    "tie_word_embeddings": "tied",
    "initializer_range": may("initializer_range"),
}


def form(model_type: str, stem: str) -> Dialect:
    """The disk form of Mamba, and of what has its names."""
    return hf(
        model_type,
        stem,
        MODULES,
        prefixes=("backbone.", ""),
        sizes=KEYS,
        positions={},
        eps="layer_norm_epsilon",
        besides=Besides(),
        names={"embeddings.word": "~embeddings", D + "state.in_norm": H + "norm", "decoder.norm": "~norm_f"},
        rows=mamba_rows(H + "mixer."),
        keys=flags("use_bias", "use_conv_bias", "mixer_rms_eps"),
        usual={**UNREAD, "expand": ...},  # intermediate_size is the width
        without=("kv_heads", "rope_theta", "head_dim"),
        defaults={"activation": "silu", "norm_eps": 1e-5, "tied": True, "use_bias": False, "use_conv_bias": True},
    )


def ggml(normed: bool) -> Dialect:
    """llama.cpp's names; `normed`: step, B and C are."""
    return gguf(
        "mamba", MODULES, rows=mamba_ggml(), names={D + "state.in_norm": B + "attn_norm"}, keys={**MAMBA_KEYS, **ALONE}, rope=None,
        implied={"activation": "silu", "use_bias": False, "use_conv_bias": True}, defaults={"tied": True}, window=ENDLESS,
        also={**NOTHING, "ssm.dt_b_c_rms": normed}, free={**FREE, "mixer_rms_eps": ...}, conflicts=twice,
        remarks=one_epsilon if normed else None,
        adjust=DECAYS,
    )  # fmt: skip


ARCHITECTURE = decoder(
    "mamba",
    "Mamba",
    MODULES,
    form("mamba", "Mamba"),
    ggml(normed=False),
    heads=(),
    required=(),
    traits=unturned(mixer="mamba"),
    variants={
        "mamba-130m": {"layers": 24, "hidden": 768},
        "mamba-370m": {"layers": 48, "hidden": 1024},
        "mamba-790m": {"layers": 48, "hidden": 1536},
        "mamba-1.4b": {"layers": 48, "hidden": 2048},
        "mamba-2.8b": {"layers": 64, "hidden": 2560},
    },
)
