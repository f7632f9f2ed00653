"""Which container a path is of: bytes decide, names only say what was probably meant when nothing fits.

What is a known form of weights that has no container here is refused by its name, with the way by which its content gets here.
"""

from __future__ import annotations

import os

from ..errors import PIPE, UNREADABLE, CheckpointError, NotFoundError, UnknownFormatError, UnsupportedError, UsageError
from ..support.open_file import open_fd
from ._discovery import containers, each
from ._interface import Container


def _head_and_tail(path: str) -> tuple[bytes, bytes]:
    fd = open_fd(path)
    try:
        size = os.fstat(fd).st_size
        return os.pread(fd, 512, 0), os.pread(fd, 64, max(0, size - 64))
    except OSError as e:
        raise CheckpointError(f"cannot be read: {e.strerror}", path=path, hint=UNREADABLE) from None
    finally:
        os.close(fd)


def locate(path: str) -> tuple[Container, str]:
    """The container of `path` and the file it opens: a file, a TF prefix, or a directory that holds a checkpoint.

    Bytes decide; the suffix only says what was probably meant when nothing fits.
    """
    path = os.fspath(path)
    if os.path.isdir(path):
        return _in_directory(path)
    if not os.path.lexists(path):
        for c in each():
            target = c.prefix(path)
            if target is not None:
                return c, target
        raise NotFoundError("no such file, directory or TensorFlow prefix", path=path, hint=_neighbours(path))
    return _of_file(path), path


def _of_file(path: str) -> Container:
    if not os.path.isfile(path):
        if os.path.exists(path):
            raise CheckpointError("is not a regular file", path=path, hint=PIPE)
        raise NotFoundError("is a link to nothing", path=path, hint="the file that it names is gone, or it leads back to itself")
    head, tail = _head_and_tail(path)
    if not head:
        raise UnknownFormatError("is empty", path=path, hint="was the download cut short?")
    general = None
    for c in each(os.path.basename(path)):
        if c.sniff(head, tail, path):
            if not getattr(c, "GENERAL", False):
                return c
            general = general or c
    if general is not None:
        return general
    _refuse_by_name(path, head)
    tried = ", ".join(containers())
    start = head.lstrip()[:9].lower()
    if head.startswith(b"version https://git-lfs"):
        hint = "this is a Git LFS pointer, not the weights: run `git lfs pull`"
    elif start.startswith((b"<!doctype", b"<html")):
        hint = "this is a web page: the download went wrong"
    else:
        named = next((c.NAME for c in containers().values() if path.endswith(c.SUFFIXES)), None)
        hint = f"named like {named}, but its bytes are not: a damaged or partial download?" if named else f"tried {tried}"
    raise UnknownFormatError("is no checkpoint format that ckptkit knows", path=path, hint=hint)


# formats of weights that have no container here: what they begin with, what they are, how their content gets here
_FOREIGN = (
    (b"\x08\x01\x12", "a protocol buffer, perhaps a SavedModel's or an ONNX graph",
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
    (("_METADATA", "_CHECKPOINT_METADATA", "manifest.ocdbt", ".zarray", "zarr.json"), "an orbax or zarr checkpoint",
        "restore it with orbax and save it as safetensors"),
    ((".metadata", "__0_0.distcp"), "a distributed checkpoint of PyTorch",
        "python -m torch.distributed.checkpoint.format_utils dcp_to_torch DIR FILE"),
)  # fmt: skip


def _refuse_by_name(path: str, head: bytes) -> None:
    """Raise UnsupportedError for a known format that is not read."""
    found = [(what, hint) for magic, what, hint in _FOREIGN if head.startswith(magic)]
    if head.startswith(b"PK\3\4"):
        fd = open_fd(path)
        try:
            names = os.pread(fd, 1 << 16, max(0, os.fstat(fd).st_size - (1 << 16)))
        finally:
            os.close(fd)
        found += [(what, hint) for mark, what, hint in _FOREIGN_ZIPS if mark in names]
    elif head[257:262] == b"ustar":
        found.append(("a tar archive, perhaps NeMo's", "unpack it and name the weights in it"))
    elif head[4:8] == b"TFL3":
        found.append(("a TensorFlow Lite model", "name the checkpoint or SavedModel that it was made of"))
    elif not found and head[:1] == b"\x08" and head[1:2] < b"\x20" and head[2:3] == b"\x12":
        kinds = {".onnx": "an ONNX graph", ".mlmodel": "a Core ML model"}
        what = next((kinds[s] for s in kinds if path.endswith(s)), "a protocol buffer, perhaps an ONNX graph or a Core ML model")
        found.append((what, "name the weights that it was made of"))
    for what, hint in found:
        raise UnsupportedError(f"is {what}, which this version does not read", path=path, hint=hint or None)


def _in_directory(path: str) -> tuple[Container, str]:
    try:
        names = sorted(os.listdir(path))
    except OSError as e:
        raise CheckpointError(f"cannot be read: {e.strerror}", path=path, hint=UNREADABLE) from None
    found = sorted(((rank, target, c) for c in containers().values() for rank, target in c.find(path, names)), key=lambda t: t[:2])
    if not found:
        for marks, foreign, hint in _FOREIGN_DIRECTORIES:
            if not set(marks).isdisjoint(names):
                raise UnsupportedError(f"is {foreign}, which this version does not read", path=path, hint=hint)
        what = "is an empty directory" if not names else f"holds no checkpoint ({len(names)} other entries)"
        raise NotFoundError(what, path=path, hint="name the file, the TensorFlow prefix, or the directory that holds it")
    best = [f for f in found if f[0] == found[0][0]]
    if len(best) > 1:
        listed = ", ".join(os.path.basename(t) for _, t, _ in best[:6]) + (", ..." if len(best) > 6 else "")
        raise UsageError(f"holds {len(best)} checkpoints: {listed}", path=path, hint="name one of them")
    _, target, container = best[0]
    return container, target


def _neighbours(path: str) -> str:
    parent, name = os.path.split(path)
    try:
        names = os.listdir(parent or ".")
    except OSError:
        return f"there is no directory {parent!r} either"
    from difflib import get_close_matches

    close = get_close_matches(name, names, 3, 0.6)
    return f"did you mean {' or '.join(close)}?" if close else "check the path"
