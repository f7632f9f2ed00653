"""Falcon H1: Mamba 2's mixer and attention side by side in every layer, with a multiplier for nearly everything.

Source: transformers models/falcon_h1 (one norm before both; the multipliers stand in the configuration and are in no weight).
"""

from __future__ import annotations

from collections.abc import Iterator

from ckptkit.arch._libraries.decoders import WORDS, D, H, Values, attention, decoder, flags, gated, hf, last, may
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch._libraries.gguf import B, both, gguf
from ckptkit.arch._libraries.gguf_state import DECAYS, FREE, MAMBA2_KEYS, limited
from ckptkit.arch._libraries.gguf_state import mamba2_rows as mamba2_ggml
from ckptkit.arch._libraries.state_space import GROUPED, MAMBA2, S, mamba2, mamba2_rows
from ckptkit.arch.bamba import FEED_FORWARD
from ckptkit.arch.llama import shape
from ckptkit.schema import linear, norm, when

MODULES = {
    **WORDS,
    **attention(bias="attention_bias", out_bias="attention_bias"),
    **mamba2(bias="mamba_proj_bias", conv_bias="mamba_conv_bias", gated_norm=False),
    S + "norm": when("mamba_rms_norm", norm("(state_groups group_width)", bias=False)),
    S + "out": linear("hidden", "inner", bias="projectors_bias"),
    **gated(bias="mlp_bias"),
    **last(),
}
MULTIPLIERS = (
    "embedding_multiplier", "lm_head_multiplier", "key_multiplier", "attention_in_multiplier", "attention_out_multiplier",
    "ssm_in_multiplier", "ssm_out_multiplier",
)  # fmt: skip
SCALES = {
    **{f"attention.{at}": f"=attention_{at}_multiplier" for at in ("in", "out")},
    **{f"state.{at}": f"=ssm_{at}_multiplier" for at in ("in", "out")},
    "state.parts": "=ssm_multipliers",
    "ffn.parts": "=mlp_multipliers",
}
HF = hf(
    "falcon_h1", "FalconH1", MODULES, names=FEED_FORWARD, rows=mamba2_rows(H + "mamba."),
    keys={
        **flags("attention_bias", "mlp_bias", "mamba_proj_bias", "mamba_conv_bias", "projectors_bias", "mamba_rms_norm", *MULTIPLIERS),
        **flags("mlp_multipliers", "ssm_multipliers", "mamba_norm_before_gate", "time_step_limit"), "mamba_n_groups": may("state_groups"),
        "mamba_n_heads": "state_heads", "mamba_d_ssm": may("inner"), "mamba_d_conv": "kernel", "mamba_d_state": may("state_size"),
        **flags("mamba_d_head", "mamba_expand"),
    },
    defaults={
        "activation": "silu", "norm_eps": 1e-5, "kv_heads": 8, "attention_bias": False, "mlp_bias": False, "mamba_proj_bias": False,
        "mamba_conv_bias": True, "projectors_bias": False, "mamba_rms_norm": False, "mamba_norm_before_gate": True, "kernel": 4,
        **dict.fromkeys(MULTIPLIERS, 1.0), "mlp_multipliers": (1.0,) * 2, "ssm_multipliers": (1.0,) * 5, "state_groups": 1,
    },
    usual=dict.fromkeys(("mamba_chunk_size", "num_logits_to_keep", "mamba_use_mlp", "attn_layer_indices", "layers_block_type"), ...),
)  # fmt: skip


OTHERS = ("mlp_multipliers", "ssm_multipliers", "mamba_norm_before_gate", "mamba_n_groups", "mamba_d_head", "mamba_expand")


def multiplied(values: Values) -> Iterator[tuple[str, str]]:
    """What the configuration multiplies with is in a GGUF file's weights."""
    for name in (*MULTIPLIERS, "mlp_multipliers", "ssm_multipliers"):
        said = values.get(name)
        if any(v not in (None, 1) for v in (said if isinstance(said, (list, tuple)) else (said,))):
            yield name, "a GGUF file has its weights multiplied with it"
    if values.get("mamba_rms_norm") and values.get("mamba_norm_before_gate") is True:
        yield "mamba_norm_before_gate", "its code of this architecture norms after the gate"


GGUF = gguf(
    "falcon-h1", MODULES, rows={**mamba2_ggml(), B + "ffn_norm": D + "ffn.norm.weight"}, implied={"activation": "silu"}, keys=MAMBA2_KEYS,
    without=(D + "ffn.norm",),
    defaults=dict.fromkeys(MULTIPLIERS, 1.0),
    free={**FREE, **dict.fromkeys((*MULTIPLIERS, *OTHERS), ...)},
    conflicts=both(multiplied, limited), adjust=DECAYS,
)  # fmt: skip

ARCHITECTURE = decoder(
    "falcon_h1", "Falcon H1", MODULES, HF, GGUF, relations=(GROUPED,),
    traits=runs(
        **MAMBA2, gate_late="=mamba_norm_before_gate", embedding_scale="=embedding_multiplier", logit_scale="=lm_head_multiplier",
        score_growth="=key_multiplier", scales=SCALES,
    ),
    variants={
        "falcon-h1-0.5b": shape(36, 1024, 8, 2, 2048, 32784),
        "falcon-h1-1.5b": shape(24, 2048, 8, 2, 4096, 65537),
        "falcon-h1-1.5b-deep": shape(66, 1280, 6, 2, 3072, 65537),
        "falcon-h1-3b": shape(32, 2560, 10, 2, 10240, 65537),
        "falcon-h1-7b": shape(44, 3072, 12, 2, 12288, 130048),
        "falcon-h1-34b": shape(72, 5120, 20, 4, 21504, 261120),
    },
)  # fmt: skip
