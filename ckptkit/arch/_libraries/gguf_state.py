"""The `gguf` dialects of state-space layers: Mamba 1 and 2, alone and beside attention.

Sources: conversion/mamba.py, granite.py, falcon_h1.py and nemotron.py of llama.cpp, src/models/mamba.cpp, mamba2.cpp and
granite-hybrid.cpp. What decays is stored as minus its exponential; the gated norm lies by groups; a hybrid says with its heads of keys, 0
where a layer has none, which layers have attention.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from ckptkit.arch._libraries.decoders import Values, joined, may
from ckptkit.arch._libraries.gguf import B, Window
from ckptkit.arch._libraries.layer_kinds import of_types
from ckptkit.arch._libraries.state_space import GROUP, IN_PROJ, S
from ckptkit.schema import MINUS_EXP, Key

SSM = B + "ssm_"
DECAYS = {S + "a_log": MINUS_EXP}
ENDLESS = Window("", usual=1 << 20)  # the positions of a model that counts none
Rows = dict[str, str | tuple[str, ...]]


def mamba_rows() -> Rows:
    """The rows of `state_space.mamba`; its linear layers have no place for biases."""
    return {
        **joined(SSM + "in", "*(inner)", "hidden", (S + "input", S + "gate")),
        **joined(SSM + "x", "*(step_rank state)", "inner", (S + "step_low", S + "b", S + "c")),
        SSM + "conv1d.weight": (S + "conv.weight", "inner kernel"), SSM + "conv1d.bias": S + "conv.bias", SSM + "dt": S + "step",
        SSM + "a": S + "a_log", SSM + "d": S + "d", SSM + "out.weight": S + "out.weight",
    }  # fmt: skip


def mamba2_rows(*, gated_norm: bool = True) -> Rows:
    """The rows of `state_space.mamba2`."""
    conv = [S + p for p in ("conv_input", "conv_b", "conv_c")]
    rows: Rows = {
        **joined(SSM + "in", f"*(inner {GROUP} state_heads)", "hidden", [S + p for p in IN_PROJ]),
        SSM + "conv1d.weight": (*(f"{c}.weight" for c in conv), f"*(inner {GROUP}) kernel"),
        SSM + "conv1d.bias": (*(f"{c}.bias" for c in conv), f"*(inner {GROUP})"), SSM + "dt.bias": S + "step_bias",
        SSM + "a": (S + "a_log", "state_heads 1"), SSM + "d": (S + "d", "state_heads 1"), SSM + "out.weight": S + "out.weight",
    }  # fmt: skip
    return rows | ({SSM + "norm.weight": (S + "norm.weight", "state_groups group_width")} if gated_norm else {})


MAMBA_KEYS: dict[str, str | Key] = {
    "ssm.conv_kernel": "kernel", "ssm.inner_size": may("inner"), "ssm.state_size": may("state"), "ssm.time_step_rank": may("step_rank"),
}  # fmt: skip
MAMBA2_KEYS: dict[str, str | Key] = {
    "ssm.conv_kernel": "kernel", "ssm.inner_size": may("inner"), "ssm.state_size": may("state_size"),
    "ssm.time_step_rank": may("state_heads"), "ssm.group_count": may("state_groups"),
}  # fmt: skip
ALONE: dict[str, str | Key] = {  # keys that a model without attention and feed-forward does not have
    **dict.fromkeys((
        "attention.head_count_kv", "attention.key_length", "attention.value_length", "attention.head_count", "feed_forward_length",
    ), ""),
}  # fmt: skip
NOTHING: dict[str, object] = {"feed_forward_length": 0, "attention.head_count": 0}
FREE: dict[str, object] = dict.fromkeys(
    ("expand", "use_bias", "use_conv_bias", "mamba_proj_bias", "mamba_conv_bias", "state_head_dim", "time_step_limit"), ...
)


def twice(values: Values) -> Iterator[tuple[str, str]]:
    """llama.cpp's mixers are twice as wide as the model."""
    inner, hidden = values.get("inner"), values.get("hidden")
    if isinstance(inner, int) and isinstance(hidden, int) and inner != 2 * hidden:
        yield "expand", "its code of this architecture takes 2"


def one_epsilon(values: Values) -> Iterator[tuple[str, str]]:
    """llama.cpp norms step, B and C with the layers' epsilon."""
    own, common = values.get("mixer_rms_eps"), values.get("norm_eps")
    if own is not None and own != common:
        yield "mixer_rms_eps", f"llama.cpp norms step, B and C with {common} instead of {own}: outputs differ slightly"


def limited(values: Values) -> Iterator[tuple[str, str]]:
    """llama.cpp's steps have no limits."""
    limit = values.get("time_step_limit")
    if isinstance(limit, (list, tuple)) and [*limit] not in ([0.0, float("inf")], [0.0, {"__float__": "Infinity"}]):
        yield "time_step_limit", "it has no limits of steps"


def keys_by_layer(*words: str) -> Callable[[Values], list[int] | None]:
    """The heads of keys in each layer, 0 where it has no attention; `words`: what a list of layers calls attention."""

    def made(values: Values) -> list[int] | None:
        kinds, heads = of_types("layer_types", *words)(values), values.get("kv_heads")
        return [heads if k else 0 for k in kinds] if kinds is not None and isinstance(heads, int) else None

    return made


def listed(keys: Mapping[str, str | Key]) -> dict[str, str | Key]:
    """`keys` where the heads of keys are listed by layer."""
    own: dict[str, str | Key] = {
        "attention.head_count_kv": "", "derived.kv_heads": may("kv_heads"), "derived.layer_types": may("layer_types"),
    }  # fmt: skip
    return {**keys, **own}
