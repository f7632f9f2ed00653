"""Repositories of the Hugging Face hub: `hf://owner/name@revision/path`.

Policy: huggingface_hub says which commit a revision is, what is in it, and the token; it reads no byte. The commit is fixed when the
repository is first asked for, and every file is read at that commit, so that nothing can be replaced under way. The bytes come by ranges
from `{endpoint}/{owner}/{name}/resolve/{commit}/{path}`, as they do for a web server.
"""

from __future__ import annotations

import os
import time
from typing import Any

from ..errors import CheckpointError, NotFoundError, UsageError, with_extra
from .interface import FOLDER, Entry
from .remote import RemoteTree, options
from .said import CREDENTIALS, refused

FRESH = 60.0  # seconds after which a moving revision is asked for again


class HubTree(RemoteTree):
    """The files of a repository at one commit."""

    def __init__(self, root: str) -> None:
        self._tree: dict[str, dict[str, Entry]] = {}
        self._until = 0.0
        self.commit = ""
        super().__init__(root)

    def _open(self) -> Any:
        try:
            import huggingface_hub
            from huggingface_hub import constants
        except ImportError:
            message = "reading from the hub needs huggingface_hub, which is not installed"
            raise UsageError(message, path=self.root, hint=with_extra("remote")) from None
        from obstore.store import HTTPStore

        repository, _, revision = self.root.removeprefix("hf://").partition("@")
        token = huggingface_hub.get_token()
        endpoint = os.environ.get("HF_ENDPOINT") or constants.ENDPOINT
        api = huggingface_hub.HfApi(endpoint=endpoint, token=token)
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
        return refused(e, self.root)

    def _list(self, folder: str) -> dict[str, Entry]:
        return self._tree.get(folder, {})

    def known(self, folder: str) -> dict[str, Entry] | None:
        """What a folder holds: the whole tree is known."""
        return self._tree.get(folder, {})

    def entry(self, name: str) -> Entry | None:
        """What is called so, in the commit's tree."""
        folder, _, base = name.rpartition("/")
        return self._tree.get(folder, {}).get(base) if name else Entry(FOLDER)

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
