"""State-space and linear-attention layers, and the convolutions beside them, under canonical and transformers' names.

Sources: transformers models/mamba, mamba2, bamba, qwen3_next, lfm2 (a convolution keeps one row a channel: [channels, 1, kernel]).
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import D, H, joined, may
from ckptkit.schema import Key, Module, linear, norm, param

S = D + "state."
UNREAD = dict.fromkeys(  # how new weights start, and how the library computes what it computes
    (
        "rescale_prenorm_residual", "residual_in_fp32", "time_step_floor", "time_step_init_scheme", "time_step_max", "time_step_min",
        "time_step_scale", "use_associative_scan", "use_mambapy", "use_falcon_mambapy", "use_mamba_kernels", "chunk_size",
        "mamba_chunk_size", "num_logits_to_keep", "z_loss_coefficient",
    ),
    ...,
)  # fmt: skip


def convolution(channels: str, kernel: str = "kernel", *, bias: bool | str = False) -> Module:
    """A convolution along the text, a row for each channel."""
    channels = f"({channels})" if " " in channels and not channels.startswith("(") else channels
    params: tuple[tuple[str, str], ...] = (("weight", f"{channels} 1 {kernel}"),)
    params += (("bias", channels),) if bias else ()
    return Module("linear", params, switches={"bias": bias} if isinstance(bias, str) else {})


def mamba(*, bias: bool | str = "use_bias", conv_bias: bool | str = "use_conv_bias") -> dict[str, Module]:
    """Mamba 1's mixer: what goes in and its gate from one matrix, step, B and C of what went in."""
    return {
        S + "input": linear("inner", "hidden", bias=bias),
        S + "gate": linear("inner", "hidden", bias=bias),
        S + "conv": convolution("inner", bias=conv_bias),
        S + "step_low": linear("step_rank", "inner", bias=False),
        S + "b": linear("state", "inner", bias=False),
        S + "c": linear("state", "inner", bias=False),
        S + "step": linear("inner", "step_rank"),
        S + "a_log": param("inner state"),
        S + "d": param("inner"),
        S + "out": linear("hidden", "inner", bias=bias),
    }


def mamba_rows(at: str, *, bias: bool = True) -> dict[str, str | tuple[str, ...]]:
    """The names of `mamba`'s modules below `at` ("~layers.{layer}.mixer.")."""
    return {
        **joined(at + "in_proj", "*(inner)", "hidden", (S + "input", S + "gate"), bias=bias),
        **joined(at + "x_proj", "*(step_rank state)", "inner", (S + "step_low", S + "b", S + "c")),
        at + "conv1d": S + "conv", at + "dt_proj": S + "step", at + "A_log": S + "a_log", at + "D": S + "d", at + "out_proj": S + "out",
    }  # fmt: skip


GROUP = "state_groups state_size"


def mamba2(*, bias: bool | str = "use_bias", conv_bias: bool | str = "use_conv_bias", gated_norm: bool = True) -> dict[str, Module]:
    """Mamba 2's mixer: heads of one decay each, B and C for each group of them."""
    return {
        S + "gate": linear("inner", "hidden", bias=bias),
        S + "input": linear("inner", "hidden", bias=bias),
        S + "b": linear(GROUP, "hidden", bias=bias),
        S + "c": linear(GROUP, "hidden", bias=bias),
        S + "step": linear("state_heads", "hidden", bias=bias),
        S + "conv_input": convolution("inner", bias=conv_bias),
        S + "conv_b": convolution(GROUP, bias=conv_bias),
        S + "conv_c": convolution(GROUP, bias=conv_bias),
        S + "step_bias": param("state_heads"),
        S + "a_log": param("state_heads"),
        S + "d": param("state_heads"),
        **({S + "norm": norm("(state_groups group_width)", bias=False)} if gated_norm else {}),
        S + "out": linear("hidden", "inner", bias=bias),
    }


