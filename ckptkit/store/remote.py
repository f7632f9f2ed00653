"""Objects of S3, Google's and Azure's stores, and of web servers, through obstore (Rust's object_store): no framework, no second process.

Policy: a read is one request for a range, with the object's tag (If-Match), and what comes back is held against tag and size: a store that
overlooks the condition is noticed as well. Requests that do not depend on each other go out together. Read-ahead is only for what is read
forwards. Retries, credentials and signatures are the library's; each cloud's usual environment counts, and AWS' profiles where boto3 is
installed. Not to be used in a process forked from one that has: the library's threads are not there (`trees`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from weakref import WeakSet

from .._typing import TYPE_CHECKING, Any, cast
from ..errors import CheckpointError, CorruptError, NotFoundError, UnknownFormatError
from . import header_cache
from .interface import ABSENT, FOLDER, Entry
from .pieces import Kept
from .reaching import is_r2, library, options
from .recent import Recent
from .remote_blob import MOST, Ahead, RemoteBlob
from .said import ExistsError, not_a_store, refused, refused_code, replaced, unconditional, unopened, without_ranges

if TYPE_CHECKING:
    from .interface import Sink

Uploads = list[tuple[str, dict[str, str]]]
AT_ONCE = 32  # requests
STREAM = 1 << 17  # bytes of an answer that are taken together
GAP = 1 << 14  # bytes between two pieces of an object from which on they are two requests

# what is asked for in a folder that may not be listed
USUAL = (
    "config.json", "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
    "adapter_config.json", "adapter_model.safetensors", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "vocab.txt",
)  # fmt: skip

_pool: ThreadPoolExecutor | None = None
_pool_lock = threading.Lock()


def pool() -> ThreadPoolExecutor:
    """The threads that wait for stores; made when they are first needed."""
    global _pool
    with _pool_lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="ckptkit-store")
        return _pool


class Pin:
    """The tag that an object had when a checkpoint's headers were read."""

    __slots__ = ("__weakref__", "tag")

    def __init__(self, tag: str) -> None:
        self.tag = tag


