"""Repositories of the Hugging Face hub: `hf://owner/name@revision/path`.

Policy: huggingface_hub says which commit a revision is, what is in it, and the token; it reads no byte. The commit is fixed when the
repository is first asked for, and every file is read at that commit, so that nothing can be replaced under way. The bytes come by ranges
from `{endpoint}/{owner}/{name}/resolve/{commit}/{path}`, as they do for a web server. What is written is one commit (`hub_writing`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import Any

from .._typing import TYPE_CHECKING
from ..errors import CheckpointError, NotFoundError, UsageError, with_extra
from .hub_writing import MANIFEST, HubSink, Pending, held, is_note, obsolete_of, overlaid, refuse_commit, same_as, send
from .interface import ABSENT, FOLDER, Entry, Uploads
from .reaching import options
from .remote import RemoteTree
from .said import CREDENTIALS, not_a_store, refused

if TYPE_CHECKING:
    from .interface import Blob, Sink

_NO_ANSWER = {"TransportError", "ConnectionError", "Timeout"}  # of httpx, of requests (before huggingface_hub 1.0)
FRESH = 60.0  # seconds after which a moving revision is asked for again


class HubTree(RemoteTree):
    """The files of a repository at one commit, and what is to be the next."""

    at_once = True

    def __init__(self, root: str) -> None:
        self._tree: dict[str, dict[str, Entry]] = {}
        self._until = 0.0
        self.commit = ""
        self._writing = False  # whether what is gathered for the next commit is seen
        super().__init__(root)
        self.least_part = 1
        self.equal_parts = False

    def _open(self) -> Any:
        try:
            import huggingface_hub
            from huggingface_hub import constants
        except ImportError:
            message = "reading from the hub needs huggingface_hub, which is not installed"
            raise UsageError(message, path=self.root, hint=with_extra("remote")) from None
        from obstore.store import HTTPStore

        repository, _, revision = self.root.removeprefix("hf://").partition("@")
        self._repository, self._revision, self._tree = repository, revision, {}
        token = huggingface_hub.get_token()
        endpoint = os.environ.get("HF_ENDPOINT") or constants.ENDPOINT
        self._api = api = huggingface_hub.HfApi(endpoint=endpoint, token=token)
        self.pending = Pending(endpoint, self.root)
        try:
            self.commit = str(api.model_info(repository, revision=revision or None).sha)
            listed: list[Any] = list(api.list_repo_tree(repository, recursive=True, revision=self.commit))
        except Exception as e:
            raise self._refused(e) from None
        for f in listed:
            folder, _, base = f.path.rpartition("/")
            if type(f).__name__ == "RepoFile":
                about = f.lfs
                self._tree.setdefault(folder, {})[base] = Entry(f.size, str(about.sha256 if about is not None else f.blob_id))
            at = folder
            while at:
                above, _, name = at.rpartition("/")
                self._tree.setdefault(above, {})[name] = Entry(FOLDER)
                at = above
        self._until = time.monotonic() + FRESH
        words = options(endpoint)
        if token:
            words["client_options"]["default_headers"] = {"authorization": f"Bearer {token}"}
        return HTTPStore.from_url(f"{endpoint.rstrip('/')}/{repository}/resolve/{self.commit}", **words)

    def _refused(self, e: Exception) -> CheckpointError:
        kind = type(e).__name__
        if kind == "OfflineModeIsEnabled":
            return CheckpointError("the hub is switched off", path=self.root, hint="HF_HUB_OFFLINE is set")
        if kind == "RevisionNotFoundError":
            return NotFoundError("the repository has no such revision", path=self.root, hint="a branch, a tag or a commit after the @")
        if kind == "GatedRepoError":
            return CheckpointError("is a gated repository", path=self.root, hint=CREDENTIALS["hf"])
        if kind in ("RepositoryNotFoundError", "HFValidationError"):
            return NotFoundError("there is no such repository, or it may not be seen", path=self.root, hint=CREDENTIALS["hf"])
        if any(c.__name__ in _NO_ANSWER for c in type(e).__mro__):
            message = "the hub cannot be reached"
            return CheckpointError(message, path=self.root, hint="check the network, HF_ENDPOINT and the proxy settings")
        error = refused(e, self.root)
        return not_a_store(self.root) if error.message == "cannot be read" else error

    def list(self, folder: str = "") -> dict[str, Entry]:
        """What a folder holds."""
        return self.known(folder)

    def known(self, folder: str) -> dict[str, Entry]:
        """What a folder holds: the whole tree is known."""
        if is_note(folder + "/"):
            return self.pending.files.list(folder)
        there = self._tree.get(folder, {})
        return overlaid(there, folder, self.pending) if self._writing else dict(there)

    def entry(self, name: str) -> Entry | None:
        """What is called so, in the commit's tree."""
        if is_note(name):
            found = self.pending.files.entry(name)
            self._writing = self._writing or found is not None
            return found
        folder, _, base = name.rpartition("/")
        return self.known(folder).get(base) if name else Entry(FOLDER)

    def blob(self, name: str, tag: str | None = None) -> Blob:  # type: ignore[override]
        """Open a file; with a `tag` it must still be that one."""
        found = self.pending.files.entry(name) if self._writing or is_note(name) else None
        return self.pending.files.blob(name, tag) if found is not None and found.size >= 0 else super().blob(name, tag)

    def condition(self, entry: Entry) -> bool:
        """A commit never changes: no condition is needed."""
        return False

    def same(self, entry: Entry, meta: Any) -> bool:
        """Whether an answer is of the file: of the right size. The server that sends it has tags of its own."""
        return bool(meta["size"] == entry.size)

    @property
    def stale(self) -> bool:
        """Whether the revision may be another commit by now."""
        return len(self.root.partition("@")[2]) != 40 and time.monotonic() > self._until

    # --- writing: see `hub_writing`

    def fresh(self) -> None:
        """A commit does not change."""

    def put(self, name: str, data: bytes | memoryview, *, only_if: str | None = None) -> str:
        """Gather a small file; its tag. The manifest of a run that says it is committed is what makes the commit."""
        refuse_commit(self._revision, self.root)
        self._writing = True
        if not is_note(name):
            held(self.entry(name), only_if, self.label(name))
            self.pending.remove(name, False)
            return self.pending.files.put(name, bytes(data))
        if name.endswith("/" + MANIFEST):
            if only_if == ABSENT:
                self.pending.parent = self.commit
            if b'"committed": true' in bytes(data):
                self._publish({*self.pending.gone, *obsolete_of(bytes(data), name)})
        return self.pending.files.put(name, bytes(data), only_if=only_if)

    def _publish(self, remove: set[str]) -> None:
        """Make the commit, unless an earlier run that died has made it."""
        gone = {n for n in remove if self._committed(n) is not None}
        if self.commit == self.pending.parent or not self._is_there(gone):
            try:
                send(self._api, self._repository, self._revision, self.pending, gone, self.root)
            except CheckpointError:
                self.store = self._open()
                if not self._is_there(gone):  # else it was made, and only the answer was lost
                    raise
        self.store = self._open()
        self._writing = False

    def _committed(self, name: str) -> Entry | None:
        folder, _, base = name.rpartition("/")
        return self._tree.get(folder, {}).get(base)

    def _is_there(self, gone: set[str]) -> bool:
        """Whether the commit holds all that was gathered, and nothing that was to be removed."""
        names = self.pending.names()
        if any(self._committed(n) is not None for n in gone - set(names)):
            return False
        return all(same_as(self._committed(n), self.pending.path(n)) for n in names)

    def delete(self, name: str) -> None:
        """Remove a file with the commit. With the manifest of a run all that was gathered is gone."""
        if is_note(name):
            self.pending.files.delete(name)
            if name.endswith("/" + MANIFEST):
                self.pending.forget()
                self._writing = False
            return
        if self._writing:
            self.pending.files.delete(name)
            if self._committed(name) is not None:
                self.pending.remove(name, True)

    def delete_all(self, names: Iterable[str]) -> None:
        """Remove files."""
        for n in list(names):
            self.delete(n)

    def sink(self, name: str) -> Sink:
        """Where a file is gathered in parts."""
        refuse_commit(self._revision, self.root)
        self._writing = True
        return HubSink(self, name)

    def uploads(self, prefix: str = "") -> Uploads:
        """What was begun below `prefix` and neither committed nor aborted."""
        return self.pending.files.uploads(prefix)
