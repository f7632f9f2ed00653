"""One hostile file: what makes it, and what it must come to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

Made = tuple[str, str, str]  # (path or its name in the folder, what is expected, what is to be mentioned)
PAYLOAD = "open(__import__('os').environ.get('CKPTKIT_CANARY', '/dev/null'), 'w')"


def one_file(name: str, data: bytes, expect: str = "refuse", mention: str = "") -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        (folder / name).write_bytes(data)
        return name, expect, mention

    return make


def text(s: str) -> bytes:
    raw = s.encode("utf-8", "surrogatepass")
    return b"X" + len(raw).to_bytes(4, "little") + raw
