"""GGUF: what llama.cpp wrote is read and written again to the byte; other orders and versions; hostile headers are refused."""

from __future__ import annotations

import struct
from pathlib import Path

import gguf_files as g
import numpy as np
import pytest

import ckptkit
from ckptkit.errors import CorruptError, LimitError, UnsupportedError

FORMS = Path(__file__).resolve().parents[2] / "fixtures" / "forms"
LLAMA = FORMS / "gguf_llama"
F32 = np.arange(6, dtype=np.float32)


def written(folder: Path, data: bytes, name: str = "m.gguf") -> Path:
    (folder / name).write_bytes(data)
    return folder / name


@pytest.mark.parametrize("path", [FORMS / "gguf_alltypes" / "alltypes.gguf", LLAMA / "llama-q8_0.gguf", LLAMA / "llama-f16.gguf"])
def test_a_file_written_again_has_the_same_bytes(path: Path, tmp_path: Path) -> None:
    ckptkit.convert(path, tmp_path / "again.gguf")
    assert (tmp_path / "again.gguf").read_bytes() == path.read_bytes()


def test_split_files_are_one_checkpoint(tmp_path: Path) -> None:
    ckptkit.convert(LLAMA / "llama-split-00001-of-00003.gguf", tmp_path / "whole.gguf")
    assert (tmp_path / "whole.gguf").read_bytes() == (LLAMA / "llama-f16.gguf").read_bytes()


def test_any_of_the_split_files_opens_all_of_them() -> None:
    with ckptkit.open(LLAMA / "llama-split-00002-of-00003.gguf") as c:
        assert len(c.tensors) == 30
        assert c.extras["gguf"]["general.architecture"].value == "llama"  # type: ignore[index]


def test_a_missing_split_file_is_named(tmp_path: Path) -> None:
    for i in (1, 3):
        written(tmp_path, (LLAMA / f"llama-split-0000{i}-of-00003.gguf").read_bytes(), f"llama-split-0000{i}-of-00003.gguf")
    with pytest.raises(CorruptError, match="llama-split-00002-of-00003"):
        ckptkit.open(tmp_path / "llama-split-00001-of-00003.gguf")


def test_a_target_above_the_size_is_split_and_read_again(tmp_path: Path) -> None:
    ckptkit.convert(LLAMA / "llama-f16.gguf", tmp_path / "out", container="gguf", max_shard_size=40_000)
    names = sorted(p.name for p in (tmp_path / "out").glob("*.gguf"))
    assert names == [f"model-0000{i}-of-00003.gguf" for i in (1, 2, 3)]
    ckptkit.convert(tmp_path / "out" / names[0], tmp_path / "whole.gguf")
    assert (tmp_path / "whole.gguf").read_bytes() == (LLAMA / "llama-f16.gguf").read_bytes()


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("order", ["<", ">"])
def test_versions_and_byte_orders_are_read(version: int, order: str, tmp_path: Path) -> None:
    raw = F32.astype(order + "f4").tobytes()
    path = written(tmp_path, g.gguf({"w": ((2, 3), 0, raw)}, {"a.b": (4, 7), "t": (9, (8, ["x", "yy"]))}, version=version, order=order))
    with ckptkit.open(path) as c:
        np.testing.assert_array_equal(c.array("w"), F32.reshape(2, 3))
        assert c.extras["gguf"]["a.b"].value == 7  # type: ignore[index]
        from ckptkit.containers.gguf.header import items

        assert items(c.extras["gguf"]["t"]) == ["x", "yy"]  # type: ignore[index]


def test_quantised_blocks_of_a_big_endian_file_are_not_read(tmp_path: Path) -> None:
    path = written(tmp_path, g.gguf({"w": ((1, 32), 8, bytes(34))}, order=">"))
    with ckptkit.open(path) as c:
        assert any(f.rule == "byte-order" and f.severity == "warning" for f in c.findings)
        assert "w" in c.unread
        assert "w" not in c.tensors


def test_offsets_need_not_rise(tmp_path: Path) -> None:
    data = g.gguf({"a": ((4,), 0, F32[:4].tobytes()), "b": ((4,), 0, F32[2:].tobytes())}, offsets={"a": 32, "b": 0})
    with ckptkit.open(written(tmp_path, data)) as c:
        np.testing.assert_array_equal(c.array("a"), F32[2:])
        np.testing.assert_array_equal(c.array("b"), F32[:4])


