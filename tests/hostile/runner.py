"""Run ckptkit's commands over hostile files, each in a forked process that starts with a small memory, and say what happened.

    python tests/hostile/runner.py [--corpus fixtures/hostile/corpus] [--commands validate,inspect,convert]

A case is a path with what must happen. Held for every one: no traceback, no signal, no hang, at most 300 MB, a refusal that is one
printable line with the file's name, nothing executed (CKPTKIT_CANARY), and no output of a conversion where the input is refused.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
if __name__ == "__main__":
    sys.path[:0] = [str(HERE), str(HERE.parents[1])]
SECONDS, MEGABYTES = 20, 300

# a place in a file: a byte, a line, a tensor, entry, key or storage by its name, the limit that is met
PLACE = (
    r"\bbytes? -?\d|\bline \d+ column \d|'[^']*'|\bentry \S|\bdataset \S|\blimit \w+=\d|\bhas \d+ "
    r"bytes|\d+ bytes are too few|\bstorage \S|/[\w.]+\.npy: |vars/\d+: "
)
# what is wrong with a file as a whole, which no place in it tells
WHOLE = (
    "is no checkpoint format that ckptkit knows", "is not a regular file", "cannot be read: ", "is a link to nothing", "is empty",
    "is an empty directory", "holds no checkpoint", "is no safetensors file", "no such file",
    "is no table: the footer's magic number is missing", "has no header: the first key is not the empty one", "the header says",
    "asks for a newer reader", "is a big-endian bundle", "was written on a big-endian machine",
    "shards missing: ", "which this version does not read", "is not the index of a sharded checkpoint", "the index lists no tensors",
    "the index is empty", "the index is not a JSON object", "is a plain pickle of ",
    "the metadata of a distributed checkpoint name ",
    "is a torch.save of ", "is a TorchScript archive", "is PyTorch's tar form", "is of PyTorch's serialization protocol",
    "two entries called ", "whose names differ only in case: ", "this has ", "its byteorder is ",
    "is no SavedModel", "is no flax checkpoint", "the architecture is unknown", "the header's length is given as ", "is no HDF5",
    "has no object ", "would be called by whoever loads the file",
    "is a web page, not the weights", "is a Git LFS pointer", "header does not end within the file's ",
    "is a compressed joblib file", "is a msgpack file without arrays", "a SavedModel without ",
)  # fmt: skip


class Case(NamedTuple):
    """`expect`: refuse (a status other than 0), warn (that, or a finding), accept (0), survive (either)."""

    id: str
    path: str
    expect: str
    mention: str = ""  # a regular expression for the message or finding


class Result(NamedTuple):
    """What became of a case under a command. `wrong` is empty where all is as it should be."""

    case: str
    command: str
    status: int
    seconds: float
    megabytes: int
    said: str
    wrong: str


def corpus(folder: Path) -> list[Case]:
    """The cases of a corpus with a manifest.json."""
    rows = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["cases"]
    words = {"reject": "refuse"}
    return [
        Case(r["id"], str(folder / r["path"]), words.get(r["expect"], r["expect"]), (r["mention"] or "").replace("noesc", "")) for r in rows
    ]


def run(cases: Iterable[Case], commands: Iterable[str]) -> Iterator[Result]:
    """Every case under every command."""
    _warm(commands)
    for case in cases:
        for command in commands:
            yield _one(case, command)


def _warm(commands: Iterable[str]) -> None:
    """Run the commands over a sound file here, so that the processes made from this one have nothing to import."""
    import contextlib
    import io

    import ckptkit.cli

    header = b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        path = os.path.join(folder, "model.safetensors")
        Path(path).write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0\x80\x3f" * 2)
        for command in commands:
            sys.argv = ["ckptkit", command, path, *([os.path.join(folder, "out"), "--container", "torch"] if command == "convert" else [])]
            with contextlib.suppress(SystemExit):
                ckptkit.cli.main()


def _one(case: Case, command: str) -> Result:
    work = Path(tempfile.mkdtemp(prefix="ckptkit-hostile-"))
    canary, target = work / "canary", work / "out" / "target"
    output = os.open(work / "said", os.O_RDWR | os.O_CREAT)
    words = {
        "convert": ["convert", case.path, str(target), "--container", "torch", "-q"],
        "validate": ["validate", "--allow-unknown", case.path],
    }.get(command, [command, case.path])
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _child(words, output, canary)
    fd = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else -1
    late = fd >= 0 and not select.select([fd], [], [], SECONDS)[0]
    if late:
        os.kill(pid, signal.SIGKILL)
    _, state, usage = os.wait4(pid, 0)
    os.close(fd) if fd >= 0 else None
    seconds = time.monotonic() - began
    said = os.pread(output, 1 << 20, 0).decode(errors="backslashreplace")
    os.close(output)
    status = os.waitstatus_to_exitcode(state)
    wrong = "a hang" if late else _wrong(case, command, status, said, usage.ru_maxrss // 1024)
    if canary.exists():
        wrong = "executed"
    elif command == "convert" and status and target.parent.exists():
        wrong = wrong or f"left behind: {sorted(p.name for p in target.parent.rglob('*'))}"
    elif command == "convert" and not status and not target.exists():
        wrong = wrong or "no output"
    shutil.rmtree(work, ignore_errors=True)
    return Result(case.id, command, status, round(seconds, 2), usage.ru_maxrss // 1024, said[-600:], wrong)


def _child(words: list[str], output: int, canary: Path) -> None:
    import ckptkit.cli

    try:
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(canary.parent)
        sys.stdout, sys.stderr = os.fdopen(os.dup(1), "w"), os.fdopen(os.dup(2), "w")
        os.environ.update(CKPTKIT_CANARY=str(canary), NO_COLOR="1")
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        sys.argv = ["ckptkit", *words]
        try:
            ckptkit.cli.main()
        except SystemExit as e:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(e.code if isinstance(e.code, int) else 1)
    except BaseException:
        import traceback

        os.write(2, traceback.format_exc().encode())
    os._exit(99)


def _wrong(case: Case, command: str, status: int, said: str, megabytes: int) -> str:
    """What is not as it should be, in a few words; "" if nothing."""
    import re

    if status < 0 or status == 99 or "Traceback (most recent call last)" in said:
        return f"a crash (status {status})"
    if megabytes > MEGABYTES:
        return f"{megabytes} MB"
    if any(not c.isprintable() and c != "\n" for c in said):
        return "unprintable characters"
    if any(line.lstrip().startswith("::") or re.search(r"##[A-Za-z.]*\[", line) for line in said.splitlines()):
        return "a command to a CI job"
    lines = said.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    if status == 2 and (len(errors) != 1 or lines[-1] != errors[0]):
        return "not one error line"
    name = os.path.basename(case.path.rstrip("/"))
    shown = name if name.isprintable() else name.encode("unicode_escape").decode()[:8]
    if status == 2 and shown not in errors[0] and os.path.basename(os.path.dirname(case.path)) not in errors[0]:
        return "the error does not name the file"
    if status == 2 and (bad := _message(errors[0].removeprefix("error: "))):
        return bad
    if case.expect == "accept" and status:
        return "refused"
    if command == "validate" and case.expect in ("refuse", "warn"):
        noticed = status != 0 or (case.expect == "warn" and any(line.startswith(("warning ", "error ")) for line in lines))
        if not noticed:
            return "accepted without a word"
        if case.mention and not re.search(case.mention, said):
            return f"does not mention {case.mention}"
    return ""


def _message(text: str) -> str:
    """What an error of a file lacks: a path first, what is wrong with its place, and a hint."""
    import re

    what, hint, advice = text.partition(" Hint: ")
    if not hint or len(advice) < 8:
        return "the error has no hint"
    if len(text) > 2500:
        return "the error is too long"
    path, colon, what = what.partition(": ")
    if not colon or not (path.startswith(("/", ".")) or "/" in path):
        return "the error does not begin with a path"
    if not re.search(PLACE, f"{path}: {what}") and not any(w in what for w in WHOLE):
        return "the error names no place"
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, action="append", help="a folder with a manifest.json; repeatable")
    parser.add_argument("--variants", action="store_true", help="the made variants as well")
    parser.add_argument("--bombs", action="store_true", help="the files that cost most as well")
    parser.add_argument("--commands", default="validate,inspect,convert")
    parser.add_argument("--ids", default="")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every Nth case")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each result")
    parser.add_argument("-v", action="store_true")
    a = parser.parse_args()
    import re

    cases = [c for folder in a.corpus or () for c in corpus(folder.resolve())]
    made = tempfile.mkdtemp(prefix="ckptkit-variants-")
    try:
        if a.variants:
            from variants import variants

            cases += variants(Path(made))
        if a.bombs:  # made in a process that ends, so that this one stays small
            pid = os.fork()
            if pid == 0:
                from variants import bombs

                Path(made, "bombs.json").write_text(json.dumps(bombs(Path(made))))
                os._exit(0)
            os.waitpid(pid, 0)
            cases += [Case(*row) for row in json.loads(Path(made, "bombs.json").read_text())]
        bad = total = 0
        worst = (0, 0.0)
        for r in run([c for c in cases if re.search(a.ids, c.id)][:: a.every], tuple(a.commands.split(","))):
            total += 1
            bad += bool(r.wrong)
            worst = max(worst[0], r.megabytes), max(worst[1], r.seconds)
            if a.json:
                print(json.dumps(r._asdict()))
            elif r.wrong or a.v:
                print(
                    f"{r.wrong or 'ok':30} {r.command:9} {r.case:40} {r.status:3} {r.megabytes:4} MB {r.seconds:5.2f} s | "
                    f"{(r.said.strip().splitlines() or [''])[-1][:200]}"
                )
        if not a.json:
            print(f"{total - bad} of {total} as they should be; at most {worst[0]} MB, {worst[1]} s")
        return 1 if bad else 0
    finally:
        shutil.rmtree(made, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