class RemoteTree:
    """The objects of a bucket."""

    at_once = False

    def __init__(self, root: str) -> None:
        self.root = root
        self.scheme = root.partition("://")[0]
        self.lists = True  # whether what there is may be asked for folder by folder
        self.kept = Kept(partial(header_cache.load, root))
        self._listed = Recent(self._list)
        self._found = Recent(self._head)
        self._local = threading.local()
        self._pins: dict[str, WeakSet[Pin]] = {}
        self._conditions = False  # whether it is known that the store holds conditions
        self._answers = False  # whether it has answered as a store does
        self.least_part = 1 if self.scheme == "az" else 5 << 20
        self.equal_parts = self.scheme == "s3" and is_r2()
        try:
            self.store = self._open()
        except CheckpointError:
            raise
        except Exception as e:
            raise unopened(e, root) from None

    def _open(self) -> Any:
        return library(self.root, options(self.root))

    @property
    def stale(self) -> bool:
        """Never: listings go stale one by one."""
        return False

    def label(self, name: str) -> str:
        """The whole address of an object."""
        return f"{self.root}/{name}" if name else self.root

    def key(self, name: str) -> str:
        """What the store calls an object."""
        return name

    # --- what there is

    def list(self, folder: str = "") -> dict[str, Entry]:
        """What a folder holds, by the last piece of its name."""
        return self._listed.get(folder)

    def fresh(self) -> None:
        """Ask anew what there is: somebody else may have written."""
        self._listed.clear()
        self._found.clear()

    def known(self, folder: str) -> dict[str, Entry] | None:
        """The kept listing of a folder; None where none is kept, or none can be complete."""
        return self._listed.known(folder) if self.lists else None

    def usual(self, folder: str) -> dict[str, Entry]:
        """The usual names of checkpoints that are in a folder."""
        base = folder + "/" if folder else ""
        return {n: e for n, e in pool().map(lambda n: (n, self.entry(base + n)), USUAL) if e is not None}

    def _list(self, folder: str) -> dict[str, Entry]:
        if not self.lists:
            return self.usual(folder)
        return self.listed(folder)

    def listed(self, folder: str) -> dict[str, Entry]:
        """What the store lists of a folder."""
        import obstore

        try:
            answer = obstore.list_with_delimiter(self.store, folder or None)
        except Exception as e:
            raise refused(e, self.label(folder)) from None
        below = {str(p).strip("/").rpartition("/")[2]: Entry(FOLDER) for p in answer["common_prefixes"]}
        here = {}
        for m in answer["objects"]:
            base = m["path"].rpartition("/")[2]
            if base and m["path"] != folder:
                here[base] = Entry(m["size"], _tag(m))
        if not here and not below and not self._answers:
            self._ask_whether_store(folder)
        self._answers = True
        return {**below, **here}

    def _ask_whether_store(self, folder: str) -> None:
        """CheckpointError where a server has everything: a proxy's page is a listing of nothing to the library."""
        import obstore

        if self.scheme not in ("s3", "gs", "az"):
            return
        try:
            obstore.head(self.store, f"{folder or '-'}/.ckptkit/none")
        except Exception as e:
            if "header" not in str(e).lower():  # which every object has, and a page has not
                return
        raise not_a_store(self.label(folder))

    def entry(self, name: str) -> Entry | None:
        """What is called so: from the listing of its folder, or where that is refused or there is none by asking for it alone."""
        folder, _, base = name.rpartition("/")
        if self.lists:
            try:
                return self.list(folder).get(base)
            except NotFoundError:
                raise
            except CheckpointError as e:
                if "may not be read" not in e.message:
                    raise
                self.lists = False  # it may be that objects can be read, and only the listing is refused
        return self._found.get(name)

    def _head(self, name: str) -> Entry | None:
        import obstore

        try:
            m = obstore.head(self.store, self.key(name))
        except Exception as e:
            error = refused(e, self.label(name))
            if isinstance(error, NotFoundError) and "bucket" not in error.message:
                return None
            raise error from None
        return Entry(m["size"], _tag(m))

    def changed(self, name: str) -> None:
        """What was written is asked for anew, and so are the folders that it is in: they may be there only now, or no longer."""
        self._found.changed([name])
        pieces = name.split("/")
        self._listed.changed(["/".join(pieces[:k]) for k in range(len(pieces))])

    # --- reading

    def blob(self, name: str, tag: str | None = None) -> RemoteBlob:
        """Open an object; with a `tag` it must still be that one."""
        found = self.entry(name)
        if found is None or found.size < 0:
            raise NotFoundError("there is no such object", path=self.label(name))
        held = {p.tag for p in self._pins.get(name, ())}
        if (tag is not None and tag != found.tag) or (held and found.tag not in held):
            raise replaced(self.label(name))
        return RemoteBlob(self, name, found)

    def pin(self, name: str) -> Pin:
        """While what this gives is kept, `blob` opens the object only as it is now."""
        found = self.entry(name)
        made = Pin(found.tag if found is not None else "")
        self._pins.setdefault(name, WeakSet()).add(made)
        return made

    def fetch(self, name: str, entry: Entry, at: int, n: int) -> bytes:
        """One request: `n` bytes of an object that must still be `entry`."""
        return bytes(self.fetch_view(name, entry, at, n))

    def fetch_view(self, name: str, entry: Entry, at: int, n: int) -> memoryview:
        """As `fetch`, without a copy of them."""
        return self._fetched(name, entry, at, n, lambda got: memoryview(cast("Any", got.bytes())))

    def fetch_into(self, name: str, entry: Entry, at: int, into: memoryview) -> None:
        """As `fetch`, into memory, as they come: little of them is anywhere else at a time."""

        def fill(got: Any) -> memoryview:
            done = 0
            for some in got.stream(min_chunk_size=STREAM):
                data = memoryview(some)[: len(into) - done]
                into[done : done + len(data)] = data
                done += len(data)
            return into[:done]

        self._fetched(name, entry, at, len(into), fill)

    def _fetched(self, name: str, entry: Entry, at: int, n: int, taken: Callable[[Any], memoryview]) -> memoryview:
        import obstore

        words: dict[str, Any] = {"range": (at, at + n)}
        if self.condition(entry):
            words["if_match"] = entry.tag
        try:
            got = obstore.get(self.store, self.key(name), options=cast("Any", words))
            meta = got.meta
            if not self.same(entry, meta):
                raise replaced(self.label(name))
            data = taken(got)
        except CheckpointError:
            raise
        except Exception as e:
            if without_ranges(e) and self._is_page(name):
                message = "its server answers with a web page"
                raise UnknownFormatError(message, path=self.label(name), hint="is a proxy or a login between it and here?") from None
            raise refused(e, self.label(name)) from None
        if len(data) != n:
            raise CorruptError(f"gave {len(data):,} bytes where {n:,} were asked for", path=self.label(name), hint="try again")
        return data

    def _is_page(self, name: str) -> bool:
        """Whether a server that gives no ranges gives a web page."""
        import obstore

        try:
            first = next(iter(obstore.get(self.store, self.key(name)).stream(min_chunk_size=64)), b"")
        except Exception:
            return False
        return bytes(first[:64]).lstrip()[:9].lower().startswith((b"<!doctype", b"<html"))

    def condition(self, entry: Entry) -> bool:
        """Whether a read can be made to depend on the tag: a weak one never matches (RFC 9110, 13.1.1)."""
        return entry.tag.startswith('"')

    def same(self, entry: Entry, meta: Any) -> bool:
        """Whether an answer is of the object that was opened."""
        return bool(meta["size"] == entry.size and (not entry.tag or _tag(meta) == entry.tag))

    def warm(self, wanted: Sequence[tuple[str, int, int]]) -> None:
        """Fetch pieces of many objects together. What cannot be had is told by whoever then reads it."""
        todo: list[tuple[str, Entry, int, int]] = []
        for name, at, n in sorted(wanted):
            entry = self.entry(name)
            if entry is None or entry.size < 0:
                continue
            n = min(n, entry.size - at)
            have = self.kept.get((name, entry.tag), at, n)[1] if n > 0 else 0
            if n <= have:
                continue
            at, n = at + have, n - have
            if todo and todo[-1][0] == name and at - sum(todo[-1][2:]) <= GAP and at + n - todo[-1][2] <= MOST:
                todo[-1] = (name, entry, todo[-1][2], max(sum(todo[-1][2:]), at + n) - todo[-1][2])
            else:
                todo.append((name, entry, at, n))

        def one(name: str, entry: Entry, at: int, n: int) -> None:
            try:
                self.kept.add((name, entry.tag), at, self.fetch(name, entry, at, n))
            except CheckpointError:
                return

        for f in [pool().submit(one, *t) for t in todo]:
            f.result()

    def save(self) -> None:
        """Keep what was read of headers for the next command."""
        header_cache.save(self.root, self.kept.new())

    def pool(self) -> ThreadPoolExecutor:
        """The threads that wait for stores."""
        return pool()

    def ahead(self) -> dict[str, Ahead]:
        """What this thread reads forwards of."""
        found: dict[str, Ahead] | None = getattr(self._local, "ahead", None)
        if found is None:
            found = self._local.ahead = {}
        return found

    # --- writing

    def put(self, name: str, data: bytes | memoryview, *, only_if: str | None = None) -> str:
        """Write an object at once; its tag."""
        try:
            tag = self._put(name, data, only_if)
        except ExistsError:
            if self.small(name) != bytes(data):  # else it was written, and only the answer was lost
                raise
            self.fresh()
            found = self.entry(name)
            return found.tag if found is not None else ""
        if only_if == ABSENT and not self._conditions:  # a store that overlooks conditions would let two writers mix what they write
            try:
                self._put(name, data, ABSENT)
            except ExistsError:
                self._conditions = True
            else:
                self.delete(name)
                raise unconditional(self.label(name))
        return tag

    def _put(self, name: str, data: bytes | memoryview, only_if: str | None) -> str:
        import obstore

        mode: Any = "overwrite" if only_if is None else "create" if only_if == ABSENT else {"e_tag": only_if}
        try:
            if self.scheme == "gs" and isinstance(mode, dict):  # where a condition names a generation
                now = obstore.head(self.store, self.key(name))
                if _tag(now) != only_if:
                    raise refused_code("PreconditionFailed", 412, self.label(name), "gs")
                mode = {"e_tag": only_if, "version": now["version"]}
            answer = obstore.put(self.store, self.key(name), data, mode=mode, use_multipart=False)
        except CheckpointError:
            raise
        except Exception as e:
            raise refused(e, self.label(name), writing=True) from None
        self.changed(name)
        return quoted(answer["e_tag"] or "")

    def delete(self, name: str) -> None:
        """Remove an object; nothing happens where there is none."""
        from .removing import remove

        remove(self, name)
        self.changed(name)

    def delete_all(self, names: Iterable[str]) -> None:
        """Remove objects, several at a time."""
        from .removing import remove_all

        remove_all(self, names, pool())

    def small(self, name: str) -> bytes | None:
        """A small object as it is now; None: there is none."""
        import obstore

        try:
            return bytes(obstore.get(self.store, self.key(name)).bytes())
        except Exception as e:
            error = refused(e, self.label(name))
            if isinstance(error, NotFoundError) and "bucket" not in error.message:
                return None
            raise error from None

    def below(self, prefix: str) -> tuple[str, ...]:
        """The names of all objects below a prefix."""
        import obstore

        try:
            return tuple(m["path"] for some in obstore.list(self.store, prefix or None) for m in some)
        except Exception as e:
            raise refused(e, self.label(prefix)) from None

    def _in_parts(self, name: str) -> bool:
        """Whether the store has parts that any machine can send with these credentials: else whole objects are relayed."""
        if self.scheme == "gs":
            from .parts import google_keys

            return google_keys()
        if self.scheme == "az":
            from .azure_addresses import address

            return address(self, "PUT", name) is not None
        return self.scheme == "s3"

    def sink(self, name: str) -> Sink:
        """Where an object is written in parts."""
        if not self._in_parts(name):
            from .relayed import RelayedSink

            return RelayedSink(self, name)
        if self.scheme == "az":
            from .azure import AzureSink

            return AzureSink(self, name)
        from .parts import S3Sink

        return S3Sink(self, name)

    def uploads(self, prefix: str = "") -> Uploads:
        """What was begun below `prefix` and neither committed nor aborted."""
        from . import begun, parts

        if self.scheme in ("s3", "gs") and self._in_parts(prefix):
            return parts.uploads(self.root, prefix)
        return begun.uploads(self, prefix)


def quoted(tag: str) -> str:
    """An ETag as a header has it: Azure's listings leave the quotation marks out."""
    return tag if not tag or tag.startswith(('"', "W/")) else f'"{tag}"'


def _tag(meta: Any) -> str:
    """What changes when an object does: its ETag, else when it was last written."""
    return quoted(meta["e_tag"] or "") or str(meta["last_modified"].timestamp())
