"""A hub on loopback, as far as huggingface_hub asks for one: commits, trees, files by ranges, and new commits (LFS and small files).

A repository is a folder of the test, `owner/NAME`, at its first commit; what is committed since is kept beside it in memory. A commit is
read as it was made for ever, and one that names another parent than the newest is refused (412), as the hub does.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlparse

from servers import Handler, environment, running, span_of

COMMIT = "c" * 40  # the first
LARGE = 1000  # bytes from which on a file is LFS's
Files = dict[str, bytes]


class Hub:
    """The repositories, and what was asked for. `hook` is told of each commit before it is made and after: it may raise ConnectionError,
    which closes the connection without an answer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        self.commits: dict[str, list[tuple[str, Files]]] = {}
        self.large: dict[str, bytes] = {}
        self.hook: Callable[[str], None] | None = None
        self.refuse = 0  # the status with which a commit is refused

    def files(self, name: str, commit: str) -> Files:
        """A repository at a commit."""
        for at, files in self.commits.get(name, []):
            if at == commit:
                return files
        base = self.folder / name
        return {f.relative_to(base).as_posix(): f.read_bytes() for f in sorted(base.rglob("*")) if f.is_file()}

    def head(self, name: str) -> str:
        """The newest commit."""
        return self.commits[name][-1][0] if self.commits.get(name) else COMMIT

    def commit(self, name: str, body: bytes) -> tuple[int, dict[str, object]]:
        """Make a commit of what the hub's API is sent (a JSON value a line); a status and an answer."""
        lines = [json.loads(line) for line in body.splitlines()]
        parent = lines[0]["value"].get("parentCommit")
        if self.refuse or (parent is not None and parent != self.head(name)):
            return self.refuse or 412, {"error": "A commit has happened since."}
        files = dict(self.files(name, self.head(name)))
        for line in lines[1:]:
            kind, about = line["key"], line["value"]
            if kind == "file":
                files[about["path"]] = base64.b64decode(about["content"])
            elif kind == "lfsFile":
                files[about["path"]] = self.large[about["oid"]]
            elif kind == "deletedFile":
                del files[about["path"]]
        if self.hook is not None:
            self.hook("before")
        oid = hashlib.sha1(body + self.head(name).encode()).hexdigest()
        self.commits.setdefault(name, []).append((oid, files))
        if self.hook is not None:
            self.hook("after")
        return 200, {"commitUrl": f"http://hub/owner/{name}/commit/{oid}", "commitOid": oid}


