"""What ckptkit asks of stores by itself: signatures held against botocore's, connections that are kept, proxies, and AWS' profiles."""

from __future__ import annotations

import base64
import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest

pytest.importorskip("obstore")
pytest.importorskip("moto")

import botocore.auth as botocore_auth
import servers
from hypothesis import given
from hypothesis import strategies as st

from ckptkit.errors import CheckpointError, UnsupportedError, UsageError
from ckptkit.store import parts, plain_http, signing, trees
from ckptkit.store.signing import Keys, name_in, place_of, query_of, signed
from ckptkit.verbs.convert import convert

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)


@given(
    st.sampled_from(["GET", "PUT", "POST", "DELETE"]), TEXT,
    st.dictionaries(TEXT, st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=9), max_size=4),
    st.dictionaries(st.sampled_from(["content-md5", "x-amz-checksum-crc32c", "if-match", "content-type"]), st.just("a  b=="), max_size=3),
    st.binary(max_size=20), st.booleans(),
)  # fmt: skip
def test_a_request_is_signed_as_botocore_signs_it(
    method: str, name: str, words: dict[str, str], headers: dict[str, str], body: bytes, lent: bool
) -> None:
    import hashlib

    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    url = f"http://127.0.0.1:9000/bucket/{name_in(name)}" + (f"?{query_of([*words.items()])}" if words else "")
    keys = Keys("AKID", "secret/+", "token==" if lent else "")
    mine = signed(method, url, headers, keys, "eu-west-1", hashlib.sha256(body).hexdigest(), NOW)
    theirs = AWSRequest(method, url, headers, body)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore_auth, "get_current_datetime", lambda: NOW.replace(tzinfo=None))
        botocore_auth.S3SigV4Auth(Credentials(keys.id, keys.secret, keys.token or None), "s3", "eu-west-1").add_auth(theirs)
    assert mine["authorization"] == theirs.headers["Authorization"]
    assert mine["x-amz-date"] == theirs.headers["X-Amz-Date"] and unquote(name_in(name)) == name


