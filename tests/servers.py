"""Servers for tests, all in this process and on loopback: S3 (moto), a web server that gives ranges, and a proxy that counts. `hub_server`
is a hub, `store_servers` are real stores where they are installed.

Nothing is installed and nothing is left: each is a context manager, on a port of its own.
"""

from __future__ import annotations

import hashlib
import http.client
import http.server
import logging
import os
import re
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlparse

BUCKET = "ckptkit-tests"
Hook = Callable[["Request"], "Answer | None"]


class Request:
    """One request as a proxy sees it: when it came, by which it is told which were under way together."""

    def __init__(self, method: str, path: str, headers: dict[str, str], at: float) -> None:
        self.method, self.path, self.headers, self.at = method, path, headers, at
        self.sent = 0
        self.done = 0.0

    @property
    def name(self) -> str:
        """The object's name, without the bucket and the query."""
        return unquote(urlparse(self.path).path).lstrip("/").partition("/")[2]

    def __repr__(self) -> str:
        return f"{self.method} {self.path} {self.headers.get('range', '')}"


class Answer:
    """What a hook of a proxy says: a status with a body instead of the server's, or (status 0) nothing, the connection closed.

    `cut`, `tag` and `lost` let the server answer first: only so many bytes of it are passed on, with another ETag, or nothing at all.
    """

    def __init__(self, status: int, body: bytes = b"", cut: int | None = None, tag: str = "", lost: bool = False) -> None:
        self.status, self.body, self.cut, self.tag, self.lost = status, body, cut, tag, lost

    @property
    def instead(self) -> bool:
        """Whether the server is not asked."""
        return self.cut is None and not self.tag and not self.lost


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        return

    def reply(self, code: int, body: bytes = b"", **headers: object) -> None:
        self.send_response(code)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), str(value))
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def give(self, data: bytes, span: tuple[int, int] | None, **about: object) -> None:
        """An object, or the bytes of it that were asked for."""
        if self.command == "HEAD":
            self.reply(200, Content_Length=len(data), **about)
        elif span is None:
            self.reply(200, data, **about)
        else:
            a, b = span
            self.reply(206, data[a:b], Content_Range=f"bytes {a}-{b - 1}/{len(data)}", **about)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # a busy machine takes them late, and a connection that finds no place waits for seconds


