"""Every limit is met by some file, named with its value and the way to raise it, raised in four ways, and listed in docs/security.md."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import gguf_files
import numpy as np
import pytest
from commands import run

import ckptkit
from ckptkit import limits
from ckptkit.errors import LimitError, UsageError

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "hostile"))
import hostile_pickles as pickles  # noqa: E402
import hostile_tables as tables  # noqa: E402
from hostile_headers import tensors as sound  # noqa: E402


def file(name: str, data: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return make


def bundle(index: bytes, data: bytes = tables.DATA) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "m.index").write_bytes(index)
        (folder / "m.data-00000-of-00001").write_bytes(data)
        return folder / "m"

    return make


def index_of(text: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        for name in "wx":
            (folder / f"{name}.safetensors").write_bytes(sound({name: "F32 2"}))
        (folder / "model.safetensors.index.json").write_text(text)
        return folder / "model.safetensors.index.json"

    return make


def packed(folder: Path) -> Path:
    np.savez_compressed(folder / "m.npz", w=(np.arange(1 << 20) // 16 % 64).astype(np.float32))
    return folder / "m.npz"


def folders(folder: Path) -> Path:
    (folder / "a" / "b").mkdir(parents=True)
    np.save(folder / "a" / "b" / "w.npy", np.zeros(2, np.float32))
    np.save(folder / "x.npy", np.zeros(2, np.float32))
    return folder


def pickled(more: bytes) -> Callable[[Path], Path]:
    return file("model.pt", pickles.zipped(b"\x80\x02" + pickles.state(pickles.text("more") + more) + b"."))


def strings(folder: Path) -> Path:
    lengths = b"\1\1"
    data = lengths + tables.crc32c(b"\1\0\0\0\1\0\0\0").to_bytes(4, "little") + b"ab"
    entry = tables.entry(dtype=7, size=len(data))
    return bundle(tables.table([tables.block([(0, b"", tables.HEADER), (0, b"s", entry)])]), data)(folder)


def program(folder: Path) -> Path:
    return HERE.parent / "fixtures" / "golden" / "tf2_small_bert_keras3" / "saved_model"


TWO = json.dumps({"weight_map": {"w": "w.safetensors", "x": "x.safetensors"}})
GOOD = tables.entry(crc=tables.crc32c(tables.DATA))
ITEMS = [(0, b"", tables.HEADER), (0, b"w", GOOD)]
SNAPPED = tables.varint(len(tables.block(ITEMS))) + bytes([len(tables.block(ITEMS)) - 1 << 2]) + tables.block(ITEMS)
SLICES = b"".join(tables.field(7, tables.field(1, tables.field(1, s) + tables.field(2, 1))) for s in (0, 1))
TENSOR = pickles.state()[2:-1].split(b"ctorch._utils", 1)[1]
OPAQUE = b"(cos\nsystem\ncos\npopen\nt"
MET: dict[str, Callable[[Path], Path]] = {
    "header_keys": file("m.gguf", gguf_files.gguf({"w": ((1,), 0, bytes(4))}, {"a": (4, 1), "b": (4, 1)})),
    "header_bytes": bundle(tables.table([tables.block(ITEMS)])),
    "block_bytes": bundle(tables.table([SNAPPED], kind=b"\1")),
    "pickle_bytes": pickled(b"K\1"),
    "pickle_opcodes": pickled(b"K\1"),
    "pickle_memo": pickled(b"N" + b"\x94" * 270_000),
    "pickle_globals": pickled(OPAQUE),
    "pickle_depth": file(
        "model.pt", pickles.zipped(b"\x80\x02}" + pickles.text("a") + b"}" + pickles.text("b") + pickles.state() + b"ss.")
    ),
    "pickle_tuples": pickled(b"}(K\1\x85NK\2\x85Nu"),
    "pickle_values": pickled(b"}" + pickles.text("b") + b"K\1s"),
    "json_bytes": index_of(TWO),
    "json_depth": index_of(TWO),
    "json_digits": index_of(TWO[:-1] + ', "metadata": {"total_size": 16}}'),
    "json_values": index_of(TWO),
    "tensors": file("model.safetensors", sound({"w": "F32 2", "x": "F32 2"})),
    "names_each": file(
        "model.pt",
        pickles.zipped(
            b"\x80\x02}("
            + pickles.text("a")
            + pickles.state()
            + b"q\5"
            + b"".join(pickles.text(f"n{i}") + b"h\5" for i in range(1100))
            + b"u."
        ),
    ),
    "shards": index_of(TWO),
    "slices": bundle(tables.table([tables.block([(0, b"", tables.HEADER), (0, b"w", tables.entry(more=SLICES))])])),
    "folders": folders,
    "messages": program,
    "rank": file("model.safetensors", sound({"w": "F32 2 1"})),
    "name_bytes": file("model.safetensors", sound({"weight": "F32 2"})),
    "unpack_ratio": packed,
    "zip_entries": file("model.pt", pickles.zipped(b"\x80\x02" + pickles.state() + b".")),
    "string_bytes": strings,
    "strings": strings,
    "program_bytes": program,
}


def refused(path: Path, name: str) -> LimitError:
    """What `validate`, and reading every tensor, says under the limit `name`=1."""
    with limits.using(**{name: 1}), pytest.raises(LimitError) as e:
        ckptkit.validate(path)
        with ckptkit.open(path) as c:
            for n, t in c.tensors.items():
                c.strings(n) if t.spec.dtype == "STRING" else c.array(n)
    return e.value


@pytest.mark.parametrize("name", MET)
def test_a_limit_that_is_met_is_named_with_its_value_and_how_to_raise_it(name: str, tmp_path: Path) -> None:
    path = MET[name](tmp_path)
    e = refused(path, name)
    assert re.search(rf"over the limit {name}=1(, at byte \d+)?$", e.message.partition("; it names")[0]), e
    assert e.hint is not None
    assert f"--limit {name}=N" in e.hint
    assert e.path is not None
    assert str(tmp_path) in e.path or path.name in e.path
    assert re.search(r" is | has | have | holds |deeper|more", e.message)


@pytest.mark.parametrize(
    "name", sorted(set(MET) - {"names_each", "slices", "strings", "string_bytes", "unpack_ratio"})
)  # whose files are not whole
def test_the_usual_limits_let_these_files_through(name: str, tmp_path: Path) -> None:
    with ckptkit.open(MET[name](tmp_path)) as c:
        assert c.tensors


def test_pairs_of_slices_and_values_beside_the_tensors(tmp_path: Path) -> None:
    from ckptkit.configuration.read import read_config
    from ckptkit.containers._tensorflow.partitions import Piece, cover
    from ckptkit.tensors import Extent

    boxes = [((i, 1), (j, 1)) for i in range(2) for j in range(2)]
    with (
        limits.using(slice_pairs=1),
        pytest.raises(LimitError, match=r"'w' is cut into 4 pieces along too many axes, over the limit slice_pairs=1"),
    ):
        cover([Piece(b, Extent("m", 0, 4)) for b in boxes], (2, 2), "'w'", "m")
    path = pickled(b"](K\1K\2K\3e")(tmp_path)
    with limits.using(extras=1), ckptkit.open(path) as c:
        assert [f.message for f in c.findings if f.rule == "extras"] == [
            "holds more values beside the tensors than the limit extras=1; they are left out"
        ]
    (tmp_path / "params.yaml").write_text("a: [1]")
    for name in ("config_text", "yaml_values"):
        with limits.using(**{name: 1}), pytest.raises(LimitError, match=f"params.yaml: .* over the limit {name}=1"):
            read_config(str(tmp_path / "params.yaml"))
    assert set(limits.Limits._fields) == {*MET, "slice_pairs", "extras", "config_text", "yaml_values"}


def test_the_page_about_security_lists_every_limit_with_its_value() -> None:
    units = {"MiB": 1 << 20, "GiB": 1 << 30}
    page = (HERE.parent / "docs" / "security.md").read_text(encoding="utf-8")
    table = page.split("| limit | default | of |\n| --- | --- | --- |\n")[1].split("\n\n")[0]
    said: dict[str, int] = {}
    for row in table.splitlines():
        _, names, values, of, _ = row.split("|")
        found = re.findall(r"`(\w+)`", names)
        numbers = [int(n.replace(",", "")) * units.get(unit, 1) for n, unit in re.findall(r"(\d[\d,]*\d|\d)(?: (MiB|GiB))?", values)]
        assert len(found) == len(numbers), row
        assert of.strip(), row
        said |= dict(zip(found, numbers, strict=True))
    assert said == limits.Limits()._asdict()


def test_every_command_that_opens_a_checkpoint_takes_limits(tmp_path: Path) -> None:
    deep = index_of(json.dumps({"weight_map": {"w": "w.safetensors"}, "x": eval("[" * 150 + "]" * 150)}))(tmp_path)
    from ckptkit.cli._group import cli

    others = {"list", "env", "browse", "clean", "work", "finish"}  # (test_browse; plans and notes are ours)
    commands = set(cli.commands or cli.list_commands(None)) - others  # type: ignore[arg-type]
    words = {"convert": ["out.npz"], "fix": ["fixed"], "diff": [deep], "verify": [deep], "merge": ["merged"], "split": ["base", "lora"],
        "report": ["-o", "page.html"]}  # fmt: skip
    for command in sorted(commands):
        done = run(command, deep, *words.get(command, []), cwd=tmp_path)
        assert done.returncode == 2, command
        assert "over the limit json_depth=100. Hint: where the file is trusted: --limit json_depth=N" in done.stderr, command
        done = run(command, deep, *words.get(command, []), "--limit", "json_depth=200", cwd=tmp_path)
        assert "json_depth" not in done.stderr, (command, done.stderr)
    assert (
        run("inspect", deep, "--limit", "json_dept=200", cwd=tmp_path).stderr
        == "error: no limit is called 'json_dept'. Hint: did you mean 'json_depth'?\n"
    )
    assert (
        "not a size"
        in run("inspect", deep, "--limit=rank=0", cwd=tmp_path).stderr + run("inspect", deep, "--limit=rank=-1", cwd=tmp_path).stderr
    )


def test_a_policy_raises_limits_for_all_or_for_one_and_the_command_line_counts_for_more(tmp_path: Path) -> None:
    path = file("model.safetensors", sound({"w": "F32 2" + " 1" * 70}))(tmp_path)
    one = f'[[checkpoint]]\npath = "{path.name}"\nunknown = "allow"\n'

    def status(text: str, *words: str) -> tuple[int, str]:
        (tmp_path / "ckptkit.toml").write_text(text)
        done = run("validate", *words, cwd=tmp_path)
        return done.returncode, done.stderr + done.stdout

    assert "over the limit rank=64" in status(one)[1]
    assert status("[limits]\nrank = 100\n" + one)[0] == 0
    assert status(one + "limits = { rank = 100 }\n")[0] == 0
    assert "over the limit rank=70" in status("[limits]\nrank = 100\n" + one + "limits = { rank = 70 }\n")[1]
    assert status(one + "limits = { rank = 70 }\n", "--limit", "rank=71")[0] == 0
    assert "over the limit rank=5" in status("[limits]\nrank = 100\n" + one, "--limit", "rank=5")[1]
    for text, says in (
        ("rang = 9", "did you mean 'rank'?"),
        ("rank = '9'", "not a positive whole number"),
        ("rank = true", "not a positive"),
        ("rank = 0", "not a positive"),
    ):
        code, said = status(f"[limits]\n{text}\n" + one)
        assert (code, says in said, "ckptkit.toml" in said) == (2, True, True), said


def test_open_takes_limits_for_what_is_read_later_too(tmp_path: Path) -> None:
    path = packed(tmp_path)
    with limits.using(unpack_ratio=2):
        with pytest.raises(LimitError, match="unpack_ratio=2"), ckptkit.open(path) as c:
            c.array("w")
        with ckptkit.open(path, limits={"unpack_ratio": 5000}) as c:
            np.testing.assert_array_equal(c.array("w"), np.load(path)["w"])
        assert limits.LIMITS.unpack_ratio == 2
    with pytest.raises(UsageError, match="no limit is called 'ratio'"):
        ckptkit.open(path, limits={"ratio": 2})
