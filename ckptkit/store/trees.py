"""From an address to its tree, one for each bucket, server or repository, and what is kept of it between the questions of one command.

Policy: nothing is kept that could mix two states: a listing is asked for again after FRESH seconds, what was read is kept under the tag
that it was read with. Addresses with a query or with a password in them are refused, since messages and reports would show them.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Sequence

from ..errors import CheckpointError, UsageError, with_extra
from ..support.urls import is_url
from .interface import FOLDER, Entry, Tree

HEAD, TAIL = 1 << 16, 66 << 10  # bytes of a file's two ends that say what it is
WHOLE = 8 << 20  # bytes up to which an index or a configuration is fetched with the first questions
_AHEAD = ("config.json",)
_INDEXES = (".index.json", ".index", "checkpoint")
_ALIASES = {"s3a": "s3", "gcs": "gs", "abfs": "az", "abfss": "az"}

_lock = threading.Lock()
_trees: dict[str, Tree] = {}
_forked = False


def _after_fork() -> None:
    global _forked
    _forked = bool(_trees)


os.register_at_fork(after_in_child=_after_fork)


def split_url(url: str) -> tuple[str, str]:
    """(the tree's root, the name in it) of an address: `s3://bucket/a/b` is `s3://bucket` and `a/b`. Raises UsageError."""
    scheme, _, rest = url.partition("://")
    scheme = _ALIASES.get(scheme, scheme)
    if "?" in rest or "#" in rest:
        shown = f"{scheme}://{rest.partition('?')[0].partition('#')[0]}"
        raise UsageError("an address with a query is not read", path=shown, hint="leave out what follows the ?; it may hold a key")
    server, _, name = rest.partition("/")
    if "@" in server and scheme != "hf":
        shown = f"{scheme}://{rest.rpartition('@')[2] if '/' not in rest.rpartition('@')[2] else server.rpartition('@')[2]}"
        raise UsageError("an address with a user or a password in it is not read", path=shown, hint="give them by the environment")
    if not server:
        raise UsageError("the address names no bucket or server", path=url)
    name = name.strip("/")
    if any(p in (".", "..") for p in name.split("/")):
        raise UsageError("an address with . or .. in it is not read", path=url)
    if scheme == "hf":
        owner, (repository, _, name) = server, name.partition("/")
        if not repository:
            raise UsageError("the address names no repository", path=url, hint="hf://OWNER/NAME, or hf://OWNER/NAME@REVISION/PATH")
        return f"hf://{owner}/{repository}", name
    return f"{scheme}://{server}", name


def tree_of(url: str) -> tuple[Tree, str]:
    """The tree of an address, and the name in it. Raises UsageError, CheckpointError."""
    if _forked:
        raise CheckpointError(
            "stores cannot be read in a process that was forked from one that had read them", path=url, hint="start workers with spawn"
        )
    root, name = split_url(url)
    with _lock:
        found = _trees.get(root)
        if found is None or found.stale:
            found = _trees[root] = _made(root)
    return found, name


def _made(root: str) -> Tree:
    try:
        import obstore  # noqa: F401
    except ImportError:
        raise UsageError("reading an address needs obstore, which is not installed", path=root, hint=with_extra("remote")) from None
    if root.startswith("hf://"):
        from .hub import HubTree

        return HubTree(root)
    if root.startswith(("http://", "https://")):
        from .web import WebTree

        return WebTree(root)
    from .remote import RemoteTree

    return RemoteTree(root)


def look(url: str) -> Entry | None:
    """What an address names: a folder where there are objects below it; None for nothing.

    What looks like a file's name is looked for in the listing of its folder, which is needed anyway; anything else is listed itself first.
    """
    tree, name = tree_of(url)
    if not name:
        return Entry(FOLDER)
    folder, _, base = name.rpartition("/")
    known = tree.known(folder)
    if known is not None:
        return known.get(base)
    if "." in base and not url.endswith("/"):
        return tree.entry(name)
    return Entry(FOLDER) if tree.list(name) else tree.entry(name)


def pin(url: str) -> object:
    """Hold an object as it is now: while what this gives is kept, another one under its name is not read."""
    tree, name = tree_of(url)
    return tree.pin(name)


def prepare(url: str) -> None:
    """Fetch together what reading the checkpoint at `url` asks for first: indexes, the configuration, both ends of a file."""
    tree, name = tree_of(url)
    found = look(url)
    if found is None:
        return
    folder = name if found.size < 0 else name.rpartition("/")[0]
    below = folder + "/" if folder else ""
    listed = tree.list(folder)
    wanted = [(below + n, 0, listed[n].size) for n in _AHEAD if n in listed and 0 <= listed[n].size <= WHOLE]
    if found.size < 0:
        wanted += [(below + n, 0, e.size) for n, e in listed.items() if n.endswith(_INDEXES) and 0 <= e.size <= WHOLE][:4]
    elif name.endswith((".json", ".index")) and found.size <= WHOLE:
        wanted.append((name, 0, found.size))
    else:
        wanted += _ends(name, found.size)
    tree.warm(wanted)


def _ends(name: str, size: int) -> list[tuple[str, int, int]]:
    """Both ends of a file, or all of a small one. Of safetensors only the beginning says anything."""
    if size <= HEAD + TAIL:
        return [(name, 0, size)]
    return [(name, 0, HEAD)] if name.endswith((".safetensors", ".gguf")) else [(name, 0, HEAD), (name, size - TAIL, TAIL)]


def warm(wanted: Sequence[tuple[str, int, int]]) -> None:
    """Fetch (address, offset, length) together."""
    by_tree: dict[int, tuple[Tree, list[tuple[str, int, int]]]] = {}
    for url, at, n in wanted:
        if is_url(url):
            tree, name = tree_of(url)
            by_tree.setdefault(id(tree), (tree, []))[1].append((name, at, n))
    for tree, some in by_tree.values():
        tree.warm(some)


def forget() -> None:
    """Drop all that is kept in memory: what stores hold may be another thing now."""
    with _lock:
        _save()
        _trees.clear()


def _save() -> None:
    """Keep what was read of headers for the next command."""
    for tree in () if _forked else _trees.values():
        tree.save()


atexit.register(_save)
