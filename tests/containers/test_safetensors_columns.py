"""A header with many entries is read by columns: it says the same as entry by entry, and what is wrong is refused in the same words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ckptkit.containers import open_checkpoint, safetensors
from ckptkit.errors import CheckpointError
from ckptkit.limits import using
from ckptkit.tensors import Extent

COUNT = 3000
METADATA = '"__metadata__":{"format":"pt","note":"{\'a\': [1, 2]}, \u00fc"},'


def entry(name: str, shape: str, begin: int, end: int, dtype: str = "F32") -> str:
    return f'"{name}":{{"dtype":"{dtype}","shape":[{shape}],"data_offsets":[{begin},{end}]}}'


def entries() -> list[str]:
    """3,000 tensors of 4 or 8 bytes, one after another."""
    out, at = [], 0
    for n in range(COUNT):
        size = 8 if n % 3 else 4
        out.append(entry(f"a.{n}.\u00e9", "2,1" if n % 3 else "", at, at + size))
        at += size
    return out


def write(path: Path, text: str, size: int | None = None) -> Path:
    header = text.encode()
    if size is None:
        size = sum(8 if n % 3 else 4 for n in range(COUNT))
    with path.open("wb") as f:
        f.write(len(header).to_bytes(8, "little") + header)
        f.truncate(8 + len(header) + size)
    return path


@pytest.mark.parametrize("before", ["", METADATA])
@pytest.mark.parametrize("blanks", ["", "   "])
@pytest.mark.parametrize("spaced", [False, True])
def test_columns_say_what_the_entries_say(tmp_path: Path, before: str, blanks: str, spaced: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "{" + before + ",".join(entries()) + "}"
    text = (json.dumps(json.loads(text), ensure_ascii=False) if spaced else text) + blanks
    path = write(tmp_path / "model.safetensors", text)

    def careful(*_: object) -> None:
        raise AssertionError("read entry by entry")

    monkeypatch.setattr(safetensors, "_with_care", careful)
    with open_checkpoint(path) as ck:
        base, at = 8 + len(text.encode()), 0
        assert list(ck.tensors) == [f"a.{n}.\u00e9" for n in range(COUNT)]
        for n, (name, t) in enumerate(ck.tensors.items()):
            size = 8 if n % 3 else 4
            assert (t.name, t.spec.dtype, t.spec.shape) == (name, "F32", (2, 1) if n % 3 else ())
            assert t.extents == (Extent(str(path), base + at, size),)
            at += size
        assert ck.metadata == (json.loads("{" + before.rstrip(",") + "}").get("__metadata__", {}))


FAULTS = {
    "the same name twice": lambda e: [*e[:-1], e[-1].replace(f"a.{COUNT - 1}.", "a.7.")],
    "a hole": lambda e: [*e[:5], *e[6:]],
    "another order of bytes": lambda e: [e[1], e[0], *e[2:]],
    "a shape of another size": lambda e: [e[0], e[1].replace("[2,1]", "[2,2]"), *e[2:]],
    "an unknown type": lambda e: [e[0].replace("F32", "F33"), *e[1:]],
    "a size with a zero before it": lambda e: [e[0], e[1].replace("[2,1]", "[02,1]"), *e[2:]],
    "a size that is not there": lambda e: [e[0], e[1].replace("[2,1]", "[2,]"), *e[2:]],
    "a fraction": lambda e: [e[0], e[1].replace("[2,1]", "[2.0,1]"), *e[2:]],
    "a truth value": lambda e: [e[0], e[1].replace("[2,1]", "[2,true]"), *e[2:]],
    "an offset with a zero before it": lambda e: [e[0], e[1].replace("[4,12]", "[04,12]"), *e[2:]],
    "two entries without a comma": lambda e: [e[0] + "}" + e[1], *e[2:]],
    "an escape in a name": lambda e: [e[0].replace("a.0", r"a.\u0030"), *e[1:]],
    "a blank": lambda e: [e[0].replace(":", ": ", 1), *e[1:]],
    "a blank in a shape": lambda e: [e[0], e[1].replace("[2,1]", "[2, 1]"), *e[2:]],
    "a blank before a size": lambda e: [e[0], e[1].replace("[2,1]", "[ 2,1]"), *e[2:]],
    "no name": lambda e: [e[0].replace("a.0.\u00e9", ""), *e[1:]],
    "a further field": lambda e: [e[0].replace('"dtype"', '"more":1,"dtype"'), *e[1:]],
    "metadata among the tensors": lambda e: [*e[:2], '"__metadata__":{"format":"pt"}', *e[2:]],
    "metadata that is a tensor": lambda e: [e[0].replace("a.0.\u00e9", "__metadata__"), *e[1:]],
    "metadata twice": lambda e: ['"__metadata__":{"a":"b"}', '"__metadata__":{"a":"b"}', *e],
    "a key twice in the metadata": lambda e: ['"__metadata__":{"a":"b","a":"b"}', *e],
    "a name with a line's end": lambda e: [e[0].replace("a.0", "a\n0"), *e[1:]],
    "bytes after the object": lambda e: [*e[:-1], e[-1] + "}{"],
}


def outcome(path: Path) -> object:
    try:
        with open_checkpoint(path) as ck:
            return list(ck.tensors.values()), ck.metadata, ck.findings
    except CheckpointError as e:
        return type(e), str(e)


@pytest.mark.parametrize("fault", FAULTS)
def test_an_odd_header_is_taken_as_entry_by_entry(tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    regular = entries()
    odd = FAULTS[fault](regular)
    assert odd != regular
    path = write(tmp_path / "model.safetensors", "{" + ",".join(odd) + "}")
    assert path.stat().st_size > safetensors._MANY
    found = outcome(path)
    monkeypatch.setattr(safetensors, "_as_written", lambda *_: None)
    assert found == outcome(path)


@pytest.mark.parametrize("size", [-1, 1, 8])
def test_a_cut_or_longer_file_is_refused(tmp_path: Path, size: int) -> None:
    whole = sum(8 if n % 3 else 4 for n in range(COUNT))
    path = write(tmp_path / "model.safetensors", "{" + ",".join(entries()) + "}", whole + size)
    with pytest.raises(CheckpointError, match="truncated" if size < 0 else "follow the last tensor"):
        open_checkpoint(path)


@pytest.mark.parametrize("limit", [{"tensors": COUNT - 1}, {"json_values": COUNT}, {"json_bytes": 1000}, {"name_bytes": 3}, {"rank": 1}])
def test_the_limits_hold(tmp_path: Path, limit: dict[str, int]) -> None:
    path = write(tmp_path / "model.safetensors", "{" + ",".join(entries()) + "}")
    with using(**limit), pytest.raises(CheckpointError, match="limit"):
        open_checkpoint(path)
