"""What is called like weights and is none, or none that is read here: pointers, web pages, text, formats without a container.

Bytes decide; names only say what was probably meant when nothing fits. What is a known form of weights that has no container here is
refused by its name, with the way by which its content gets here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from .. import store
from ..errors import PIPE, UNREADABLE, CheckpointError, NotFoundError, UnknownFormatError, UnsupportedError, printable
from ._discovery import each, known
from ._interface import Container


def head_and_tail(path: str) -> tuple[bytes, bytes]:
    """The first 512 bytes of a file and its last 64."""
    blob = store.open_blob(path)
    try:
        size = blob.size
        return blob.pread(512, 0), blob.pread(64, max(0, size - 64))
    except OSError as e:
        raise CheckpointError(f"cannot be read: {e.strerror}", path=path, hint=UNREADABLE) from None
    finally:
        blob.close()


def of_file(path: str) -> Container:
    """The container of a file, by its bytes. Raises UnknownFormatError, UnsupportedError, NotFoundError, CheckpointError."""
    if not store.is_file(path):
        if store.exists(path):
            raise CheckpointError("is not a regular file", path=path, hint=PIPE)
        raise NotFoundError("is a link to nothing", path=path, hint="the file that it names is gone, or it leads back to itself")
    head, tail = head_and_tail(path)
    if not head:
        raise UnknownFormatError("is empty", path=path, hint="was the download cut short?")
    refuse_pointers(path, head)
    if (
        path.endswith(".distcp")
        and head.startswith(b"PK")
        and (found := foreign_folder(os.path.dirname(path), store.listdir(os.path.dirname(path) or ".")))
    ):
        raise UnsupportedError(f"is a part of {found[0]}, which this version does not read", path=path, hint=found[1])
    general = None
    for c in each(os.path.basename(path)):
        if c.sniff(head, tail, path):
            if not getattr(c, "GENERAL", False):
                return c
            general = general or c
    if general is not None:
        return general
    _refuse_by_name(path, head)
    text = instead_of_weights(head)
    if text is not None:
        raise UnknownFormatError(text[0], path=path, hint=text[1])
    named = next((k.name for k in known() if path.endswith(k.suffixes)), None)
    tried = ", ".join(k.name for k in known())
    hint = f"named like {named}, but its bytes are not: a damaged or partial download?" if named else f"tried {tried}"
    raise UnknownFormatError("is no checkpoint format that ckptkit knows", path=path, hint=hint)


def instead_of_weights(head: bytes) -> tuple[str, str] | None:
    """(what a file that begins so is, a hint) of text where weights should be; None of anything else."""
    if head.startswith(b"version https://git-lfs"):
        size = re.search(rb"^size (\d{1,15})$", head, re.M)
        what = f"is a Git LFS pointer{f' to {int(size[1]):,} bytes' if size else ''}, not the weights"
        return what, "run `git lfs pull`"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start[:9].lower().startswith((b"<!doctype", b"<html")):
        return "is a web page, not the weights", "the download went wrong: get the file again"
    if start.startswith((b"<?xml", b"<Error>")):
        return "is a server's answer (XML), not the weights", "the download went wrong: get the file again"
    try:
        text = start.decode("utf-8")
    except UnicodeDecodeError as e:
        text = start[: e.start].decode("utf-8") if e.start > len(start) - 4 else ""  # cut in a character
    if text.strip() and all(c.isprintable() or c in "\r\n\t\f" for c in text):
        line = text.strip().splitlines()[0]
        return f"is text, no checkpoint format: {printable(line, 60)!r}", "the download went wrong? get the file again"
    return None


def refuse_pointers(path: str, head: bytes | None = None) -> None:
    """Raise UnknownFormatError for a file that is a pointer, a web page or an error of a server, whatever it is called."""
    if head is None:
        blob = store.open_blob(path)
        try:
            head = blob.pread(512, 0)
        finally:
            blob.close()
    start = head[:24].removeprefix(b"\xef\xbb\xbf").lstrip()[:9].lower()
    if start.startswith((b"version h", b"<!doctype", b"<html", b"<?xml", b"<error>")):
        text = instead_of_weights(head)
        if text is not None:
            raise UnknownFormatError(text[0], path=path, hint=text[1])


def refuse_text(path: str, container: Container) -> None:
    """Raise UnknownFormatError for a file that is text, though by its name it is of a `container` that does not know its bytes."""
    if not store.is_file(path):
        return
    head, tail = head_and_tail(path)
    refuse_pointers(path, head)
    if not container.sniff(head, tail, path):
        text = instead_of_weights(head)
        if text is not None:
            raise UnknownFormatError(text[0], path=path, hint=text[1])


def foreign_folder(folder: str, names: Sequence[str]) -> tuple[str, str] | None:
    """(what a folder is, how its content gets here) of a known form of checkpoint that is not read; None of another folder."""
    parts = [n for n in names if n.endswith(".distcp")]
    if parts and ".metadata" not in names:
        what = f"a distributed checkpoint of PyTorch ({len(parts)} part{'s' * (len(parts) != 1)}) whose .metadata is missing"
        return what, "copy the .metadata that was written with it: without it no program can read the parts"
    return next(((what, hint) for marks, what, hint in _FOREIGN_DIRECTORIES if not set(marks).isdisjoint(names)), None)


# formats of weights that have no container here: what they begin with, what they are, how their content gets here
_FOREIGN = (
    (b"\x08\x01\x12", "a protocol buffer, perhaps a SavedModel's",
        "name the directory of the SavedModel, or the weights that the graph was made of"),
    (b"PK\5\6", "an empty zip archive", ""),
    (b"\x1f\x8b", "compressed (gzip)", "unpack it"),
    (b"BZh", "compressed (bzip2)", "unpack it"),
    (b"\xfd7zXZ\0", "compressed (xz)", "unpack it"),
    (b"\x28\xb5\x2f\xfd", "compressed (zstd)", "unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it"),
    (b"Rar!\x1a\7", "a rar archive", "unpack it"),
    (b"lmgg", "a GGML file (old llama.cpp)", "convert the checkpoint that it was made of"),
    ((0x112).to_bytes(8, "little"), "an MXNet parameter file", "load it with MXNet and save its arrays with numpy.savez"),
)  # fmt: skip
_FOREIGN_ZIPS = (  # a name in the directory at the end
    (b"MAR-INF/MANIFEST.json", "a TorchServe archive (.mar), with code", "unpack it and name the weights in it"),
    (b"archive_format", "a program of torch.export (.pt2)", "save the state_dict() of the module that it was made of"),
    (b".data/extern_modules", "a torch.package archive, with code", "load it where you trust it, and save the model's state_dict()"),
    (b"", "a zip archive without a data.pkl, and no PyTorch checkpoint", "a .keras or .npz file? unpack it and name the weights"),
)
_FOREIGN_DIRECTORIES = (
    (("Manifest.json",), "a Core ML package", "name the weights that it was made of"),
    ((".zgroup", ".zattrs", ".zarray", "zarr.json"), "a zarr array or group, and no Orbax checkpoint of one",
        "name the folder with _METADATA"),
)  # fmt: skip


def _refuse_by_name(path: str, head: bytes) -> None:
    """Raise UnsupportedError for a known format that is not read."""
    found = [(what, hint) for magic, what, hint in _FOREIGN if head.startswith(magic)]
    if head.startswith(b"PK\3\4"):
        blob = store.open_blob(path)
        try:
            names = blob.pread(1 << 16, max(0, blob.size - (1 << 16)))
        finally:
            blob.close()
        found += [(what, hint) for mark, what, hint in _FOREIGN_ZIPS if mark in names]
    elif head[257:262] == b"ustar":
        found.append(("a tar archive, perhaps NeMo's", "unpack it and name the weights in it"))
    elif head[4:8] == b"TFL3":
        found.append(("a TensorFlow Lite model", "name the checkpoint or SavedModel that it was made of"))
    elif not found and head[:1] == b"\x08" and head[1:2] < b"\x20" and head[2:3] == b"\x12":
        what = "a Core ML model" if path.endswith(".mlmodel") else "a protocol buffer, perhaps a Core ML model"
        found.append((what, "name the weights that it was made of"))
    for what, hint in found:
        raise UnsupportedError(f"is {what}, which this version does not read", path=path, hint=hint or None)
