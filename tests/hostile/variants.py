"""Hostile files of our own making: the ideas of the corpus at other places, in other forms and wrapped in other things.

Each is built here by hand (no writer of ckptkit's makes a broken file), small, and harmless if it were loaded: a payload would touch the
file that CKPTKIT_CANARY names.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from formats import formats
from hostile_file import Made, text
from hostile_headers import json_files, safetensors_files, tensors
from hostile_pickles import archive, legacy_files, pickle_files, state, zip_files, zipped
from hostile_tables import index, table_files
from runner import Case
from safety import Pieces, safety

MAKERS: list[tuple[str, Callable[[Path], Made]]] = []


def variants(folder: Path) -> list[Case]:
    """Make every variant below `folder`."""
    return list(_made(folder))


def _made(folder: Path) -> Iterator[Case]:
    for name, make in (
        *MAKERS,
        *safetensors_files(),
        *json_files(),
        *pickle_files(),
        *zip_files(),
        *legacy_files(),
        *table_files(),
        *formats(),
        *safety(Pieces(tensors, state, zipped, archive, text)),
    ):
        here = folder / name.replace("/", "_")
        here.mkdir(parents=True, exist_ok=True)
        path, expect, mention = make(here)
        yield Case(name, os.path.join(here, path), expect, mention)


def maker(f: Callable[[Path], Made]) -> Callable[[Path], Made]:
    MAKERS.append((f"path/{f.__name__}", f))
    return f


def bombs(folder: Path) -> list[Case]:
    """Files of up to 60 MB that cost as much memory and time as a file within the limits can."""
    n = 1_990_000  # opcodes
    pickles = {
        "dicts": b"}" * n, "lists": b"]" * n, "memo": b"N" + b"\x94" * 990_000 + b".",
        "strings": b"".join(b"\x8c\x06%06d" % i for i in range(n)), "tuples": b")" + b"\x85" * n + b".",
        "emoji": b"X" + (60 << 20).to_bytes(4, "little") + "\U0001f600".encode() * (15 << 20) + b".",
        "objects": b"ca\nb\nq\0" + b"h\0)\x81" * 600_000 + b".", "inst": b"(ia\nb\n" * 500_000 + b".",
    }  # fmt: skip
    texts = {
        "objects": b"[" + b",".join([b'{"a":0}'] * 990_000) + b"]",
        "strings": b'["' + b'","'.join(b"%d" % i for i in range(1_900_000)) + b'"]',
        "emoji": ('["' + "\U0001f600" * 15_000_000 + '"]').encode(),
    }  # fmt: skip
    made = [(f"pickle_{k}", "model.pt", zipped(b"\x80\x02" + v)) for k, v in pickles.items()]
    made += [
        (f"json_{k}", "model.safetensors.index.json", b'{"weight_map":{"w":"a.safetensors"},"x":' + v + b"}") for k, v in texts.items()
    ]
    out = []
    for name, file, data in made:
        (folder / name).mkdir()
        (folder / name / file).write_bytes(data)
        out.append(Case(f"bomb/{name}", str(folder / name / file), "refuse"))
    return out


# --- paths ---------------------------------------------------------------------------------------------------------


@maker
def fifo(folder: Path) -> Made:
    os.mkfifo(folder / "model.safetensors")
    return "model.safetensors", "refuse", "not a regular file"


@maker
def fifo_beside(folder: Path) -> Made:
    for name in ("config.json", "operative_config.gin", "vocab.txt", "tokenizer.json", "hparams.json", "generation_config.json"):
        os.mkfifo(folder / name)
    (folder / "model.safetensors").write_bytes(tensors({"w": "F32 2"}))
    return "model.safetensors", "survive", ""


@maker
def fifo_gin(folder: Path) -> Made:
    os.mkfifo(folder / "operative_config.gin")
    (folder / "model.safetensors").write_bytes(tensors({"w": "F32 2"}))
    return ".", "survive", ""


@maker
def fifo_shard(folder: Path) -> Made:
    os.mkfifo(folder / "a.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": "a.safetensors"}}))
    return ".", "refuse", "missing|regular"


@maker
def fifo_array(folder: Path) -> Made:
    (folder / "params_shapes.json").write_text("[[2]]")
    os.mkfifo(folder / "params_0.npy")
    return ".", "refuse", "not a regular file"


@maker
def fifo_data_file(folder: Path) -> Made:
    (folder / "m.index").write_bytes(index({"w": 8}))
    os.mkfifo(folder / "m.data-00000-of-00001")
    return "m", "refuse", "missing"


@maker
def a_socket(folder: Path) -> Made:
    here = os.getcwd()
    os.chdir(folder)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as s:
            s.bind("model.pt")
    finally:
        os.chdir(here)
    return "model.pt", "refuse", "not a regular file"


@maker
def device(folder: Path) -> Made:
    (folder / "model.safetensors").symlink_to("/dev/zero")
    return "model.safetensors", "refuse", "not a regular file"


@maker
def link_loop(folder: Path) -> Made:
    (folder / "model.safetensors").symlink_to("other")
    (folder / "other").symlink_to("model.safetensors")
    return "model.safetensors", "refuse", ""


@maker
def directory_loop(folder: Path) -> Made:
    (folder / "model").symlink_to(".")
    (folder / "variables").symlink_to(".")
    return ".", "refuse", ""


@maker
def shard_link_loop(folder: Path) -> Made:
    (folder / "a.safetensors").symlink_to("a.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": "a.safetensors"}}))
    return ".", "refuse", "missing"


@maker
def shard_is_the_index(folder: Path) -> Made:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": "model.safetensors.index.json"}}))
    return ".", "refuse", ""


@maker
def shard_is_a_directory(folder: Path) -> Made:
    (folder / "a.safetensors").mkdir()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": "a.safetensors"}}))
    return ".", "refuse", "missing"


@maker
def thousands_of_files(folder: Path) -> Made:
    for i in range(3000):
        (folder / f"a{i % 50}.ckpt-{i:05d}-of-{i + 100:05d}").touch()
        (folder / f"b{i}.index").touch()
        (folder / f"c{i}.pt").touch()
    return ".", "refuse", "no checkpoint"


@maker
def thousands_of_shards(folder: Path) -> Made:
    (folder / "a.safetensors").write_bytes(tensors({"w": "F32 2"}))
    names = [f"s{i}.safetensors" for i in range(1500)]
    for n in names:
        (folder / n).symlink_to("a.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {f"w{i}": n for i, n in enumerate(names)}}))
    return ".", "survive", ""


@maker
def sparse_huge(folder: Path) -> Made:
    with (folder / "model.safetensors").open("wb") as f:
        f.write((1 << 62).to_bytes(8, "little") + b"{")
        f.truncate(1 << 40)
    return "model.safetensors", "refuse", "header's length"


@maker
def sparse_index(folder: Path) -> Made:
    with (folder / "m.index").open("wb") as f:
        f.truncate(1 << 40)
        f.seek(0, 2)
        f.write(index({"w": 8})[-48:])
    (folder / "m.data-00000-of-00001").write_bytes(bytes(8))
    return "m", "refuse", ""


@maker
def sparse_json(folder: Path) -> Made:
    (folder / "model.safetensors").write_bytes(tensors({"w": "F32 2"}))
    with (folder / "config.json").open("wb") as f:
        f.write(b"{")
        f.truncate(1 << 40)
    return ".", "refuse", "json_bytes"


@maker
def name_of_the_file(folder: Path) -> Made:
    name = "evil\x1b[2J\u202e\n.safetensors"
    (folder / name).write_bytes(b"\0" * 20)
    return name, "refuse", ""
