"""The command-line tools that do some of the same work, measured where they are installed: an environment of `benchmarks/tools.txt`.

Each gives the command that a user would type, and None where a tool does not do the work. None of this is used by ckptkit.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

TOOLS = ("mergekit", "sft", "modelinfo")


def command(tool: str, name: str, bins: Path, source: Path, target: Path) -> list[str] | None:
    """What `tool` is called with for the row `name`."""
    shards = sorted(str(p) for p in source.glob("*.safetensors"))
    made = {"mergekit": _mergekit, "sft": _sft, "modelinfo": _modelinfo}[tool](name, source, target, shards)
    if made is None or not (bins / made[0]).exists():
        return None
    words = [str(bins / made[0]), *made[1:]]
    return words if name.startswith(("inspect", "validate")) else ["sh", "-c", 'mkdir -p "$0" && exec "$@"', str(target), *words]


def _mergekit(name: str, source: Path, target: Path, shards: Sequence[str]) -> list[str] | None:
    if name not in ("decoder: 4 shards → 1", "decoder: 1 → 4 shards"):
        return None
    recipe = target.parent / "mergekit.yaml"
    recipe.write_text(json.dumps({"merge_method": "passthrough", "dtype": "bfloat16", "models": [{"model": str(source)}]}))
    size = (
        ["--out-shard-size", "450M"] if "4 shards" in name.split("→")[1] else ["--out-shard-size", "100B"]
    )  # of parameters, two bytes each
    return ["mergekit-yaml", str(recipe), str(target), *size, "--no-copy-tokenizer", "--no-write-model-card", "--no-cuda", "--quiet"]


def _sft(name: str, source: Path, target: Path, shards: Sequence[str]) -> list[str] | None:
    out = str(target / "model.safetensors")
    if name.endswith(("bfloat16 → float32", "float32 → bfloat16")):
        return ["sft", "cast", shards[0], "--dtype", name.rpartition(" ")[2], "-o", out]
    if name == "decoder: 4 shards → 1":
        return ["sft", "cat", *shards, "-o", out]
    if name == "decoder: 1 → 4 shards":
        return ["sft", "split", shards[0], "--max-size", "900MB", "-o", str(target / "model-{index}.safetensors")]
    if name.endswith("torch → safetensors") and (source / "pytorch_model.bin").exists():
        return ["sft", "convert", str(source / "pytorch_model.bin"), "-o", out]
    if name.startswith("validate") and name.endswith("safetensors"):
        return ["sft", "check", shards[0]]
    if name.startswith("inspect") and name.endswith("safetensors"):
        return ["sft", "info", shards[0]]
    return None


def _modelinfo(name: str, source: Path, target: Path, shards: Sequence[str]) -> list[str] | None:
    if not name.startswith("inspect") or not name.endswith((", safetensors", ", torch")):
        return None
    return ["modelinfo", str(source / ("pytorch_model.bin" if name.endswith("torch") else "model.safetensors"))]
