"""Notes of the uploads that were begun into a store which has no list of them: one small object for each, gone when it is committed."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping

from .._typing import Any, Protocol
from .interface import Entry, Uploads
from .remote_blob import RemoteBlob

NOTES = ".ckptkit/begun"


class Objects(Protocol):
    """What is needed of the tree that is written to: `store` is the library's."""

    root: str
    scheme: str
    store: Any

    def label(self, name: str) -> str: ...
    def key(self, name: str) -> str: ...
    def entry(self, name: str) -> Entry | None: ...
    def list(self, folder: str = "") -> dict[str, Entry]: ...
    def below(self, prefix: str) -> tuple[str, ...]: ...
    def small(self, name: str) -> bytes | None: ...
    def blob(self, name: str, tag: str | None = None) -> RemoteBlob: ...
    def put(self, name: str, data: bytes | memoryview, *, only_if: str | None = None) -> str: ...
    def delete(self, name: str) -> None: ...
    def delete_all(self, names: Iterable[str]) -> None: ...
    def fresh(self) -> None: ...
    def changed(self, name: str) -> None: ...


def beside(name: str, what: str) -> str:
    """An object in the folder that `name` is in."""
    folder, _, _ = name.rpartition("/")
    return f"{folder}/{what}" if folder else what


def begin(tree: Objects, name: str) -> dict[str, str]:
    """Note an upload of an object."""
    upload = {"id": secrets.token_hex(8)}
    write(tree, name, upload, {"name": name})
    return upload


def write(tree: Objects, name: str, upload: Mapping[str, str], said: Mapping[str, Any]) -> None:
    """Write the note of an upload."""
    tree.put(beside(name, f"{NOTES}/{upload['id']}.json"), json.dumps(dict(said)).encode())


def read(tree: Objects, name: str, upload: Mapping[str, str]) -> dict[str, Any]:
    """What the note of an upload says. KeyError where there is none (any more)."""
    found = tree.small(beside(name, f"{NOTES}/{upload['id']}.json"))
    if found is None:
        raise KeyError(name)
    said = json.loads(found)
    return said if isinstance(said, dict) else {}


def end(tree: Objects, name: str, upload: Mapping[str, str]) -> None:
    """Remove the note of an upload."""
    tree.delete(beside(name, f"{NOTES}/{upload['id']}.json"))


def uploads(tree: Objects, prefix: str) -> Uploads:
    """(name, upload) of what was begun below `prefix`, or is called so, and neither committed nor aborted."""
    notes = [n for n in tree.below(prefix) if f"{NOTES}/" in n] + list(tree.below(beside(prefix, NOTES)) if prefix else ())
    out = []
    for note in sorted(set(notes)):
        found = tree.small(note)
        name = str(json.loads(found).get("name", "")) if found is not None else ""
        if name and name.startswith(prefix):
            out.append((name, {"id": note.rpartition("/")[2].removesuffix(".json")}))
    return out
