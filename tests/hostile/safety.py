"""Hostile files and folders whose harm is elsewhere: in a CI job's log, in this machine's files, in the library that loads them next.

Built by hand from the pieces of `variants`, which hands them in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

Make = Callable[[Path], tuple[str, str, str]]
COMMANDS = {
    "github": "::stop-commands::token", "github_blanks": "   ::add-mask::x", "github_wrapped": "x" * 85 + " ::stop-commands::token",
    "github_old": "##[set-env name=PATH;]x", "azure": "##vso[task.prependpath]evil", "azure_case": "##VSO[task.complete]x",
    "azure_hashes": "####vso[task.debug]x", "teamcity": "##teamcity[buildStop comment='x']", "no_break": "\u00a0::group::x",
    "tab": "a\t::error::x", "return": "a\r::error::x", "next_line": "a\u0085::error::x", "separator": "a\u2028##[error]x",
}  # fmt: skip
SIDECARS = (
    "vocab.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "spiece.model",
    "LICENSE",
    "generation_config.json",
    "added_tokens.json",
)


class Pieces(NamedTuple):
    """What `variants` builds files of: a safetensors file of {name: "F32 2"}, a pickled state dict, a zip around it, text in a pickle."""

    tensors: Callable[[dict[str, str]], bytes]
    state: Callable[..., bytes]
    zipped: Callable[..., bytes]
    archive: Callable[..., bytes]
    text: Callable[[str], bytes]


def safety(p: Pieces) -> Iterator[tuple[str, Make]]:
    """(name, what makes it)."""
    yield from _names(p)
    yield from _links(p)
    yield from _refused_by_torch(p)


def _file(name: str, data: bytes, expect: str, mention: str = "") -> Make:
    def make(folder: Path) -> tuple[str, str, str]:
        (folder / name).write_bytes(data)
        return name, expect, mention

    return make


def _names(p: Pieces) -> Iterator[tuple[str, Make]]:
    for name, odd in COMMANDS.items():
        yield f"ci/{name}", _file("model.safetensors", p.tensors({odd: "F32 2"}), "survive")
        yield f"ci/{name}_torch", _file("model.pt", p.zipped(b"\x80\x02" + p.state(name=odd) + b"."), "survive")
        config = json.dumps({"model_type": odd, "architectures": [odd], "auto_map": {"AutoModel": odd}, "num_hidden_layers": odd}).encode()

        def beside(folder: Path, config: bytes = config, odd: str = odd) -> tuple[str, str, str]:
            (folder / "config.json").write_bytes(config)
            (folder / "model.safetensors").write_bytes(p.tensors({"w": "F32 2"}))
            return "model.safetensors", "survive", ""

        yield f"ci/{name}_config", beside


def _links(p: Pieces) -> Iterator[tuple[str, Make]]:
    for to in ("/etc/passwd", "../../../../../../etc/passwd", "/proc/self/environ", "/dev/zero", "."):

        def linked(folder: Path, to: str = to) -> tuple[str, str, str]:
            (folder / "model.safetensors").write_bytes(p.tensors({"w": "F32 2"}))
            for name in SIDECARS:
                (folder / name).symlink_to(to)
            return "model.safetensors", "warn" if "etc" in to else "survive", "leads out" if "etc" in to else ""

        yield f"links/beside_{to.replace('/', '_')}", linked

        def configured(folder: Path, to: str = to) -> tuple[str, str, str]:
            (folder / "model.safetensors").write_bytes(p.tensors({"w": "F32 2"}))
            (folder / "config.json").symlink_to(to)
            return "model.safetensors", "warn", ""

        yield f"links/config_{to.replace('/', '_')}", configured


def _refused_by_torch(p: Pieces) -> Iterator[tuple[str, Make]]:
    pkl = b"\x80\x02" + p.state() + b"."
    plain = [("archive/data.pkl", pkl), ("archive/version", b"3\n"), ("archive/data/0", b"\0\0\x80\x3f" * 2)]
    yield "torch/sound", _file("model.pt", p.archive(plain), "accept")
    for name, extra in (("byte", b"\0"), ("element", bytes(4)), ("kilobyte", b"x" * 1024)):
        yield (
            f"torch/record_{name}_more",
            _file("model.pt", p.archive([*plain[:2], (plain[2][0], plain[2][1] + extra)]), "warn", "trailing"),
        )
    yield "torch/no_version", _file("model.pt", p.archive([plain[0], plain[2]]), "warn", "version")
    for name, raw in (("zero", b"0"), ("newer", b"99\n"), ("text", b"three"), ("empty", b"")):
        yield f"torch/version_{name}", _file("model.pt", p.archive([plain[0], ("archive/version", raw), plain[2]]), "warn", "version")
    for name, raw in (("text", b"x"), ("empty", b""), ("long", b"6" * 5000), ("control", b"\x1b[2J")):
        held = [*plain, ("archive/.storage_alignment", raw)]
        yield f"torch/alignment_{name}", _file("model.pt", p.archive(held), "warn", "alignment")
    numpy = b"cnumpy._core.multiarray\nscalar\n(cnumpy\ndtype\n" + p.text("f8") + b"\x89\x88\x87R" + b"U\x08" + bytes(8) + b"tR"
    yield (
        "torch/numpy_scalar",
        _file("model.pt", p.zipped(b"\x80\x02" + p.state(p.text("lr") + numpy) + b"."), "warn", "torch.load refuses"),
    )
