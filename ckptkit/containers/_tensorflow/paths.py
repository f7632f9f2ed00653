"""Which file a TensorFlow path means: prefixes, the `checkpoint` state file, and whether a table is V1 or V2.

Source: tensorflow/python/checkpoint/checkpoint_management.py, training/checkpoint_state.proto.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from ... import store
from ..._typing import TYPE_CHECKING
from ...errors import CheckpointError, CorruptError, NotFoundError
from ...limits import LIMITS
from ...support.lazy import later
from . import MAGIC

if TYPE_CHECKING:
    from . import table
else:
    later(globals(), table=".table")

STATE = "checkpoint"
_STATE_BYTES = 1 << 20
_LINE = rb'(?m)^\s*model_checkpoint_path\s*:\s*(?:"((?:[^"\\]|\\.)*)"|\'((?:[^\'\\]|\\.)*)\')'
_ESCAPE = rb"\\([0-7]{1,3}|.)"
_DATA = r"(.+)\.data-\d{5,}-of-\d{5,}"
_SHARD = r"(.+)-\d{5}-of-\d{5}"
_PLAIN = {b"n": b"\n", b"t": b"\t", b"r": b"\r"}


def is_table(tail: bytes) -> bool:
    """Whether a file that ends in `tail` is a table."""
    return tail.endswith(MAGIC)


def looks_like_state(head: bytes) -> bool:
    """Whether a file that begins with `head` is a `checkpoint` state file."""
    return re.search(_LINE, head) is not None


def state(path: str) -> str | None:
    """The prefix that a state file names, as it names it; None if it is no state file."""
    blob = store.open_blob(path)
    try:
        text = blob.pread(_STATE_BYTES, 0)
    finally:
        blob.close()
    found = re.search(_LINE, text)
    if found is None:
        return None
    raw = found[1] if found[1] is not None else found[2]
    return re.sub(_ESCAPE, lambda m: bytes([int(m[1], 8) & 255]) if m[1].isdigit() else _PLAIN.get(m[1], m[1]), raw).decode(
        "utf-8", "replace"
    )


def state_text(prefix: str) -> bytes:
    """A state file that names `prefix`."""
    quoted = b"".join(b"\\" + bytes([b]) if b in b"\"\\'" else bytes([b]) if 31 < b < 127 else b"\\%03o" % b for b in prefix.encode())
    return b'model_checkpoint_path: "%s"\nall_model_checkpoint_paths: "%s"\n' % (quoted, quoted)


def target(path: str) -> str | None:
    """The prefix beside the state file `path` that it names, as a path without suffix; None if it is no state file.

    A path from another machine stands for the file of that name here.
    """
    named = state(path)
    if named is None:
        return None
    here = os.path.dirname(path)
    base = named.replace("\\", "/").rstrip("/").rpartition("/")[2]
    inside = store.normal(named)
    if not os.path.isabs(inside) and not inside.startswith("..") and exists(os.path.join(here, inside)):
        return os.path.join(here, inside)
    return os.path.join(here, base)


def exists(prefix: str) -> bool:
    """Whether a V2 bundle or V1 files are at `prefix`."""
    return store.is_file(prefix + ".index") or bool(v1_files(prefix))


def v1_files(prefix: str) -> list[str]:
    """The file at `prefix`, or PREFIX-00000-of-00002 and so on where the Saver was told to shard. All or none of them."""
    if store.is_file(prefix):
        return [prefix]
    try:
        names = store.listdir(os.path.dirname(prefix) or ".")
    except OSError:
        return []
    base = os.path.basename(prefix) + "-00000-of-"
    counts = [n[len(base) :] for n in names if n.startswith(base) and n[len(base) :].isdecimal()]
    if len(counts) != 1:
        return []
    return [f"{prefix}-{i:05d}-of-{counts[0]}" for i in range(min(int(counts[0]), LIMITS.shards))]


def first_shards(names: Sequence[str]) -> dict[str, str]:
    """For every prefix of shards in a listing the name of its first one; "" where it is cut in two ways, or is a file itself.

    From the listing alone: looking into the directory for each of its names would take the square of their number.
    """
    out: dict[str, str] = {}
    for n in names:
        prefix, middle, count = n.rpartition("-00000-of-")
        if middle and count.isdecimal():
            out[prefix] = n if prefix not in out else ""
    whole = frozenset(names)
    return {prefix: "" if prefix in whole else first for prefix, first in out.items()}


def without_shard(name: str) -> str:
    """The prefix of a V1 shard's name; any other name is its own."""
    found = re.fullmatch(_SHARD, name)
    return found[1] if found else name


def v1_prefix(path: str) -> str:
    """The prefix of a V1 shard's path; any other path is its own."""
    found = re.fullmatch(_SHARD, path)
    return found[1] if found and len(v1_files(found[1])) > 0 else path


def of_state(path: str) -> str:
    """`target`, or the error that says what the state file lacks."""
    prefix = target(path)
    if prefix is None:
        raise CorruptError("is no checkpoint state file: model_checkpoint_path is missing", path=path)
    if not exists(prefix):
        raise NotFoundError(f"names the checkpoint {os.path.basename(prefix)!r}, which is not beside it", path=path)
    return prefix


def of_data(path: str) -> str | None:
    """The prefix of a data shard's path."""
    found = re.fullmatch(_DATA, path)
    return found[1] if found else None


def tail(path: str) -> bytes:
    """The last bytes of a file; none if it cannot be read."""
    try:
        blob = store.open_blob(path)
    except CheckpointError:
        return b""
    try:
        return blob.pread(64, max(0, blob.size - 64))
    except OSError:
        return b""
    finally:
        blob.close()


def is_v1(path: str) -> bool:
    """Whether the table at `path` holds V1 slices: its first value begins with SavedTensorSlices.meta. Unreadable: by its name."""
    found = table.first(path)
    if found is None:
        return not path.endswith(".index")
    return found[0] == b"" and found[1] == b"\x0a"