def blob_id(data: bytes) -> str:
    """What git calls a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def described(files: Files) -> list[dict[str, object]]:
    """A tree as the hub lists it."""
    out: list[dict[str, object]] = []
    for f in sorted({"/".join(n.split("/")[: k + 1]) for n in files for k in range(n.count("/"))}):
        out.append({"type": "directory", "oid": "0" * 40, "size": 0, "path": f})
    for n, data in sorted(files.items()):
        about: dict[str, object] = {"type": "file", "oid": blob_id(data), "size": len(data), "path": n}
        if len(data) > LARGE:
            about["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
        out.append(about)
    return out


def handler(hub: Hub, token: str) -> type[Handler]:
    """The routes."""

    class Routes(Handler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = unquote(urlparse(self.path).path)
            hub.asked.append(f"POST {path}")
            made = re.match(r"/api/models/owner/([^/]+)/(preupload|commit|paths-info)/([^/]+)$", path)
            if token and self.headers.get("Authorization") != f"Bearer {token}":
                self.json(403, {})
            elif path.endswith("/info/lfs/objects/batch"):
                there = [(o["oid"], o["size"]) for o in json.loads(body)["objects"]]
                base = f"http://{self.headers['Host']}/lfs/"
                todo = [
                    {"oid": o, "size": n} | ({} if o in hub.large else {"actions": {"upload": {"href": base + o}}}) for o, n in there
                ]
                self.json(200, {"objects": todo, "transfer": "basic"})
            elif made is None or not (hub.folder / made[1]).is_dir():
                self.json(404, {})
            elif made[2] == "paths-info":
                form = parse_qs(body.decode())
                paths = set(form.get("paths", []) or json.loads(body).get("paths", []))
                self.json(200, [d for d in described(hub.files(made[1], hub.head(made[1]))) if d["path"] in paths])
            elif made[2] == "preupload":
                now = hub.files(made[1], hub.head(made[1]))
                answers = []
                for f in json.loads(body)["files"]:
                    mode = "lfs" if f["size"] > LARGE else "regular"
                    about = {"path": f["path"], "uploadMode": mode, "shouldIgnore": False}
                    data = now.get(f["path"])
                    if data is not None:
                        about["oid"] = hashlib.sha256(data).hexdigest() if len(data) > LARGE else blob_id(data)
                    answers.append(about)
                self.json(200, {"files": answers})
            else:
                try:
                    self.json(*hub.commit(made[1], body))
                except ConnectionError:
                    self.close_connection = True

        def do_PUT(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            oid = self.path.rpartition("/")[2]
            hub.asked.append(f"PUT {self.path}")
            if hashlib.sha256(data).hexdigest() == oid:
                hub.large[oid] = data
                self.reply(200)
            else:
                self.reply(400)

        def json(self, status: int, said: object) -> None:
            self.reply(status, json.dumps(said).encode(), Content_Type="application/json")

        def do_GET(self) -> None:
            path = unquote(urlparse(self.path).path)
            hub.asked.append(f"{self.command} {path} {self.headers.get('Range', '')}".strip())
            if token and self.headers.get("Authorization") != f"Bearer {token}":
                self.reply(401, b"{}", X_Error_Code="RepoNotFound")
                return
            about = re.match(r"/api/models/owner/([^/]+)(?:/revision/([^/]+))?$", path)
            tree = re.match(r"/api/models/owner/([^/]+)/tree/([^/]+)/?$", path)
            file = re.match(r"/owner/([^/]+)/resolve/([^/]+)/(.+)$", path)
            found = about or tree or file
            if found is None or not (hub.folder / found[1]).is_dir():
                self.reply(404, b"{}", X_Error_Code="RepoNotFound")
                return
            name, head = found[1], hub.head(found[1])
            commit = head if found[2] in (None, "main") else found[2]
            if commit not in (COMMIT, *(c for c, _ in hub.commits.get(name, []))):
                self.reply(404, b"{}", X_Error_Code="RevisionNotFound")
            elif about:
                said = {"id": f"owner/{name}", "sha": commit, "private": False, "tags": [], "siblings": [], "downloads": 0, "likes": 0}
                self.json(200, said)
            elif tree:
                self.json(200, described(hub.files(name, commit)))
            else:
                self.file(hub.files(name, commit).get(found[3]), commit)

        def file(self, data: bytes | None, commit: str) -> None:
            if data is None:
                self.reply(404, X_Error_Code="EntryNotFound")
                return
            tag = f'"{hashlib.md5(data).hexdigest()}"'
            about = {"ETag": tag, "Last_Modified": "Mon, 01 Jan 2024 00:00:00 GMT", "X_Repo_Commit": commit}
            self.give(data, span_of(self.headers.get("Range", ""), len(data)), **about)

        do_HEAD = do_GET

    return Routes


@contextmanager
def hub(folder: Path, token: str = "", cache: Path | None = None) -> Iterator[Hub]:
    """A hub that has `owner/NAME` for each `folder`/NAME. With a `token` it shows nothing without. `cache`: this user's cache meanwhile."""
    from huggingface_hub import constants

    made = Hub(folder)
    old = constants.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_XET
    constants.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_XET = False, True
    words = {"CKPTKIT_CACHE": str(cache)} if cache is not None else {}
    try:
        with running(handler(made, token)) as address, environment(
            HF_ENDPOINT=address, HF_TOKEN=token, HF_HUB_DISABLE_TELEMETRY="1", **words
        ):
            yield made
    finally:
        constants.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_XET = old
