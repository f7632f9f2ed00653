"""Names from files reach no terminal, log, page or report as they are; limits are named, and can be raised by name."""

from __future__ import annotations

import json
import os
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from commands import run

import ckptkit
from ckptkit.errors import CheckpointError, LimitError, UsageError
from ckptkit.limits import LIMITS, Limits, using

EVIL = "a\x1b]0;t\x07\x9b31m\u202egnp.\u200b|`*[x](javascript:y)<script>&\r\n::error file=x::%0A"


def safetensors(path: Path, names: tuple[str, ...] = ("w",), metadata: dict[str, str] | None = None) -> Path:
    entries: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    entries |= {n: {"dtype": "F32", "shape": [2], "data_offsets": [8 * i, 8 * i + 8]} for i, n in enumerate(names)}
    header = json.dumps(entries).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0\xc0\x7f" * 2 * len(names))  # NaN: a finding that names it
    return path


def said(*words: str) -> tuple[int, str]:
    done = run(*words, NO_COLOR="1")
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("inspect", "--tensors"),
        ("inspect", "--tensors", "--format", "json"),
        ("inspect", "--tensors", "--format", "markdown"),
        ("inspect", "--tree"),
        ("inspect", "--stats"),
        ("digest",),
    ]
    + [("validate", "--format", f) for f in ("text", "json", "markdown", "sarif", "junit", "github")],
    ids=" ".join,
)
def test_a_name_is_escaped_wherever_it_goes(words: tuple[str, ...], tmp_path: Path) -> None:
    path = safetensors(tmp_path / "model.safetensors", (EVIL,), {EVIL: EVIL})
    _, out = said(words[0], str(path), *words[1:])
    assert all(c.isprintable() or c == "\n" for c in out), [c for c in out if not c.isprintable() and c != "\n"]
    form = words[-1]
    if form in ("json", "sarif"):
        assert "gnp" in json.dumps(json.loads(out))
    if form == "junit":
        assert ET.fromstring(out).tag == "testsuites"
    if form == "github":
        assert all(line.startswith(("::error file=", "::warning file=", "::notice file=")) for line in out.splitlines())
    if form == "markdown":
        assert "<script>" not in out.replace("\\<script\\>", "")
        assert "[x](" not in out


COMMANDS = ["::stop-commands::tok", "  ::stop-commands::tok", "##vso[task.prependpath]evil", "a ##[error]x", "###[set-env name=x]y",
    "x" * 85 + " ::stop-commands::tok", "\u00a0::add-mask::x", "y" * 60 + " " + "z" * 30 + "\t::debug::x", "##teamcity[message text='x']",
    "##VSO[task.setvariable variable=a]b", "a" * 95 + " ##vso[task.complete]x",
    "\u2003::group::x", "\\##[x", "::error file=a::b"]  # fmt: skip


def obeyed(text: str) -> list[str]:
    """The lines that GitHub's runner or Azure's agent take for a command (ActionCommand.cs, Command.cs): `::` after blanks, `##[` and
    `##vso[` anywhere."""
    lines = re.split(r"\r\n|[\n\r\u0085\u2028\u2029]", text)
    return [x for x in lines if x.strip().startswith("::") or re.search(r"##[A-Za-z.]*\[", x)]


@pytest.mark.parametrize(
    "words",
    [("inspect", "--tensors"), ("inspect", "--tree"), ("inspect", "--stats"), ("inspect", "--format", "markdown"), ("digest",), ("lock",)]
    + [
        ("inspect", "--tensors", "--format", "json"),
        ("diff",),
        ("diff", "--tensors"),
        ("diff", "--format", "json"),
        ("diff", "--format", "markdown"),
    ]
    + [("validate", "--format", f) for f in ("text", "json", "markdown", "sarif", "junit", "html")]
    + [("convert", "--container", "torch"), ("convert", "--dry-run"), ("fix",), ("verify",), ("summary",)],
    ids=" ".join,
)
def test_no_name_is_a_command_to_the_job_that_prints_it(words: tuple[str, ...], tmp_path: Path) -> None:
    folder = tmp_path / "##vso[task.debug]x"
    folder.mkdir()
    path = safetensors(folder / "::warning::x.safetensors", tuple(COMMANDS), {n: n for n in COMMANDS})
    (folder / "config.json").write_text(
        json.dumps({"model_type": "::error::x", "architectures": ["##[error]x"], "hidden_act": COMMANDS[0]})
    )
    other = [str(safetensors(tmp_path / "other.safetensors", tuple(COMMANDS[:5])))] if words[0] in ("diff", "verify") else []
    other += [str(tmp_path / "out.safetensors")] if words[0] in ("convert", "fix") else []
    report = ("--report", f"text={tmp_path / 'report'}") if words[0] == "validate" else ()
    status, out = said(words[0], str(path), *other, *words[1:], *report)
    assert "Traceback" not in out and status in (0, 1, 2, 3)
    assert not obeyed(out), obeyed(out)
    assert not report or not obeyed((tmp_path / "report").read_text())
    if words[-1] in ("json", "sarif") and status < 2:
        held = json.dumps(json.loads(out), ensure_ascii=False)
        assert "##vso[" in held and "##[error]x" in held, "JSON says the names as they are"
    if words[-1] == "junit":
        assert "##vso[" in "".join(ET.fromstring(out).itertext())


