"""What is measured: for each row the data, the copy it is held against, ckptkit's arguments, the peers, and the limit."""

from __future__ import annotations

from typing import NamedTuple


class Case(NamedTuple):
    """One row. `data` is converted; `copy` names the data set whose weight files `cp` copies; `limit` times that is allowed, and `more`
    seconds. A conversion that waits for the disk is held against `cp` that waits, too, where `synced` says how many times of that."""

    name: str
    group: str
    data: str
    copy: str
    limit: float
    arguments: tuple[str, ...]
    peers: tuple[str, ...] = ()  # functions of peers.py
    least: float = 0.0  # how many times quicker than the quickest peer it has to be
    command: str = "convert"
    suffix: str = ""  # what the peers' target ends in
    seconds: float = 0.0  # what is allowed, where it is no multiple of the first line's
    more: float = 0.0  # seconds that are allowed besides
    program: str = "pass"  # what the interpreter of an inspection's first line runs
    synced: float = 0.0


HF = ("--to", "hf")


def same(case: Case) -> Case:
    """The bounds of what keeps its layout: a copy's, and 0.1 s to start where the disk is not waited for."""
    return case._replace(limit=1.1, more=0.10, synced=1.0)


def turned(case: Case) -> Case:
    """Those of what lies the other way in the target."""
    return case._replace(limit=1.7, synced=1.3)


def cast(case: Case) -> Case:
    """Those of a change of dtype, against a copy of the larger side."""
    return case._replace(limit=1.5, synced=1.5)


BOUNDS = {"same layout": same, "checksums": same, "shards": same, "transposed": turned, "cast": cast}


def cases(quick: bool) -> list[Case]:
    """Every row; with `quick` a small BERT stands for both, and a decoder of two layers for the large one."""
    sizes = ["tiny"] if quick else ["base", "large"]
    decoder = f"decoder-{2 if quick else 20}"
    split = "150MB" if quick else "900MB"
    out: list[Case] = []
    for b in sizes:
        before = len(out)
        st, pt, tf, half = f"bert-{b}-safetensors", f"bert-{b}-torch", f"bert-{b}-tf", f"bert-{b}-bf16"
        out += [
            Case(f"BERT-{b}: torch → safetensors", "same layout", pt, pt, 1.2, ("--container", "safetensors"), ("torch_to_safetensors",)),
            Case(f"BERT-{b}: safetensors → torch", "checksums", st, st, 1.4, ("--container", "torch"), ("safetensors_to_torch",)),
            Case(f"BERT-{b}: TF → hf safetensors", "transposed", tf, st, 2.2, HF, ("tf_to_safetensors",), 15),
            Case(f"BERT-{b}: TF → hf torch", "transposed", tf, st, 2.2, (*HF, "--container", "torch"), ("tf_to_torch",), 15),
            Case(f"BERT-{b}: hf safetensors → TF", "transposed", st, st, 2.2, ("--to", "google"), ("hf_to_tf",), 15),
            Case(f"BERT-{b}: bfloat16 → float32", "cast", half, st, 1.3, ("--container", "safetensors", "--dtype", "float32"),
                ("cast_float32",)),
            Case(
                f"BERT-{b}: float32 → bfloat16", "cast", st, st, 1.8, ("--container", "safetensors", "--dtype", "bfloat16"),
                ("cast_bfloat16", "transformers"),
            ),
            Case(f"BERT-{b}: float32 → float16", "cast", st, st, 1.8, ("--container", "safetensors", "--dtype", "float16")),
            Case(f"BERT-{b}: float32 → float8_e4m3fn", "cast", st, st, 1.8, ("--container", "safetensors", "--dtype", "float8_e4m3fn")),
        ]  # fmt: skip
        if b == "large":  # what differs with size is seen in these
            out[before:] = [c for c in out[before:] if any(w in c.name for w in ("safetensors", "TF", "bfloat16"))]
        else:
            adam = f"bert-{b}-tf-adam"
            out.append(
                Case(f"BERT-{b}: TF with Adam → hf torch", "transposed", adam, st, 2.2, (*HF, "--container", "torch"), ("tf_to_torch",), 15)
            )
    out += [
        Case("decoder: torch → safetensors, 4 shards", "same layout", f"{decoder}-torch", f"{decoder}-torch", 1.2,
             ("--container", "safetensors", "--max-shard-size", split), ("torch_to_safetensors",)),
        Case("decoder: safetensors → torch, 4 shards", "checksums", f"{decoder}-sharded", f"{decoder}-sharded", 1.4,
             ("--container", "torch", "--max-shard-size", split), ("safetensors_to_torch",)),
        Case("decoder: 4 shards → 1", "shards", f"{decoder}-sharded", f"{decoder}-sharded", 1.0, ("--container", "safetensors"),
            ("merge_shards",)),
        Case("decoder: 1 → 4 shards", "shards", f"{decoder}-single", f"{decoder}-single", 1.0,
             ("--container", "safetensors", "--max-shard-size", split), ("split_shards",)),
    ]  # fmt: skip
    forms = ("safetensors", "torch", "tf")
    for a in forms:
        for b in forms:
            if a != b:
                data = f"small-{a}"
                out.append(Case(f"20,000 tensors: {a} → {b}", "small", data, data, 20, ("--container", b), ("small",), 8, suffix=f"-{b}"))
    for b, kind in [(sizes[-1], "24-layer BERT" if not quick else "small BERT"), ("", "20,000 tensors")]:
        for form in forms:
            data = f"bert-{b}-{form}" if b else f"small-{form}"
            limit = 5 if b else 15 if form == "torch" else 10
            out.append(
                Case(f"inspect {kind}, {form}", "inspect", data, "", limit, (), (f"list_{form}",), 25 if b else 0, "inspect")
            )
    for form, what in {
        "object": "object checkpoint",
        "savedmodel": "SavedModel",
        "keras": ".keras, one layer",
        "keras_layers": ".keras, 10,000 layers",
    }.items():
        case = Case(
            f"inspect 20,000 variables, {what}",
            "variables",
            f"variables-{form}",
            "",
            0,
            (),
            (f"list_{form.partition('_')[0]}",),
            0,
            "inspect",
            seconds=0.5,
        )
        out.append(case)
    for form, what, seconds in (("h5", "20,000 variables, .weights.h5, one layer", 0.5), ("tf_model", "tf_model.h5 of 200 variables", 0.0)):
        out.append(
            Case(
                f"inspect {what}",
                "variables",
                f"variables-{form}",
                "",
                1.2,
                (),
                ("list_h5",),
                0,
                "inspect",
                seconds=seconds,
                program="import h5py",
            )
        )
    n = 1 if quick else 8
    blocks = Case(
        f"Llama of {n} layers: Q4_K → float16", "packed", f"gguf-q4k-{n}", f"gguf-float16-{n}", 3.0,
        (*HF, "--dequantize", "--dtype", "float16"), ("gguf_py",),
    )  # fmt: skip
    words = Case("inspect GGUF with 256,000 words", "packed", "gguf-vocab-256000", "", 12, (), ("list_gguf",), 0, "inspect")
    out += [blocks, words]
    b = sizes[-1]
    st = f"bert-{b}-safetensors"
    out += [
        Case(f"digest BERT-{b}, safetensors", "digest", st, st, 1.8, (), (), 0, "digest"),
        Case(f"digest BERT-{b}, TF", "digest", f"bert-{b}-tf", f"bert-{b}-tf", 1.8, (), (), 0, "digest"),
        Case(f"validate BERT-{b}, safetensors", "gate", st, st, 1.8, (), ("isfinite",), 0, "validate"),
        Case(f"validate BERT-{b}, torch", "gate", f"bert-{b}-torch", f"bert-{b}-torch", 1.8, (), (), 0, "validate"),
        Case(f"validate BERT-{b}, TF", "gate", f"bert-{b}-tf", f"bert-{b}-tf", 1.8, (), (), 0, "validate"),
        Case(f"diff BERT-{b}, equal, torch", "gate", st, f"bert-{b}-torch", 1.3, (), ("equal",), 0, "diff"),
        Case(f"diff BERT-{b}, all changed", "gate", st, f"bert-{b}-changed", 2.0, (), ("equal",), 0, "diff"),
        Case(f"diff BERT-{b}, equal, TF", "gate", st, f"bert-{b}-tf", 2.5, (), (), 0, "diff"),
    ]
    base = f"bert-{sizes[0]}-safetensors"
    figures = ("--stats", "--format", "json")
    out += [
        Case(f"inspect --stats BERT-{sizes[0]}, safetensors", "figures", base, base, 4.0, figures, (), 0, "inspect", more=0.15),
        Case(f"inspect --stats BERT-{b}, safetensors", "figures", st, st, 4.0, figures, (), 0, "inspect"),
        Case(f"report BERT-{sizes[0]}, safetensors", "figures", base, base, 5.0, (), (), 0, "report", more=1.0),
    ]
    out = [BOUNDS[c.group](c) if c.group in BOUNDS else c for c in out]
    return [*out, *packed(quick), *ranks(quick)]