def mamba2_keys(prefix: str = "mamba_") -> dict[str, str | Key]:
    """The keys of Mamba 2's mixer in a hybrid."""
    return {
        prefix + "n_heads": "state_heads", prefix + "d_state": may("state_size"), prefix + "d_conv": "kernel",
        prefix + "n_groups": may("state_groups"), prefix + "expand": may("expand"),
        prefix + "d_head": Key("state_head_dim", required=False, unknown=("auto",)), "time_step_limit": may("time_step_limit"),
    }  # fmt: skip


MAMBA2 = {"mixer": "mamba2", "state_groups": "=state_groups", "step_limit": "=time_step_limit"}  # traits
GROUPED = "inner = state_groups group_width"
MAMBA2_SIZES = ("inner = expand hidden", "state_heads state_head_dim = inner", GROUPED)


IN_PROJ = ("gate", "input", "b", "c", "step")


def mamba2_rows(at: str, *, gated_norm: bool = True) -> dict[str, str | tuple[str, ...]]:
    """The names of `mamba2`'s modules below `at`."""
    rows: dict[str, str | tuple[str, ...]] = {
        **joined(at + "in_proj", f"*(inner {GROUP} state_heads)", "hidden", [S + p for p in IN_PROJ], bias=True),
        **joined(at + "conv1d", f"*(inner {GROUP})", "1 kernel", [S + p for p in ("conv_input", "conv_b", "conv_c")], bias=True),
        at + "dt_bias": S + "step_bias", at + "A_log": S + "a_log", at + "D": S + "d", at + "out_proj": S + "out",
    }  # fmt: skip
    return rows | ({at + "norm": S + "norm"} if gated_norm else {})


CHANNELS = "key_heads key_dim ratio state_dim"
DELTA_SIZES = ("value_heads = key_heads ratio",)


def delta() -> dict[str, Module]:
    """Qwen 3-next's linear attention: keys of fewer heads than values, a decay and a strength for each value head."""
    return {
        S + "query": linear("key_heads key_dim", "hidden", bias=False),
        S + "key": linear("key_heads key_dim", "hidden", bias=False),
        S + "value": linear("key_heads ratio state_dim", "hidden", bias=False),
        S + "gate": linear("key_heads ratio state_dim", "hidden", bias=False),
        S + "strength": linear("key_heads ratio", "hidden", bias=False),
        S + "decay": linear("key_heads ratio", "hidden", bias=False),
        S + "conv_query": convolution("key_heads key_dim"),
        S + "conv_key": convolution("key_heads key_dim"),
        S + "conv_value": convolution("key_heads ratio state_dim"),
        S + "step_bias": param("(key_heads ratio)"),
        S + "a_log": param("(key_heads ratio)"),
        S + "norm": norm("state_dim", bias=False),
        S + "out": linear("hidden", "key_heads ratio state_dim", bias=False),
    }


def delta_rows(*, grouped: bool) -> dict[str, str | tuple[str, ...]]:
    """The names of `delta`'s modules; `grouped`: its matrices go by key head."""
    at = H + "linear_attn."
    rows: dict[str, str | tuple[str, ...]] = {
        **joined(at + "conv1d", f"*({CHANNELS})", "1 kernel", [S + p for p in ("conv_query", "conv_key", "conv_value")]),
        at + "dt_bias": S + "step_bias", at + "A_log": S + "a_log", at + "norm": S + "norm", at + "out_proj": S + "out",
    }  # fmt: skip
    if grouped:
        all_four = (S + "query", S + "key", S + "value", S + "gate")
        return {
            **rows, **joined(at + "in_proj_qkvz", "(key_heads *(key_dim ratio state_dim))", "hidden", all_four),
            **joined(at + "in_proj_ba", "(key_heads *(ratio))", "hidden", (S + "strength", S + "decay")),
        }  # fmt: skip
    three = (S + "query", S + "key", S + "value")
    return {
        **rows, **joined(at + "in_proj_qkv", f"*({CHANNELS})", "hidden", three), at + "in_proj_z": S + "gate",
        at + "in_proj_b": S + "strength", at + "in_proj_a": S + "decay",
    }  # fmt: skip
