"""What users of stores get wrong, by every command: one line with a hint, status 2, nothing half there, no key and no page shown."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("obstore")
pytest.importorskip("moto")

import hub_server
import servers
from commands import run
from safetensors.numpy import save_file

from ckptkit.store import plain_http, reaching, remote, signing, trees
from ckptkit.store.below import tree_at
from ckptkit.store.said import refused as refused_by

URL = f"s3://{servers.BUCKET}/refused"
ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>test-secret</Message></Error>"
VERBS = [
    "inspect URL", "inspect URL --stats", "validate URL", "digest URL", "diff SOURCE URL", "diff URL SOURCE", "lock URL",
    "report URL -o PAGE", "verify SOURCE URL", "convert URL HERE --container torch --force",
    "convert SOURCE URL --container safetensors --force", "convert SOURCE URL --container safetensors --force --on local:1",
    "convert SOURCE URL --container safetensors --force --plan-to PLAN", "clean URL", "work URL/plan.json", "finish URL/plan.json",
    "digest URL --on local:1", "summary URL", "split URL HERE PAGE", "merge URL PAGE HERE", "fix URL HERE",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refusals")
    (folder / "source").mkdir()
    save_file({"w": np.ones((10, 10), np.float32)}, folder / "source" / "model.safetensors")
    return folder


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    plain = reaching.options
    monkeypatch.setattr(remote, "options", lambda root: plain(root) | {"retry_config": {"max_retries": 0}})
    monkeypatch.setattr(plain_http, "WAIT", 0.0)
    yield
    forget()


def forget() -> None:
    trees.forget()
    plain_http.close()
    signing.forget()


def refused(verb: str, folder: Path, said: str, url: str = URL) -> None:
    """`verb` ends with status 2 and one line that names the address, says `said` and gives a hint; nothing is made here."""
    words = {"URL": url, "URL/plan.json": f"{url}/plan.json", "SOURCE": folder / "source", "HERE": folder / "here", "PAGE": folder / "page",
             "PLAN": folder / "plan.json"}  # fmt: skip
    forget()
    done = run(*(words.get(w, w) for w in verb.split()))
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 2 and done.stdout == "", (verb, done)
    assert len(lines) == 1 and lines[0].startswith("error: ") and " Hint: " in lines[0], (verb, done.stderr)
    assert said in lines[0] and url.partition("://")[2].split("/")[0] in lines[0], (verb, lines[0])
    assert "test-secret" not in lines[0] and "<" not in lines[0]
    assert {p.name for p in folder.iterdir()} == {"source"}, verb


CASES: dict[str, tuple[servers.Hook, str]] = {
    "no permission": (lambda r: servers.Answer(403, ERROR.format("AccessDenied").encode()), "the store refuses"),
    "wrong key": (lambda r: servers.Answer(403, ERROR.format("SignatureDoesNotMatch").encode()), "the store refuses"),
    "skewed": (lambda r: servers.Answer(403, ERROR.format("RequestTimeTooSkewed").encode()), "clock"),
    "page": (lambda r: servers.Answer(200, b"<html><body>test-secret</body></html>"), "not as a store does"),
    "region": (lambda r: servers.Answer(301, ERROR.format("PermanentRedirect").encode()), "another region"),
    "busy": (lambda r: servers.Answer(503, ERROR.format("SlowDown").encode()), "busy"),
    "full": (lambda r: servers.Answer(507, b""), "no room (507)"),
    "gone": (lambda r: servers.Answer(0), ""),
}


@pytest.mark.parametrize("case", CASES)
def test_a_store_that_refuses_everything(case: str, folder: Path) -> None:
    hook, said = CASES[case]
    with servers.s3(hook):
        for verb in VERBS:
            refused(verb, folder, said)


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (507, b"", "no room (507)"), (500, ERROR.format("XMinioStorageFull").encode(), "no room (XMinioStorageFull)"),
        (503, b"", "busy (503)"), (500, b"", "(500)"), (200, b"<html>test-secret</html>", "not as a store does"),
        (302, b"", "another region"), (403, b"<html>test-secret</html>", "the store refuses (403)"),
    ],
)  # fmt: skip
def test_a_store_that_is_read_and_refuses_what_is_written(folder: Path, status: int, body: bytes, said: str) -> None:
    def hook(r: servers.Request) -> servers.Answer | None:
        return servers.Answer(status, body) if r.method in ("PUT", "POST") else None

    with servers.s3(hook):
        for verb in (v for v in VERBS if v.startswith("convert SOURCE")):
            refused(verb, folder, said)
            forget()
            assert tree_at(URL).list() == {} and tree_at(URL).uploads() == []


def test_a_page_instead_of_an_object_is_told(folder: Path) -> None:
    def hook(r: servers.Request) -> servers.Answer | None:
        return servers.Answer(200, b"<html>test-secret</html>") if r.method == "GET" and r.name.endswith("model.safetensors") else None

    with servers.s3(hook):
        servers.fill(folder / "source", "refused")
        for verb in ("inspect URL", "digest URL", "diff URL SOURCE", "convert URL HERE --container torch --force"):
            refused(verb, folder, "its server answers with a web page")


def test_a_web_server_is_read_and_not_written_or_cleaned(folder: Path) -> None:
    with servers.web(folder / "source") as address:
        for verb in ("clean URL", "clean URL --remove", "convert SOURCE URL/new --container safetensors --force"):
            refused(verb.replace("URL/new", "URL"), folder, "web servers are read, not written", f"{address}/model")


@pytest.mark.parametrize(
    ("to", "said"), [("/login", "answers with a web page"), ("", "sends to another place"), ("file:///x", "another place")]
)
def test_a_web_server_that_sends_elsewhere(folder: Path, to: str, said: str) -> None:
    class Sends(servers.Handler):
        def do_GET(self) -> None:
            if self.path == "/login":
                self.reply(200, b"<html>test-secret</html>", Content_Type="text/html", Last_Modified="Mon, 01 Jan 2024 00:00:00 GMT")
            else:
                self.reply(302, Location=to or self.path)

        do_HEAD = do_PROPFIND = do_GET

    with servers.running(Sends) as address:
        for verb in ("inspect URL", "digest URL", "convert URL HERE --container torch --force"):
            refused(verb, folder, said, f"{address}/model")


def test_no_such_bucket(folder: Path) -> None:
    with servers.s3():
        for verb in VERBS:
            refused(verb, folder, "no such bucket", "s3://there-is-none/refused")


def test_nothing_there(folder: Path) -> None:
    with servers.s3():
        for verb in VERBS:
            if verb != "clean URL" and not verb.startswith("convert SOURCE"):
                refused(verb, folder, "there is no plan" if "plan" in verb else "no such file")


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
def test_no_credentials(scheme: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith(("AWS_", "AZURE_", "GOOGLE_", "GS_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(folder / "source"))
    for verb in ("inspect URL", "clean URL", "convert SOURCE URL --container safetensors --force"):
        refused(verb, folder, "no credentials were found", f"{scheme}://somebodys/refused")
    (folder / "source" / ".aws").mkdir()
    (folder / "source" / ".aws" / "config").write_text("[default]\nregion = eu-west-1\n")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    refused("inspect URL", folder, "no credentials were found", "s3://somebodys/refused")
    (folder / "source" / ".aws" / "config").unlink()
    (folder / "source" / ".aws").rmdir()


def test_a_store_without_conditions_and_one_that_takes_no_such_parts(folder: Path) -> None:
    def overlook(r: servers.Request) -> None:
        r.headers.pop("if-none-match", None)

    def unknown(r: servers.Request) -> servers.Answer | None:
        return servers.Answer(501, ERROR.format("NotImplemented").encode()) if "if-none-match" in r.headers else None

    def small(r: servers.Request) -> servers.Answer | None:
        return servers.Answer(400, ERROR.format("EntityTooSmall").encode()) if "uploadId" in r.path and r.method == "POST" else None

    for hook, said in ((overlook, "takes no conditions"), (unknown, "takes no conditions"), (small, "no parts as small as these")):
        with servers.s3(hook):
            for verb in (v for v in VERBS if v.startswith("convert SOURCE") and not ("PLAN" in v and hook is small)):
                refused(verb, folder, said)
                forget()
                assert tree_at(URL).list() == {} and tree_at(URL).uploads() == []


def test_an_escaped_name_is_told_from_one_that_is_not_there(folder: Path) -> None:
    with servers.s3():
        servers.fill(folder / "source", "my model")
        refused("inspect URL", folder, f"is s3://{servers.BUCKET}/my model meant?", f"s3://{servers.BUCKET}/my%20model")


def test_a_hub_that_is_not_there_or_has_no_such_thing(folder: Path, tmp_path: Path) -> None:
    verbs = ("inspect URL", "digest URL", "convert SOURCE URL --container safetensors --force")
    (tmp_path / "name").mkdir()
    with hub_server.hub(tmp_path, token="hf_secret"):
        with servers.environment(HF_TOKEN="hf_other"):
            for verb in verbs:
                refused(verb, folder, "no such repository, or it may not be seen", "hf://owner/name")
        for verb in verbs:
            refused(verb, folder, "no such repository", "hf://owner/none")
        refused("inspect URL", folder, "no such revision", "hf://owner/name@none")
        refused("inspect URL", folder, "no such file", "hf://owner/name/none")
        with servers.environment(HF_ENDPOINT="http://127.0.0.1:9"):
            for verb in verbs:
                refused(verb, folder, "the hub cannot be reached", "hf://owner/name")
        with servers.web(tmp_path, page=b"<html>test-secret</html>") as address, servers.environment(HF_ENDPOINT=address):
            for verb in verbs:
                refused(verb, folder, "not as a store does", "hf://owner/name")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("GET in 2s, after 5 retries, max_retries: 5, retry_timeout: 120s - status code: 500 Internal Server Error: ", "(500)"),
        ("Error performing GET in 9s - HTTP error: operation timed out", "does not answer in time"),
        ("Received redirect without LOCATION, this normally indicates an incorrectly configured region", "another region"),
        ("status code: 400 Bad Request: <Error><Code>AuthorizationHeaderMalformed</Code></Error>", "another region"),
        ("Got invalid list response: missing field `Blobs`", "not as a store does"),
        ("Got invalid list response: unexpected `Event::Eof`", "the connection was cut"),
        ("status code: 403 Forbidden: <AuthenticationErrorDetail>Request date header too old: 'x'</AuthenticationErrorDetail>", "clock"),
        ("Error performing GET in 9s - HTTP error: error following redirect for url (http://127.0.0.1:9/x)", "another region"),
        ("Generic S3 error: Last-Modified Header missing from response", "not as a store does"),
        ("status code: 503 Service Unavailable: ", "the store is busy (503)"),
        ("status code: 507 Insufficient Storage: <Error><Code>QuotaExceeded</Code></Error>", "has no room (QuotaExceeded)"),
        ("Account must be specified\n\nDebug source:\nMissingAccount", "no credentials were found"),
    ],
)
def test_what_the_library_says_is_told_apart(text: str, said: str) -> None:
    error = refused_by(Exception(f"{text}\n\nDebug source:\nRetryError {{ retry_timeout: 120s, connect_timeout: 5s }}"), "s3://b/x")
    assert said in str(error) and "Hint: " in str(error) and "\n" not in str(error)