def ranks(quick: bool) -> list[Case]:
    """What eight ranks of a trainer leave, joined."""
    dcp, zero = f"dcp-{2 if quick else 24}", f"zero3-{1 if quick else 9}"
    arguments = (*HF, "--container", "safetensors")
    return [
        Case("DCP of 8 ranks → safetensors", "ranks", dcp, dcp, 1.3, arguments, ("dcp_to_safetensors",), synced=1.3),
        Case("ZeRO-3 of 8 ranks → safetensors", "ranks", zero, zero, 2.0, arguments, ("zero_to_fp32",), synced=2.0),
    ]


def packed(quick: bool) -> list[Case]:
    """Packed weights, decoded."""
    n = 2 if quick else 24
    arguments = ("--container", "safetensors", "--dequantize", "--dtype", "bfloat16")
    peers = ("fp8_deepseek", "fp8_compressed_tensors")
    return [Case("FP8 in blocks → bfloat16", "packed", f"fp8-{n}-blocks", f"fp8-{n}-plain", 2.0, arguments, peers)]


class Bound(NamedTuple):
    """A row of memory alone: a conversion that is run once under a bound."""

    name: str
    data: str
    arguments: tuple[str, ...]


def bounds(quick: bool) -> list[Bound]:
    """Checkpoints far larger than the memory allowed."""
    sparse, rows = ("sparse-2", 8192) if quick else ("sparse-20", 32768)
    return [
        Bound(f"{sparse.split('-')[1]} GB sparse safetensors → safetensors", sparse, ("--container", "safetensors")),
        Bound(f"{rows * 8192 * 4 / 1e9:.1f} GB matrices, turned, --max-memory 32MiB", f"table-{rows}", (*HF, "--max-memory", "32MiB")),
    ]