@contextmanager
def running(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    """A server of `handler` on a free port; its address."""
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


_fresh: dict[str, float] = {}  # seconds for which a listing counts, by the module that says so
_layers: list[dict[str, str]] = []
_outside: dict[str, str | None] = {}  # what the variables of the layers were before


def _lay() -> None:
    """Set what the layers say, the newest one's word first, and what no layer names any more as it was before; nothing of before is
    known of stores. Listings do not grow old meanwhile, so that what is asked for does not depend on how long it takes."""
    from ckptkit.store import hub, plain_http, recent, signing, trees

    trees.forget()
    for module in (recent, hub):
        usual = _fresh.setdefault(module.__name__, module.FRESH)
        module.FRESH = 3600.0 if _layers else usual
    said = {k: v for layer in _layers for k, v in layer.items()}
    for k in said.keys() - _outside.keys():
        _outside[k] = os.environ.get(k)
    for k, before in list(_outside.items()):
        value = said.get(k, before)
        if value is None:
            os.environ.pop(k, None)
        else:
            os.environ[k] = value
        if k not in said:
            del _outside[k]
    trees.forget()
    plain_http.close()
    signing.forget()


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Variables of the environment for a while, and no tree, client or listing of before. Several may end in whatever order."""
    layer = {"CKPTKIT_CACHE": "0", **values}  # what this user's cache holds is no matter of a test
    _layers.append(layer)
    _lay()
    try:
        yield
    finally:
        _layers[:] = [x for x in _layers if x is not layer]
        _lay()


_running = 0  # servers of moto in this process, which all have the same buckets


@contextmanager
def s3(hook: Hook | None = None) -> Iterator[list[Request]]:
    """moto's S3 with an empty bucket, reached through a proxy: the requests that came. `s3://BUCKET/...` is read there meanwhile.

    One that is begun while another one runs has what that one has.
    """
    global _running
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _running += 1
    try:
        host, port = server.get_host_and_port()
        if _running == 1:  # what an earlier one had is there still
            urllib.request.urlopen(f"http://{host}:{port}/moto-api/reset", b"", timeout=60).close()
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test-secret"}
        direct = f"http://{host}:{port}"
        client = boto3.client(
            "s3", endpoint_url=direct, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test-secret"
        )
        client.create_bucket(Bucket=BUCKET)
        with counting(direct, hook) as (address, requests), environment(
            AWS_ENDPOINT_URL=address, AWS_ALLOW_HTTP="true", AWS_REGION="us-east-1", **keys
        ):
            yield requests
    finally:
        _running -= 1
        server.stop()


@contextmanager
def counting(upstream: str, hook: Hook | None = None) -> Iterator[tuple[str, list[Request]]]:
    """A proxy before `upstream`: its address, and the requests in the order in which they came. `hook` may answer instead."""
    import time

    requests: list[Request] = []
    target = urlparse(upstream)

    class Proxy(Handler):
        def handle_one(self) -> None:
            headers = {k.lower(): v for k, v in self.headers.items()}
            seen = Request(self.command, self.path, headers, time.monotonic())
            requests.append(seen)
            length = int(headers.get("content-length", 0))
            body = self.rfile.read(length) if length else b""
            said = hook(seen) if hook is not None else None
            if said is not None and said.instead:
                if said.status == 0:
                    self.close_connection = True
                    return
                self.reply(said.status, said.body)
                return
            up = http.client.HTTPConnection(target.hostname or "", target.port, timeout=600)
            try:
                up.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for k, v in headers.items():  # as the hook leaves them
                    if k != "connection":
                        up.putheader(k, v)
                up.endheaders(body or None)
                got = up.getresponse()
                data = got.read()
                if said is not None and said.lost:
                    self.close_connection = True
                    return
                self.send_response(got.status)
                for k, v in got.getheaders():
                    if said is not None and said.tag and k.lower() == "etag":
                        v = said.tag
                    if k.lower() not in ("transfer-encoding", "connection", "content-length", "server", "date"):
                        self.send_header(k, v)
                size = got.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
                if size is not None:
                    self.send_header("Content-Length", size)
                self.end_headers()
                if said is not None and said.cut is not None:
                    data = data[: said.cut]
                    self.close_connection = True
                seen.sent = len(data)
                if self.command != "HEAD":
                    self.wfile.write(data)
            finally:
                up.close()
                seen.done = time.monotonic()

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_one

    with running(Proxy) as address:
        yield address, requests


def waves(requests: list[Request]) -> int:
    """How many times one had to wait for all before: a request that came after every earlier one was done begins a new wave."""
    count, ends = 0, 0.0
    for r in sorted(requests, key=lambda r: r.at):
        count += r.at >= ends
        ends = r.done if r.at >= ends else max(ends, r.done)
    return count


def fill(folder: Path, prefix: str, bucket: str = f"s3://{BUCKET}") -> str:
    """Put a folder's files, or one file, into the bucket; their address."""
    import obstore

    from ckptkit.store.trees import tree_of

    store = tree_of(bucket)[0].store  # type: ignore[attr-defined]
    files = [folder] if folder.is_file() else sorted(p for p in folder.rglob("*") if p.is_file())
    for f in files:
        name = f.name if folder.is_file() else f.relative_to(folder).as_posix()
        obstore.put(store, f"{prefix}/{name}", f.read_bytes(), use_multipart=False)
    return f"{bucket}/{prefix}"


def span_of(text: str, size: int) -> tuple[int, int] | None:
    m = re.match(r"bytes=(\d+)-(\d*)$", text)
    return (int(m[1]), min(int(m[2] or size - 1), size - 1) + 1) if m else None


@contextmanager
def web(folder: Path, *, ranges: bool = True, page: bytes = b"", listing: bool = False) -> Iterator[str]:
    """The files below `folder`, with ETag, If-Match and ranges, and WebDAV's listings if told; `page`: this HTML for all that is asked."""

    class Web(Handler):
        def do_GET(self) -> None:
            path = folder / unquote(urlparse(self.path).path).lstrip("/")
            if page:
                self.reply(200, page, Content_Type="text/html", Last_Modified="Mon, 01 Jan 2024 00:00:00 GMT")
                return
            if not path.is_file():
                self.reply(404)
                return
            data = path.read_bytes()
            tag = f'"{hashlib.md5(data).hexdigest()}"'
            wanted = self.headers.get("If-Match")
            about = {"ETag": tag, "Last_Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
            if wanted and wanted != tag:
                self.reply(412)
                return
            span = span_of(self.headers.get("Range", ""), len(data)) if ranges else None
            self.give(data, span, **about)

        def do_PROPFIND(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            base = folder / unquote(urlparse(self.path).path).strip("/")
            if not listing or not base.is_dir():
                self.reply(404 if listing else 405)
                return
            said = "".join(_described(folder, f) for f in [base, *sorted(base.iterdir())])
            body = f'<?xml version="1.0"?><D:multistatus xmlns:D="DAV:">{said}</D:multistatus>'.encode()
            self.reply(207, body, Content_Type="application/xml")

        do_HEAD = do_GET

    with running(Web) as address:
        yield address


def _described(root: Path, f: Path) -> str:
    """One file or folder as WebDAV describes it (RFC 4918, 9.1)."""
    kind = "<D:collection/>" if f.is_dir() else ""
    about = f"<D:resourcetype>{kind}</D:resourcetype><D:getlastmodified>Mon, 01 Jan 2024 00:00:00 GMT</D:getlastmodified>"
    if not kind:
        about += f"<D:getcontentlength>{f.stat().st_size}</D:getcontentlength>"
    href = "/" + "/".join(p for p in f.relative_to(root).parts) + ("/" if kind and f != root else "")
    status = "<D:status>HTTP/1.1 200 OK</D:status>"
    return f"<D:response><D:href>{href}</D:href><D:propstat><D:prop>{about}</D:prop>{status}</D:propstat></D:response>"
