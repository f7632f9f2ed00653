"""`measure`: figures, findings and digest of one pass; and what `inspect` shows of it. Numbers are numpy's, of arrays written by hand."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import oracles
import pytest
from commands import run
from test_statistics import check

import ckptkit
from ckptkit.errors import CancelledError
from ckptkit.graph.places import Place, by_name
from ckptkit.scan import jobs as planned

KINDS: dict[str, Any] = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16, "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2, "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8, "U64": np.uint64,
    "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": np.bool_, "C64": np.complex64,
}  # fmt: skip


def by_hand(path: Path, tensors: dict[str, tuple[str, np.ndarray]]) -> Path:
    """A safetensors file: the length of a JSON header, the header, the bytes."""
    header: dict[str, object] = {}
    data = b""
    for name, (kind, x) in tensors.items():
        header[name] = {"dtype": kind, "shape": list(x.shape), "data_offsets": [len(data), len(data) + x.nbytes]}
        data += x.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def numbers(kind: str, n: int) -> np.ndarray:
    rng = np.random.default_rng(n)
    dtype = np.dtype(KINDS[kind])
    if kind == "BOOL":
        return rng.random(n) < 0.3
    if kind == "C64":
        return (rng.standard_normal(n) + 1j * rng.standard_normal(n)).astype(dtype)
    if dtype.kind in "iu":
        ends = np.iinfo(dtype)
        return rng.integers(ends.min, ends.max, n, dtype, endpoint=True)
    return (rng.standard_normal(n) * 0.1).astype(dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_figures_of_every_type_are_numpys(kind: str, tmp_path: Path) -> None:
    tensors = {
        "one": numbers(kind, 1),
        "small": numbers(kind, 1000),
        "large": numbers(kind, 300_001),
        "zeros": np.zeros(70_000, KINDS[kind]),
    }
    if np.dtype(KINDS[kind]).kind == "f" or kind in ("BF16", "F8_E4M3", "F8_E5M2"):
        for name in ("small", "large"):
            x = numbers(kind, len(tensors[name]))
            x[[3, 5, -1]] = np.array([np.nan, -0.0, np.nan]).astype(x.dtype)
            if kind != "F8_E4M3":
                x[[7, 8]] = np.array([np.inf, -np.inf]).astype(x.dtype)
            tensors[f"odd {name}"] = x
    path = by_hand(tmp_path / "m.safetensors", {n: (kind, x) for n, x in tensors.items()})
    got = {m.name: m.statistics for m in ckptkit.measure(path).tensors}
    assert got.keys() == tensors.keys()
    for name, x in tensors.items():
        check(got[name], x)


def test_numbers_at_the_ends_of_a_type_do_not_overflow(tmp_path: Path) -> None:
    big = np.finfo(np.float64).max
    path = by_hand(tmp_path / "m.safetensors", {"w": ("F64", np.array([big, big, -big] * 30_000)), "v": ("F64", np.array([big, big]))})
    figures = {m.name: m.statistics for m in ckptkit.measure(path).tensors}
    w, v = figures["w"], figures["v"]
    assert w is not None and (w.minimum, w.maximum, w.nan, w.inf) == (-big, big, 0, 0)
    assert v is not None and v.mean == big
    assert json.loads(json.dumps(w.plain(), allow_nan=False))["norm"] is None  # larger than a float64 can be


def test_a_packed_weight_is_measured_by_the_numbers_that_it_stands_for() -> None:
    import torch
    from safetensors import safe_open

    folder = oracles.FIXTURES / "forms" / "quant_fp8_block"
    got = {m.name: m for m in ckptkit.measure(folder).tensors}
    seen = 0
    (file,) = folder.glob("*.safetensors")
    with safe_open(file, "pt") as f:
        for name in f.keys():  # noqa: SIM118
            scale_name = f"{name}_scale_inv"
            if scale_name not in f.keys():  # noqa: SIM118
                continue
            w, scale = f.get_tensor(name).float(), f.get_tensor(scale_name)
            block = json.loads((folder / "config.json").read_text())["quantization_config"]["weight_block_size"]
            wide = scale.repeat_interleave(block[0], 0)[: w.shape[0]].repeat_interleave(block[1], 1)[:, : w.shape[1]]
            exact = (w.to(torch.float32) * wide).numpy()
            check(got[name].statistics, exact)
            seen += 1
    assert seen


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    read: list[int] = []
    preadv = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, views, at: (read.append(sum(map(len, views))), preadv(fd, views, at))[1])
    return read


def test_figures_findings_and_digest_are_of_one_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = oracles.golden("hf_bert") / "safetensors"
    want = ckptkit.digest(folder).whole
    read = count_reads(monkeypatch)
    m = ckptkit.measure(folder)
    assert m.digest == want and m.findings == () and all(t.statistics is not None for t in m.tensors)
    assert sum(read) == sum(t.nbytes for t in m.tensors)


@pytest.mark.parametrize("where", ["bert_tf", "hf_gpt2/safetensors", "t5_orig_v10", "fairseq_roberta_new", "hf_albert/safetensors"])
def test_the_digest_is_that_of_ckptkit_digest_whatever_lies_turned(where: str) -> None:
    m = ckptkit.measure(oracles.golden(where.split("/")[0]) / "/".join(where.split("/")[1:]))
    d = ckptkit.digest(oracles.golden(where.split("/")[0]) / "/".join(where.split("/")[1:]))
    assert (m.digest, m.undigested) == (d.whole, "")
    for t in m.tensors:
        assert not t.digest or t.digest in d.parameters.values()


def test_figures_do_not_depend_on_the_threads_and_hardly_on_where_the_file_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = by_hand(tmp_path / "m.safetensors", {k: (k, numbers(k, 200_000)) for k in ("F32", "BF16", "F64")})
    one, two = (ckptkit.measure(path, jobs=n).tensors for n in (1, 2))
    assert one == two
    monkeypatch.setattr(planned, "PIECE", 1 << 14)
    monkeypatch.setattr(planned, "PART", 1 << 17)
    again = [ckptkit.measure(path, jobs=n).tensors for n in (1, 3)]
    assert again[0] == again[1]
    for a, b in zip(one, again[0], strict=True):
        assert a.statistics is not None and b.statistics is not None
        assert (b.statistics.minimum, b.statistics.percentiles, b.statistics.histogram) == (
            a.statistics.minimum, a.statistics.percentiles, a.statistics.histogram,
        )  # fmt: skip
        assert b.statistics.mean == pytest.approx(a.statistics.mean, rel=1e-11, abs=1e-15)
        assert b.statistics.deviation == pytest.approx(a.statistics.deviation, rel=1e-12)


def test_progress_goes_to_the_end_and_a_pass_can_be_called_off(tmp_path: Path) -> None:
    path = by_hand(tmp_path / "m.safetensors", {str(i): ("F32", numbers("F32", 5000)) for i in range(50)})
    told: list[tuple[int, int]] = []
    ckptkit.measure(path, progress=lambda done, total: told.append((done, total)), jobs=1)
    assert told == sorted(told) and told[-1] == (50 * 20_000, 50 * 20_000)
    asked: list[int] = []

    def enough() -> bool:
        asked.append(1)
        return len(asked) > 5

    with pytest.raises(CancelledError):
        ckptkit.measure(path, cancelled=enough, jobs=2)
    assert len(asked) < 50


def test_a_sample_reads_little_and_is_near(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = numbers("F32", 4_000_000)
    path = by_hand(tmp_path / "m.safetensors", {"w": ("F32", x), "b": ("F32", x[:100])})
    read = count_reads(monkeypatch)
    m = ckptkit.measure(path, share=0.1)
    assert sum(read) < 0.12 * x.nbytes and m.digest == ""
    w, b = (t.statistics for t in m.tensors)
    assert w is not None and 350_000 < w.elements < 450_000 and w.deviation == pytest.approx(float(x.std()), rel=0.01)
    check(b, x[:100])


def test_a_measurement_travels_and_is_json() -> None:
    m = ckptkit.measure(oracles.golden("bert_tf_optim"))
    assert pickle.loads(pickle.dumps(m)) == m
    data = json.loads(json.dumps(m.plain(), allow_nan=False))
    places = {t["name"]: t["place"] for t in data["tensors"]}
    assert places["bert/encoder/layer_3/output/dense/kernel"] == {"stack": "encoder.layers", "layer": 3, "module": "ffn.output.weight"}
    assert places["bert/embeddings/word_embeddings"] == {"stack": "embeddings", "layer": None, "module": "word.weight"}


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("h.10.attn.c_attn.weight", Place("h", 10, "attn.c_attn.weight")),
        ("net/block_2/conv/kernel:0", Place("net/block", 2, "conv/kernel:0")),
        ("a.b.c", Place("a", None, "b.c")),
        ("w", Place("", None, "w")),
        ("layers.0.experts.7.up", Place("layers", 0, "experts.7.up")),
        ("hash.123456789012", Place("hash", None, "123456789012")),
    ],
)
def test_an_unknown_name_has_the_place_that_it_tells(name: str, place: Place) -> None:
    assert by_name(name) == place


def test_joined_tensors_and_experts_have_places() -> None:
    fused = {m.name: m.place for m in ckptkit.measure(oracles.golden("hf_gpt2") / "safetensors").tensors}
    joint = next(p for n, p in fused.items() if n.endswith("h.2.attn.c_attn.weight"))
    assert joint == Place("decoder.layers", 2, "attention.query+key+value.weight")


def test_damage_leaves_the_digest_and_the_figures_of_the_damaged_tensor_out(tmp_path: Path) -> None:
    import torch

    x = torch.ones(64, 64)
    torch.save({"a": x, "b": torch.zeros(3)}, tmp_path / "m.pt")
    raw = bytearray((tmp_path / "m.pt").read_bytes())
    raw[raw.index(x.numpy().tobytes()) + 100] ^= 1
    (tmp_path / "m.pt").write_bytes(raw)
    m = ckptkit.measure(tmp_path / "m.pt")
    assert m.digest == "" and "checksum" in m.undigested and "checksum" in {f.rule for f in m.findings}
    assert {t.name: t.statistics is None for t in m.tensors} == {"a": True, "b": False}


# --- inspect ---------------------------------------------------------------------------------------------------------------------


BERT = oracles.golden("bert_tf")


def test_sorting_puts_the_largest_first_and_top_cuts() -> None:
    arrays = oracles.tf_variables(BERT / "bert_model.ckpt")
    norms = sorted(((float(np.linalg.norm(x.astype("f8"))), n) for n, x in arrays.items()), reverse=True)
    done = run("inspect", BERT, "--sort", "norm", "--top", "4", "--format", "jsonl")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and [r["name"] for r in rows] == [n for _, n in norms[:4]]
    assert rows[0]["stats"]["norm"] == pytest.approx(norms[0][0]) and rows[0]["stats"]["histogram"]["counts"]
    by_bytes = [json.loads(line) for line in run("inspect", BERT, "--sort", "bytes", "--format", "jsonl").stdout.splitlines()]
    assert [r["bytes"] for r in by_bytes] == sorted((x.nbytes for x in arrays.values()), reverse=True)
    assert "stats" not in by_bytes[0]  # which needs no weight


def test_csv_holds_what_numpy_computes() -> None:
    arrays = oracles.tf_variables(BERT / "bert_model.ckpt")
    rows = list(csv.DictReader(io.StringIO(run("inspect", BERT, "--stats", "--format", "csv").stdout)))
    assert {r["name"] for r in rows} == arrays.keys()
    for r in rows:
        x = arrays[r["name"]].astype("f8")
        assert float(r["deviation"]) == pytest.approx(float(x.std()), rel=1e-12, abs=1e-300)
        assert float(r["p50"]) == pytest.approx(float(np.median(x)), rel=1e-12)
        assert r["shape"] == "x".join(map(str, x.shape))
    query = next(r for r in rows if r["name"].endswith("layer_2/attention/self/query/kernel"))
    assert (query["stack"], query["layer"], query["module"]) == ("encoder.layers", "2", "attention.query.weight")


def test_a_histogram_is_drawn_of_what_fits() -> None:
    out = run("inspect", BERT, "--histogram", "*word_embeddings").stdout
    x = oracles.tf_variables(BERT / "bert_model.ckpt")["bert/embeddings/word_embeddings"]
    bars = [line for line in out.splitlines() if "█" in line or line.rstrip().endswith("  0")]
    drawn = [int(line.split()[-1].replace(",", "")) for line in out.split("elements\n")[1].splitlines() if line.strip()]
    assert sum(drawn) == x.size and len(drawn) == 32 and bars
    assert drawn == np.histogram(x.astype("f8"), np.linspace(x.min(), x.max(), 33))[0].tolist()


def test_a_wrong_share_is_refused() -> None:
    done = run("inspect", BERT, "--stats", "--sample", "2")
    assert done.returncode == 2 and "--sample" in done.stderr