W = {"w": ((6,), 0, F32.tobytes())}
HOSTILE = {
    "counts overflow": g.gguf(W, counts=((1 << 64) - 1, 0)),
    "a billion tensors": g.gguf(W, counts=(10**9, 0)),
    "a billion keys": g.gguf(W, counts=(1, 10**9)),
    "more keys than there are": g.gguf(W, {"a": (4, 1)}, counts=(1, 2)),
    "dimensions overflow": g.gguf({"w": ((1 << 40, 1 << 40), 0, F32.tobytes())}),
    "too long for the file": g.gguf({"w": ((1 << 30,), 0, F32.tobytes())}),
    "five dimensions": g.gguf({"w": ((1, 1, 1, 1, 6), 0, F32.tobytes())}),
    "a huge rank": g.gguf(W).replace(struct.pack("<IQ", 1, 6), struct.pack("<IQ", 0xFFFFFFFF, 6)),
    "an offset out of the file": g.gguf(W, offsets={"w": 1 << 40}),
    "an offset that overflows": g.gguf(W, offsets={"w": (1 << 64) - 32}),
    "an offset that is not aligned": g.gguf(W, offsets={"w": 4}),
    "overlap": g.gguf({**W, "v": W["w"]}, offsets={"w": 0, "v": 0}),
    "alignment of zero": g.gguf(W, {"general.alignment": (4, 0)}),
    "alignment of three": g.gguf(W, {"general.alignment": (4, 3)}),
    "alignment that is text": g.gguf(W, {"general.alignment": (8, "x")}),
    "a key twice": g.gguf(W, {"a": (4, 1), "b": (4, 1)}).replace(g.text("b"), g.text("a")),
    "a tensor twice": g.gguf({**W, "v": W["w"]}).replace(g.text("v"), g.text("w")),
    "an unknown type of value": g.gguf(W, {"a": (4, 1)}).replace(g.text("a") + struct.pack("<I", 4), g.text("a") + struct.pack("<I", 99)),
    "an array longer than the file": g.gguf(W, {"a": (9, (4, [1]))}).replace(struct.pack("<IQ", 4, 1), struct.pack("<IQ", 4, 1 << 60)),
    "arrays in arrays": g.gguf(W, {"a": (9, (9, [(9, [(9, [(9, [(9, [(4, [1])])])])])]))}),
    "text longer than the file": g.gguf(W, {"a": (8, "x")}).replace(g.text("x"), struct.pack("<Q", 1 << 50) + b"x"),
    "texts that leave the file": g.gguf(W, {"a": (9, (8, ["x", "y"]))}).replace(g.text("x"), struct.pack("<Q", (1 << 64) - 9) + b"x"),
    "a name with a NUL": g.gguf({"a\0b": W["w"]}),
    "a name that is no UTF-8": g.gguf(W).replace(g.text("w"), g.text(b"\xff")),
    "part of a block": g.gguf({"w": ((33,), 8, bytes(40))}),
    "cut short": g.gguf(W)[:-40],
    "only a signature": b"GGUF",
    "a header cut short": g.gguf(W, {"a": (8, "x" * 1000)})[:200],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_header_is_refused_with_one_line(name: str, tmp_path: Path) -> None:
    with pytest.raises((CorruptError, LimitError, UnsupportedError)) as e:
        ckptkit.open(written(tmp_path, HOSTILE[name]))
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(("kind", "word"), [(4, "removed"), (31, "removed"), (9, "not known"), (99, "not known")])
def test_types_that_are_gone_or_unknown_are_named(kind: int, word: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=word):
        ckptkit.open(written(tmp_path, g.gguf({"w": ((32,), kind, bytes(64))})))


@pytest.mark.parametrize("version", [1, 4, 77])
def test_versions_that_are_not_read_are_named(version: int, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=f"version {version}"):
        ckptkit.open(written(tmp_path, g.gguf(W, version=version)))


def test_a_vocabulary_is_walked_and_not_made(tmp_path: Path) -> None:
    words = [f"token{i}" for i in range(60_000)]
    path = written(tmp_path, g.gguf(W, {"tokenizer.ggml.tokens": (9, (8, words)), "tokenizer.ggml.scores": (9, (6, [0.0] * 60_000))}))
    with ckptkit.open(path) as c:
        from ckptkit.containers.gguf.header import Span, items

        kept = c.extras["gguf"]["tokenizer.ggml.tokens"]  # type: ignore[index]
        assert isinstance(kept.value, Span)
        assert items(kept) == words


def test_safetensors_cannot_hold_blocks_and_says_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="Q8_0") as e:
        ckptkit.convert(LLAMA / "llama-q8_0.gguf", tmp_path / "m.safetensors")
    assert "--dequantize" in str(e.value)


def findings_of(path: Path) -> list[tuple[str, str, str]]:
    return [(f.rule, f.severity, f.message) for f in ckptkit.validate(path).findings]


def test_bytes_between_tensors_are_an_error_and_behind_the_last_a_warning(tmp_path: Path) -> None:
    """llama.cpp refuses the first (gguf_init_from_file asks for offsets one after another) and reads the second."""
    two = {n: ((4, 8), 0, bytes(128)) for n in ("a.weight", "b.weight")}
    apart = written(tmp_path, g.gguf(two, offsets={"b.weight": 160}) + bytes(32))
    assert [f[:2] for f in findings_of(apart) if f[0] == "unused-bytes"] == [("unused-bytes", "error")]
    after = written(tmp_path, g.gguf(two) + bytes(64))
    assert [f for f in findings_of(after) if f[0] == "unused-bytes"] == [
        ("unused-bytes", "warning", "64 bytes after b.weight, the last tensor, belong to none")
    ]
    assert not [f for f in findings_of(written(tmp_path, g.gguf(two))) if f[0] == "unused-bytes"]


@pytest.mark.parametrize("key", ["context_length", "embedding_length", "block_count"])
def test_keys_that_llama_cpp_asks_for_are_missed(key: str, tmp_path: Path) -> None:
    source = LLAMA / "llama-f16.gguf"
    kept = g.keys(source)
    keys = {k: (kept[f"{k} type"][0], v) for k, v in kept.items() if not k.endswith(" type") and not k.startswith("tokenizer.")}
    tensors = {n: (a.shape, {np.dtype("f2"): 1, np.dtype("f4"): 0}[a.dtype], a.tobytes()) for n, a in g.arrays(source).items()}
    assert not [f for f in findings_of(written(tmp_path, g.gguf(tensors, keys))) if f[1] == "error"]
    del keys[f"llama.{key}"]
    assert [f[2] for f in findings_of(written(tmp_path, g.gguf(tensors, keys))) if f[0] == "gguf-keys"] == [
        f"llama.{key} is not there, without which llama.cpp does not load a file"
    ]
