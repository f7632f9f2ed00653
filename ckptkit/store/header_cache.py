"""What was read of the headers of objects, kept in this user's cache from one command to the next.

Policy: under the object's address and tag, so that a replaced object is another one; nothing of an object whose tag says little (a
weak one, a date). Only small pieces, as they are read of headers: at most 4 MiB of an object, 256 MiB in all, those used longest ago
dropped first. What cannot be read or written is as if it were not there. `CKPTKIT_CACHE=0` switches it off.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import struct
from collections.abc import Mapping, Sequence

from .user_cache import cache_folder

OF_ONE, OF_ALL = 4 << 20, 256 << 20
_MAGIC = b"ckptkit\1"
Runs = Sequence[tuple[int, bytes]]


def _path(root: str, name: str, tag: str) -> str | None:
    """Where the pieces of an object are; None where they are not to be kept."""
    folder = cache_folder()
    sure = tag.startswith('"') if not root.startswith("hf://") else len(tag) >= 40
    if folder is None or not sure:
        return None
    return os.path.join(folder, "headers", hashlib.sha256(f"{root}\n{name}\n{tag}".encode()).hexdigest())


def load(root: str, name: str, tag: str) -> Runs:
    """The (offset, bytes) that are kept of an object."""
    path = _path(root, name, tag)
    if path is None:
        return ()
    try:
        with open(path, "rb") as f:
            data = f.read(OF_ONE + (1 << 16))
        os.utime(path)
    except OSError:
        return ()
    if data[:8] != _MAGIC or hashlib.sha256(data[40:]).digest() != data[8:40]:
        return ()
    out, at = [], 40
    while at + 16 <= len(data):
        offset, n = struct.unpack_from("<QQ", data, at)
        out.append((offset, data[at + 16 : at + 16 + n]))
        at += 16 + n
    return out


def save(root: str, found: Mapping[tuple[str, str], Runs]) -> None:
    """Keep (offset, bytes) of objects, by (name, tag)."""
    wrote = False
    for (name, tag), runs in found.items():
        path = _path(root, name, tag)
        if path is None or not 0 < sum(len(r) for _, r in runs) <= OF_ONE:
            continue
        body = b"".join(struct.pack("<QQ", at, len(r)) + r for at, r in runs)
        beside = f"{path}.{secrets.token_hex(6)}"
        try:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as f:
                f.write(_MAGIC + hashlib.sha256(body).digest() + body)
            os.replace(beside, path)
            wrote = True
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(beside)
            return
    folder = cache_folder()
    if wrote and folder is not None:
        _bounded(os.path.join(folder, "headers"))


def _bounded(folder: str) -> None:
    """Remove what was used longest ago, until all of it is small enough."""
    try:
        there = sorted(((e.stat().st_mtime_ns, e.stat().st_size, e.path) for e in os.scandir(folder)), reverse=True)
    except OSError:
        return
    total = 0
    for _, size, path in there:
        total += size
        if total > OF_ALL:
            with contextlib.suppress(OSError):
                os.unlink(path)