def test_annotations_are_ours_alone(tmp_path: Path) -> None:
    path = safetensors(tmp_path / "model.safetensors", tuple(COMMANDS))
    _, out = said("validate", str(path), "--format", "github")
    assert all(line.startswith(("::error file=", "::warning file=", "::notice file=")) for line in out.splitlines())
    assert not [line for line in out.splitlines() if re.search(r"##[A-Za-z.]*\[", line)]


def test_a_file_name_that_is_no_utf8_goes_everywhere(tmp_path: Path) -> None:
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\x1b[2J")
    os.mkdir(folder)
    path = str(safetensors(Path(folder) / "model.safetensors"))
    report = tmp_path / "report"
    for wanted, *words in (
        (0, "inspect", path),
        (0, "inspect", path, "--format", "json"),
        (3, "validate", path, "--format", "json", "--report", f"sarif={report}"),  # of an unknown architecture: undecided
        (0, "validate", path, "--allow-unknown", "--format", "json", "--report", f"sarif={report}"),
        (0, "convert", path, str(tmp_path / "out"), "--container", "torch"),
    ):
        status, out = said(*map(str, words))
        assert status == wanted, out
        assert all(c.isprintable() or c == "\n" for c in out)
    assert (tmp_path / "out" / "pytorch_model.bin").exists()


def test_a_limit_names_itself_and_can_be_raised(tmp_path: Path) -> None:
    path = safetensors(tmp_path / "model.safetensors", ("n" * 5000,))
    with pytest.raises(LimitError, match="name_bytes=4,096") as e:
        ckptkit.open(path)
    assert e.value.hint is not None
    assert "--limit name_bytes=N" in e.value.hint
    with using(name_bytes=6000), ckptkit.open(path) as checkpoint:
        assert list(checkpoint.tensors) == ["n" * 5000]
    assert LIMITS.name_bytes == Limits().name_bytes
    assert said("inspect", str(path))[0] == 2
    assert said("inspect", str(path), "--limit", "name_bytes=6000")[0] == 0
    assert said("inspect", str(path), "--limit=name_bytes=6KB", "--format=json")[0] == 0


@pytest.mark.parametrize("name", Limits._fields)
def test_every_limit_can_be_overridden_by_name(name: str) -> None:
    with using(**{name: 7}) as limits:
        assert getattr(limits, name) == getattr(LIMITS, name) == 7
        with pytest.raises(LimitError, match=f"over the limit {name}=7"):
            LIMITS.check(name, 8, "it")
    assert LIMITS.limits == Limits()


def test_a_limit_that_is_none_is_refused() -> None:
    for values in ({"speed": 1}, {"rank": 0}, {"rank": True}):
        with pytest.raises(UsageError), using(**values):
            pass
    status, out = said("inspect", "x", "--limit", "speed=1")
    assert status == 2
    assert "no limit is called 'speed'" in out


def test_reference_reads_what_was_written_and_stops_what_it_finds_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    from ckptkit.runtime.verify import reference

    source = Path(__file__).resolve().parent.parent / "fixtures" / "made" / "bert-hf"
    for container, options in (
        ("safetensors", {"to": "hf", "max_shard_size": 40_000}),
        ("torch", {"to": "hf", "container": "torch"}),
        ("tf", {"to": "google"}),
        ("out.h5", {"container": "hdf5"}),
        ("out.npz", {"container": "npz"}),
    ):
        ckptkit.convert(source, tmp_path / container, check="reference", **options)
        with ckptkit.open(tmp_path / container) as checkpoint:
            assert reference.hold(str(tmp_path / container), container) == len(checkpoint.tensors) > 70
    real = reference.READERS["safetensors"]
    for wrong, message in (
        (lambda ck: ((n, a + np.float32(1)) for n, a in real(ck)), "reads '.*' otherwise"),
        (lambda ck: list(real(ck))[1:], "does not find"),
        (lambda ck: [("extra", np.zeros(1)), *real(ck)], "finds 'extra'"),
        (lambda ck: 1 / 0, "cannot read it: ZeroDivisionError"),
    ):
        monkeypatch.setitem(reference.READERS, "safetensors", wrong)
        with pytest.raises(CheckpointError, match=message):
            ckptkit.convert(source, tmp_path / "no", to="hf", check="reference")
        assert not (tmp_path / "no").exists()
        assert not [p for p in tmp_path.iterdir() if "ckptkit" in p.name]
    monkeypatch.delitem(reference.READERS, "torch")
    with pytest.raises(UsageError, match="no library to read torch with"):
        ckptkit.convert(source, tmp_path / "no", container="torch", check="reference")