class Seen:
    """What a server was asked: requests, and how many connections there were."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, str], int]] = []
        self.connections = 0


@contextmanager
def server(say: Callable[[http.server.BaseHTTPRequestHandler], None]) -> Iterator[tuple[str, Seen]]:
    """A server that answers as `say` does; its address without the scheme."""
    seen = Seen()

    class Handler(servers.Handler):
        def setup(self) -> None:
            seen.connections += 1
            super().setup()

        def any(self) -> None:
            seen.lines.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, seen.connections))
            say(self)

        do_GET = do_PUT = do_POST = do_CONNECT = any

    with servers.running(Handler) as address:
        yield address.removeprefix("http://"), seen
        plain_http.close()


def body_then(answer: Callable[[Any], None]) -> Callable[[Any], None]:
    def say(handler: Any) -> None:
        handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        answer(handler)

    return say


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(plain_http, "WAIT", 0.0)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield
    plain_http.close()


def test_a_connection_is_kept_and_one_that_the_server_has_closed_costs_another() -> None:
    def close_third(handler: Any) -> None:
        handler.reply(200, b"yes")
        if handler.path == "/2":  # without a word of it
            handler.connection.shutdown(socket.SHUT_RDWR)

    with server(body_then(close_third)) as (address, seen):
        for k in range(5):
            answer = plain_http.ask("PUT", f"http://{address}/{k}", "x", body=memoryview(bytearray(100_000)))
            assert (answer.status, answer.body) == (200, b"yes")
        assert seen.connections == 2 and len(seen.lines) == 5


def test_a_server_that_stumbles_is_asked_again_and_what_refuses_is_not() -> None:
    answers = [503, 500, 200, 403]
    with server(body_then(lambda handler: handler.reply(answers.pop(0), b"said"))) as (address, seen):
        assert plain_http.ask("GET", f"http://{address}/", "x").status == 200 and len(seen.lines) == 3
        assert plain_http.ask("GET", f"http://{address}/", "x").status == 403 and len(seen.lines) == 4


def test_an_answer_that_is_cut_is_asked_for_again() -> None:
    cuts = [7, 0, 100]

    def cut(handler: Any) -> None:
        n = cuts.pop(0)
        handler.send_response(200)
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        handler.wfile.write(bytes(n))
        handler.close_connection = n < 100

    with server(body_then(cut)) as (address, seen):
        answer = plain_http.ask("GET", f"http://{address}/", "x")
        assert len(answer.body) == 100 and len(seen.lines) == 3


def test_an_answer_that_comes_before_the_body_is_taken_is_that_answer() -> None:
    """As stores refuse what somebody may not write: the rest of a large part is not waited for."""

    def refuse(handler: Any) -> None:
        handler.rfile.read(10)
        handler.connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        handler.connection.shutdown(socket.SHUT_WR)
        handler.close_connection = True
        while handler.connection.recv(1 << 20):
            continue

    with server(refuse) as (address, seen):
        answer = plain_http.ask("PUT", f"http://{address}/", "x", body=bytes(8 << 20))
        assert (answer.status, answer.body, len(seen.lines)) == (403, b"no", 1)


def test_nobody_there_is_an_error_that_names_no_address() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(CheckpointError, match="cannot be reached") as e:
        plain_http.ask("GET", f"http://127.0.0.1:{port}/a?signature=topsecret", "s3://b/a")
    assert "topsecret" not in str(e.value) and e.value.path == "s3://b/a"


def test_proxies_of_the_environment_are_gone_through(monkeypatch: pytest.MonkeyPatch) -> None:
    with server(body_then(lambda handler: handler.reply(200 if handler.command != "CONNECT" else 407, b"by proxy"))) as (address, seen):
        monkeypatch.setenv("http_proxy", f"http://me:p%40ss@{address}")
        monkeypatch.setenv("https_proxy", f"http://me:p%40ss@{address}")
        monkeypatch.setenv("no_proxy", "inside.example")
        assert plain_http.ask("GET", "http://bucket.example/a?b=c", "x").body == b"by proxy"
        with pytest.raises(CheckpointError, match="cannot be reached"):
            plain_http.ask("PUT", "https://bucket.example/a", "x", body=b"data")
        assert [line[:2] for line in seen.lines[:2]] == [
            ("GET", "http://bucket.example/a?b=c"), ("CONNECT", "bucket.example:443")
        ]  # fmt: skip
        assert {line[2].get("proxy-authorization") for line in seen.lines} == {"Basic bWU6cEBzcw=="}
        with pytest.raises(CheckpointError, match="cannot be reached"):
            plain_http.ask("GET", "http://inside.example/", "x")
        assert not any("inside.example" in line[1] for line in seen.lines)


def test_where_a_bucket_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    assert place_of("s3://b.c") == ("https://s3.us-east-1.amazonaws.com/b.c", "us-east-1")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true")
    assert place_of("s3://b") == ("https://b.s3.eu-west-1.amazonaws.com", "eu-west-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://b.store.example/")
    assert place_of("s3://b") == ("https://b.store.example", "eu-west-1")
    monkeypatch.delenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://store.example:9000")
    assert place_of("s3://b") == ("http://store.example:9000/b", "eu-west-1")
    assert place_of("gs://b") == ("https://storage.googleapis.com/b", "auto")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    from safetensors.numpy import save_file

    folder = tmp_path / "source"
    folder.mkdir()
    save_file({"w": np.arange(100, dtype=np.float32)}, folder / "model.safetensors")
    return folder


def test_what_the_environment_says_of_payers_and_keys_of_the_store_goes_with_the_parts(source: Path) -> None:
    with servers.s3() as requests, servers.environment(
        AWS_REQUEST_PAYER="requester", AWS_SERVER_SIDE_ENCRYPTION="aws:kms", AWS_SSE_KMS_KEY_ID="key-1", AWS_SESSION_TOKEN="lent"
    ):
        convert(source, f"s3://{servers.BUCKET}/paid", container="safetensors", force=True)
        mine = [r for r in requests if "uploadId" in r.path or "uploads" in r.path]
        assert len(mine) >= 4 and {r.headers.get("x-amz-request-payer") for r in mine} == {"requester"}
        assert {r.headers.get("x-amz-security-token") for r in mine} == {"lent"}
        (begun,) = [r for r in mine if r.method == "POST" and "uploads" in r.path]
        assert begun.headers["x-amz-server-side-encryption"] == "aws:kms"
        assert begun.headers["x-amz-server-side-encryption-aws-kms-key-id"] == "key-1"
        with servers.environment(AWS_SERVER_SIDE_ENCRYPTION="sse-c"), pytest.raises(UsageError, match="does not fit together"):
            convert(source, f"s3://{servers.BUCKET}/own", container="safetensors", force=True)
        key = base64.b64encode(bytes(32)).decode()
        customers = servers.environment(AWS_SERVER_SIDE_ENCRYPTION="sse-c", AWS_SSE_CUSTOMER_KEY_BASE64=key)
        with customers, pytest.raises(UnsupportedError, match="customer's key"):
            convert(source, f"s3://{servers.BUCKET}/own", container="safetensors", force=True)


@pytest.fixture
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A store that is known by AWS' files alone: who asks, where, and in which region."""
    import os

    with servers.s3():
        endpoint = os.environ["AWS_ENDPOINT_URL"]
        (tmp_path / "config").write_text(f"[profile work]\nregion = eu-west-3\nendpoint_url = {endpoint}\n")
        (tmp_path / "credentials").write_text("[work]\naws_access_key_id = AKWORK\naws_secret_access_key = s\n")
        for name in ("AWS_ENDPOINT_URL", "AWS_ALLOW_HTTP", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_PROFILE", "work")
        trees.forget()
        signing.forget()
        yield tmp_path
        monkeypatch.undo()


def test_a_profile_says_who_asks_where_and_in_which_region(source: Path, profiles: Path) -> None:
    import ckptkit

    url = f"s3://{servers.BUCKET}/profile"
    convert(source, url, container="safetensors", force=True)
    assert ckptkit.digest(url) == ckptkit.digest(source)
    keys = signing.keys_of(url)
    assert keys is not None and keys.id == "AKWORK" and place_of(url).region == "eu-west-3"


def test_profiles_that_give_nothing_are_one_line(source: Path, profiles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"s3://{servers.BUCKET}/none"

    def said() -> str:
        trees.forget()
        signing.forget()
        with pytest.raises(CheckpointError) as e:
            convert(source, url, container="safetensors", force=True)
        assert "\n" not in str(e.value) and "Hint: " in str(e.value)
        return str(e.value)

    (profiles / "credentials").write_text("[other]\n")
    assert "no credentials were found" in said()
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "there is no such profile" in said()
    monkeypatch.setenv("AWS_PROFILE", "work")
    (profiles / "config").write_text("aws_secret_access_key = topsecret\n")
    assert "topsecret" not in said()
    monkeypatch.setattr(signing, "_boto", _missing)
    with pytest.raises(UsageError, match="boto3, which is not installed"):
        parts.ask(f"s3://{servers.BUCKET}", "GET", "", {"uploads": ""}, label=url)


def _missing() -> None:
    raise ImportError


def test_threads_share_connections() -> None:
    with server(body_then(lambda handler: handler.reply(200, handler.path.encode()))) as (address, seen):
        wrong: list[str] = []

        def many(name: str) -> None:
            for k in range(20):
                answer = plain_http.ask("GET", f"http://{address}/{name}{k}", "x")
                if answer.body != f"/{name}{k}".encode():
                    wrong.append(name)

        threads = [threading.Thread(target=many, args=(n,)) for n in "abcd"]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert wrong == [] and seen.connections <= 4 and sum(len(c) for c in plain_http._idle.values()) <= plain_http.IDLE
