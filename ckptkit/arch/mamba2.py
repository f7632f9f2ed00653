"""Mamba 2: heads of one decay each, groups of B and C, a gated norm.

Source: transformers models/mamba2.
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import D, H, decoder, flags, hf, last, may
from ckptkit.arch._libraries.forward import unturned
from ckptkit.arch._libraries.gguf import B, both, gguf
from ckptkit.arch._libraries.gguf_state import ALONE, DECAYS, ENDLESS, FREE, MAMBA2_KEYS, NOTHING, limited, twice
from ckptkit.arch._libraries.gguf_state import mamba2_rows as mamba2_ggml
from ckptkit.arch._libraries.state_space import MAMBA2, MAMBA2_SIZES, UNREAD, mamba2, mamba2_rows
from ckptkit.arch.mamba import KEYS
from ckptkit.schema import Besides, embedding, norm

MODULES = {
    "embeddings.word": embedding("vocab hidden"),
    D + "state.in_norm": norm("hidden", bias=False),
    **mamba2(),
    **last(),
}
OTHERS = ("inner", "step_rank", "state")
HF = hf(
    "mamba2",
    "Mamba2",
    MODULES,
    prefixes=("backbone.", ""),
    positions={},
    eps="layer_norm_epsilon",
    besides=Besides(),
    names={"embeddings.word": "~embeddings", D + "state.in_norm": H + "norm", "decoder.norm": "~norm_f"},
    sizes=KEYS,
    rows=mamba2_rows(H + "mixer."),
    keys={
        **flags("use_bias", "use_conv_bias", "expand", "time_step_limit"),
        "num_heads": "state_heads",
        "n_groups": may("state_groups"),
    },
    usual={**UNREAD, "time_step_rank": ...},
    without=("kv_heads", "rope_theta", "head_dim", *OTHERS),
    defaults={
        "activation": "silu",
        "norm_eps": 1e-5,
        "tied": False,
        "use_bias": False,
        "use_conv_bias": True,
        "state_groups": 8,
        "expand": 2,
    },
)
HF = HF._replace(config=HF.config._replace(keys={**HF.config.keys, "state_size": may("state_size"), "head_dim": may("state_head_dim")}))

GGUF = gguf(
    "mamba2", MODULES, rows=mamba2_ggml(), names={D + "state.in_norm": B + "attn_norm"}, keys={**MAMBA2_KEYS, **ALONE}, rope=None,
    implied={"activation": "silu", "use_bias": False, "use_conv_bias": True}, window=ENDLESS, also=NOTHING, free=FREE,
    conflicts=both(twice, limited), adjust=DECAYS,
)  # fmt: skip

ARCHITECTURE = decoder(
    "mamba2",
    "Mamba 2",
    MODULES,
    HF,
    GGUF,
    heads=(),
    required=(),
    relations=MAMBA2_SIZES,
    traits=unturned(**MAMBA2),
    variants={
        "mamba2-130m": {"layers": 24, "hidden": 768},
        "mamba2-2.7b": {"layers": 64, "hidden": 2560},
        "mamba-codestral-7b": {"layers": 64, "hidden": 4096},
    },
)
