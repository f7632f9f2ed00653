"""mlx-lm's naming: transformers' names, but for experts, of which a layer has one tensor for each of their three matrices.

Source: mlx-lm `models/*.py` (what `sanitize` makes of transformers' weights) and `models/rope_utils.py`: it reads how positions turn from
keys of their own, as transformers 4 wrote them, and takes its defaults where they are not there. A family whose names are the same has a
naming that is only written: its files are read as transformers'.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ckptkit.arch._libraries.decoder_words import E
from ckptkit.schema import Dialect, Files

Values = Mapping[str, object]
SAME = frozenset({  # the families that mlx-lm has under transformers' names
    "apertus", "cohere", "cohere2", "ernie4_5", "exaone4", "gemma", "gemma2", "gemma3", "glm4", "gpt_bigcode", "gpt_neox", "granite",
    "helium", "hunyuan_v1_dense", "llama", "ministral3", "mistral", "nemotron", "olmo2", "olmo3", "phi", "phi3", "qwen2",
    "qwen3", "seed_oss", "smollm3", "stablelm", "starcoder2",
})  # fmt: skip

H = "~layers.{layer}."
STACKED: Mapping[str, tuple[str, str]] = {  # where a layer's experts lie, and the axis of their width
    "dots1": (H + "mlp.experts.", "moe_intermediate"),
    "glm4_moe": (H + "mlp.switch_mlp.", "moe_intermediate"),
    "granitemoe": (H + "block_sparse_moe.switch_mlp.", "intermediate"),
    "mixtral": (H + "block_sparse_moe.switch_mlp.", "intermediate"),
    "olmoe": (H + "mlp.switch_mlp.", "intermediate"),
    "phimoe": (H + "block_sparse_moe.switch_mlp.", "intermediate"),
    "qwen2_moe": (H + "mlp.switch_mlp.", "moe_intermediate"),
    "qwen3_moe": (H + "mlp.switch_mlp.", "moe_intermediate"),
}


def scaling(values: Values) -> dict[str, object] | None:
    """How positions are stretched, as one object; None where they are not."""
    kind = values.get("rope_type")
    if kind in (None, "default"):
        return None
    words = {k.removeprefix("rope_"): v for k, v in values.items() if k.startswith("rope_") and v is not None}
    own = {k: v for k, v in words.items() if k not in ("theta", "part", "type", "interleave")}
    return {"rope_type": kind, "type": kind, **own}


def known(name: str) -> Callable[[Values], object]:
    """A canonical value, where it is known."""
    return lambda values: found if (found := values.get(name)) is not None else ...


ALSO: Mapping[str, Callable[[Values], object]] = {
    "rope_theta": known("rope_theta"), "partial_rotary_factor": known("rope_part"), "rope_scaling": scaling, "head_dim": known("head_dim"),
}  # fmt: skip
OWN: Mapping[str, Mapping[str, object]] = {  # keys that a family's code asks for besides
    "apertus": {"mlp_bias": False, "post_norm": False, "qk_norm": True},
    "exaone4": {"sliding_window_pattern": None},
    "gpt_neox": {"rotary_emb_base": known("rope_theta"), "rotary_pct": known("rope_part")},
}
COUNTED = {"num_experts": known("experts")}  # where transformers 5 counts them under another name


def words(disk: Dialect, also: Mapping[str, object] = ALSO) -> Dialect:
    """transformers' naming with what mlx-lm's files have besides."""
    config = disk.config._replace(also={**disk.config.also, **also})
    return disk._replace(name="mlx", title="mlx-lm", files=Files(metadata={"format": "mlx"}), config=config)


def stacked(disk: Dialect, at: str, width: str) -> Dialect:
    """The naming of a family with experts, which lie in one tensor for each of their three matrices below `at`."""
    rows: dict[str, str | tuple[str, ...]] = {
        f"{at}gate_proj.weight": (E + "gate.weight", f"*{{expert}} {width} hidden"),
        f"{at}up_proj.weight": (E + "up.weight", f"*{{expert}} {width} hidden"),
        f"{at}down_proj.weight": (E + "output.weight", f"*{{expert}} hidden {width}"),
    }
    kept = {k: v for k, v in disk.rows.items() if not (v if isinstance(v, str) else v[0]).startswith(E)}
    counted = any(k.partition(" ")[0] == "num_experts" for k in disk.config.keys)
    return words(disk, {**ALSO, **(COUNTED if counted else {})})._replace(rows={**kept, **rows})


def mlx(name: str, dialects: Sequence[Dialect]) -> tuple[Dialect, ...]:
    """mlx-lm's naming of a family, made of transformers' among its `dialects`; () where it has none, or it is not known."""
    disk = next((d for d in dialects if d.name == "hf"), None)
    if disk is not None and name in SAME:
        return (words(disk, {**ALSO, **OWN.get(name, {})})._replace(twin=disk.name),)
    return (stacked(disk, *STACKED[name]),) if disk is not None and name in STACKED else ()
