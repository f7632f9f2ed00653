"""Trees, blobs and sinks: one suite for a folder of this machine and for S3, and for what is only read (a web server, a hub)."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytest.importorskip("obstore")
pytest.importorskip("moto")

import hub_server
import servers
import store_servers
from hypothesis import given
from hypothesis import strategies as st

from ckptkit.errors import CheckpointError, NotFoundError
from ckptkit.fleet.cleaning import clean
from ckptkit.store import azure, azure_addresses, listdir, open_blob, parts, remote, signing, trees
from ckptkit.store.below import tree_at
from ckptkit.store.interface import ABSENT, FOLDER
from ckptkit.store.pieces import Kept, Pieces
from ckptkit.store.said import ExistsError

DATA = os.urandom(300_000)
BIG = os.urandom(12 << 20)


WRITTEN = ["local", "s3", "relayed", "hub", *store_servers.written()]
READ = ["web", "dav", *sorted(store_servers.wanted() & {"nginx", "webdav"})]


@pytest.fixture
def bucket() -> Iterator[list[servers.Request]]:
    with servers.s3() as requests:
        yield requests


@pytest.fixture(params=WRITTEN, scope="module")
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A folder of this machine, or the address of a bucket at a server."""
    work = tmp_path_factory.mktemp(request.param)
    if request.param == "local":
        yield str(work)
        return
    if request.param == "hub":
        (work / "hub" / "repo").mkdir(parents=True)
        with hub_server.hub(work / "hub", cache=work / "cache"):
            yield "hf://owner/repo"
        return
    with store_servers.started(request.param, work) as url:
        yield url


@pytest.fixture
def where(store: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty place to write to."""
    if "[relayed]" in request.node.name:  # a store of which only whole objects can be written
        monkeypatch.setattr(remote.RemoteTree, "_in_parts", lambda self, name: False)
    return f"{store}/{request.node.name.replace('[', '-').strip(']')}"


@pytest.fixture(params=[w for w in WRITTEN if w != "relayed"] + READ)
def filled(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A place that holds `a.bin` (DATA), `empty.bin` and, below, `in/b.bin`; reading is all that is done with it."""
    folder, work = tmp_path / "repo", tmp_path / "work"
    (folder / "in").mkdir(parents=True)
    work.mkdir()
    (folder / "a.bin").write_bytes(DATA)
    (folder / "empty.bin").write_bytes(b"")
    (folder / "in" / "b.bin").write_bytes(b"below")
    if request.param == "local":
        yield str(folder)
    elif request.param == "hub":
        with hub_server.hub(tmp_path):
            yield "hf://owner/repo@main"
    elif request.param in WRITTEN:
        with store_servers.started(request.param, work) as url:
            yield servers.fill(folder, "filled", url)
    elif request.param in ("web", "dav"):
        with servers.web(folder, listing=request.param == "dav") as address:
            yield address
    else:
        with getattr(store_servers, request.param)(folder, work) as address:
            yield address


def test_a_blob_gives_its_bytes_wherever_they_are_asked_for(filled: str) -> None:
    blob = open_blob(f"{filled}/a.bin")
    assert blob.size == len(DATA)
    for at, n in ((0, 10), (5, 0), (1000, 200_000), (len(DATA) - 3, 10), (len(DATA), 5), (150_000, 16)):
        assert blob.pread(n, at) == DATA[at : at + n]
    into = memoryview(bytearray(200_000))
    blob.read(50_000, into)
    assert into == DATA[50_000:250_000]
    with pytest.raises(CheckpointError, match="short"):
        blob.read(len(DATA) - 10, memoryview(bytearray(11)))
    assert blob.read_many([(10, 5), (299_000, 1000), (0, 1)]) == [DATA[10:15], DATA[299_000:], DATA[:1]]
    blob.close()


def test_an_object_that_is_read_forwards_comes_whole(filled: str) -> None:
    blob, got, into = open_blob(f"{filled}/a.bin"), bytearray(), memoryview(bytearray(7_001))
    while n := blob.readinto(into, len(got)):
        got += into[:n]
    assert got == DATA
    blob.close()


def test_what_there_is_is_known(filled: str, request: pytest.FixtureRequest) -> None:
    from ckptkit import store

    assert store.is_file(f"{filled}/a.bin") and not store.is_folder(f"{filled}/a.bin") and store.exists(f"{filled}/a.bin")
    assert not store.exists(f"{filled}/c.bin")
    assert store.file_size(f"{filled}/empty.bin") == 0
    assert store.file_size(f"{filled}/in/b.bin") == 5
    with pytest.raises(NotFoundError):
        open_blob(f"{filled}/c.bin")
    listed = sorted(listdir(filled))
    if any(f"[{n}]" in request.node.name for n in ("web", "nginx")):  # which list nothing
        assert listed == []
    else:
        assert listed == ["a.bin", "empty.bin", "in"]
        assert store.is_folder(f"{filled}/in") and not store.is_file(f"{filled}/in")
        assert {n: f for n, f, _ in store.entries(filled)} == {"a.bin": False, "empty.bin": False, "in": True}


def test_a_mapped_object_is_indexed_and_sliced_as_mapped_memory(filled: str) -> None:
    from ckptkit.store import view_of

    with open_blob(f"{filled}/a.bin").mapped() as data, view_of(data) as view:
        assert len(data) == len(DATA) and data[5] == DATA[5] and data[100:220] == DATA[100:220]
        assert data.find(DATA[200_000:200_020]) == 200_000 and data.find(b"\0" * 64) == DATA.find(b"\0" * 64)
        assert view[7:90_000].tobytes() == DATA[7:90_000] and view[1000:][3] == DATA[1003]
    with open_blob(f"{filled}/a.bin").mapped(flat=True) as data, memoryview(data) as flat:
        assert flat == DATA
    with open_blob(f"{filled}/a.bin").copied() as data:
        data[0:1] = b"x"
    assert open_blob(f"{filled}/a.bin").pread(1, 0) == DATA[:1]


def test_small_objects_are_put_replaced_and_removed_and_conditions_hold(where: str) -> None:
    tree = tree_at(where)
    assert tree.entry("x/a") is None and tree.list("x") == {}
    first = tree.put("x/a", b"one", only_if=ABSENT)
    with pytest.raises(ExistsError):
        tree.put("x/a", b"two", only_if=ABSENT)
    assert tree.blob("x/a").pread(10, 0) == b"one"
    second = tree.put("x/a", b"three", only_if=first)
    with pytest.raises(ExistsError):
        tree.put("x/a", b"four", only_if=first)
    assert tree.blob("x/a").pread(10, 0) == b"three" and second != first
    tree.put("x/a", b"five")
    assert set(tree.list("x")) == {"a"} and tree.list("x")["a"].size == 4 and tree.list("")["x"].size == FOLDER
    tree.delete("x/a")
    tree.delete("x/a")
    assert tree.entry("x/a") is None


def test_many_objects_are_removed_together(where: str) -> None:
    tree = tree_at(where)
    names = [*(f"many/{n:02d}" for n in range(20)), "many/a b+c.bin", "many/ä%20&'(1).bin"]
    for n in names:
        tree.put(n, b"x")
    tree.put("kept", b"x")
    tree.delete_all([*names, "many/none"])
    tree.fresh()
    assert tree.list("many") == {} and tree.entry("kept") is not None  # SeaweedFS keeps the empty folder for a while


@pytest.mark.parametrize("status", [400, 403, 500, 501])
def test_a_store_that_has_no_request_for_many_objects_is_cleaned_all_the_same(status: int) -> None:
    def hook(r: servers.Request) -> servers.Answer | None:
        many = r.method == "POST" and urlsplit(r.path).query.partition("=")[0] == "delete"
        return servers.Answer(status, b"<Error><Code>NotImplemented</Code></Error>") if many else None

    with servers.s3(hook):
        tree = tree_at(f"s3://{servers.BUCKET}/many")
        for n in range(3):
            tree.put(f".ckptkit/{n}", b"x")
        assert len(clean(tree.root).notes) == 3
        assert clean(tree.root, remove=True).removed and clean(tree.root).notes == ()


def test_what_may_not_be_removed_is_told_when_all_else_is_gone() -> None:
    def hook(r: servers.Request) -> servers.Answer | None:
        return servers.Answer(403, b"<Error><Code>AccessDenied</Code></Error>") if r.method == "DELETE" and r.path.endswith("1") else None

    with servers.s3(hook):
        tree = tree_at(f"s3://{servers.BUCKET}/many")
        for n in range(4):
            tree.put(f"x/{n}", b"x")
        with pytest.raises(CheckpointError, match=r"many/x/1: may not be written: the store refuses \(AccessDenied\)"):
            tree.delete_all([f"x/{n}" for n in range(4)])
        tree.fresh()
        assert set(tree.list("x")) == {"1"}


@pytest.mark.parametrize("token", ["sp=rwd&sig=a%2Bb%3D", "?sp=rwd&sig=a+b="])
def test_an_address_with_a_shared_access_signature_names_the_object(token: str) -> None:
    said = {"AZURE_STORAGE_ACCOUNT_NAME": "mine", "AZURE_STORAGE_ENDPOINT": "https://mine.example/", "AZURE_STORAGE_SAS_TOKEN": token}
    with servers.environment(**said):
        tree = trees.tree_of("az://box")[0]
        assert azure_addresses.address(tree, "PUT", "a/b c+ä.bin") == (  # type: ignore[arg-type]
            "https://mine.example/box/a/b%20c%2B%C3%A4.bin?sp=rwd&sig=a%2Bb%3D"
        )
        assert isinstance(tree.sink("a"), azure.AzureSink)


def test_parts_become_an_object_when_they_are_committed_and_not_before(where: str) -> None:
    tree = tree_at(where)
    sink, size = tree.sink("big.bin"), 5 << 20
    upload = sink.begin()
    tags = {n: tree.sink("big.bin").part(upload, n, BIG[(n - 1) * size : n * size]) for n in (3, 1, 2)}
    assert {n: s for n, (_, s) in sink.parts(upload).items()} == {1: size, 2: size, 3: 2 << 20}
    assert tree.entry("big.bin") is None
    assert [(n, u["id"]) for n, u in tree.uploads()] == [("big.bin", upload["id"])]
    tags[2] = sink.part(upload, 2, memoryview(BIG)[size : 2 * size])  # done twice: as if once
    sink.commit(upload, tags)
    assert tree.blob("big.bin").pread(len(BIG), 0) == BIG
    assert tree.uploads() == []
    with pytest.raises(KeyError):
        sink.parts(upload)


def test_a_part_that_is_not_there_is_no_object(where: str) -> None:
    tree = tree_at(where)
    sink = tree.sink("big.bin")
    upload = sink.begin()
    tag = sink.part(upload, 1, BIG[: 5 << 20])
    with pytest.raises(CheckpointError, match="part 2"):
        sink.commit(upload, {1: tag, 2: tag})
    sink.abort(upload)
    sink.abort(upload)
    assert tree.entry("big.bin") is None and tree.uploads() == []


def test_google_is_sent_parts_in_the_words_of_s3_without_checksums_of_aws(
    bucket: list[servers.Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not Google's store, which no server here is: that the calls are S3's, with MD5 and without AWS' own headers of checksums."""
    monkeypatch.setenv("GS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("GS_SECRET_ACCESS_KEY", "test-secret")
    monkeypatch.setattr(signing, "GOOGLE", os.environ["AWS_ENDPOINT_URL"])
    tree = trees.tree_of(f"s3://{servers.BUCKET}")[0]
    monkeypatch.setattr(tree, "root", f"gs://{servers.BUCKET}")
    monkeypatch.setattr(tree, "scheme", "gs")
    assert parts.google_keys()
    sink = tree.sink("google/big.bin")
    assert isinstance(sink, parts.S3Sink)
    bucket.clear()
    upload = sink.begin()
    tags = {n + 1: sink.part(upload, n + 1, BIG[n * (5 << 20) : (n + 1) * (5 << 20)]) for n in range(3)}
    assert [n for n, _ in tree.uploads("google")] == ["google/big.bin"]
    sink.commit(upload, tags, only_if=ABSENT)
    assert not [h for r in bucket for h in r.headers if "checksum" in h or h == "if-none-match"]
    assert all("content-md5" in r.headers for r in bucket if r.method == "PUT")
    monkeypatch.undo()
    assert tree_at(f"s3://{servers.BUCKET}").blob("google/big.bin").pread(len(BIG), 0) == BIG


def test_an_object_that_is_replaced_is_not_read_on(where: str) -> None:
    tree = tree_at(where)
    tree.put("a.bin", DATA)
    if not where.startswith("s3"):  # an open file stays what it was
        return
    blob = tree.blob("a.bin")
    pin = tree.pin("a.bin")
    assert blob.pread(10, 0) == DATA[:10]
    tree.put("a.bin", DATA[::-1])
    for read in (lambda: blob.pread(10, 200_000), lambda: tree.blob("a.bin"), lambda: tree.blob("a.bin", blob.tag)):
        with pytest.raises(CheckpointError, match=r"a\.bin: was replaced while it was read"):
            read()
    del pin
    assert tree.blob("a.bin").pread(10, 0) == DATA[::-1][:10]


def test_a_forked_process_is_told_and_does_not_wait_forever(bucket: list[servers.Request]) -> None:
    tree_at(f"s3://{servers.BUCKET}/x").list()
    pid = os.fork()
    if not pid:
        try:
            trees.tree_of(f"s3://{servers.BUCKET}/x")
        except CheckpointError as e:
            os._exit(7 if "forked" in e.message else 8)
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_many_threads_read_one_object(bucket: list[servers.Request]) -> None:
    tree = tree_at(f"s3://{servers.BUCKET}/threads")
    tree.put("a.bin", DATA)
    blob, wrong = tree.blob("a.bin"), []

    def read(seed: int) -> None:
        into = memoryview(bytearray(20_000))
        for k in range(8):
            at = (seed * 37_321 + k * 20_000) % (len(DATA) - 20_000)
            blob.read(at, into)
            if into != DATA[at : at + 20_000] or blob.pread(100, at) != DATA[at : at + 100]:
                wrong.append(at)

    threads = [threading.Thread(target=read, args=(s,)) for s in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 120)), max_size=12), st.integers(0, 400), st.integers(0, 100))
def test_kept_pieces_give_what_was_put_and_nothing_else(runs: list[tuple[int, int]], at: int, n: int) -> None:
    source, there, kept, pieces = bytes(i % 251 for i in range(600)), set(), Kept(), Pieces()
    for start, length in runs:
        kept.add(("a", "1"), start, source[start : start + length])
        if length:
            pieces.add(start, source[start : start + length])
        there |= set(range(start, start + length))
    data, count = kept.get(("a", "1"), at, n)
    whole = next((k for k in range(n) if at + k not in there), n)
    assert count == whole and data == source[at : at + whole]
    assert pieces.total == len(there) == sum(map(len, pieces.runs))
    assert kept.get(("a", "2"), at, n) == (b"", 0)


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("s3://b/a/c.bin", ("s3://b", "a/c.bin")),
        ("gcs://b/a/", ("gs://b", "a")),
        ("hf://o/n@v1/x/y", ("hf://o/n@v1", "x/y")),
        ("hf://o/n", ("hf://o/n", "")),
        ("https://h:1/a", ("https://h:1", "a")),
    ],
)
def test_an_address_is_a_tree_and_a_name(url: str, parts: tuple[str, str]) -> None:
    assert trees.split_url(url) == parts


@pytest.mark.parametrize(
    "url", ["s3://", "s3://b/../x", "hf://only", "https://h/x?sig=topsecret", "https://me:topsecret@h/x", "s3://b/x#topsecret"]
)
def test_an_address_that_cannot_be_is_refused_and_its_secret_is_not_told(url: str) -> None:
    with pytest.raises(CheckpointError) as e:
        trees.split_url(url)
    assert e.value.exit_code == 2 and "topsecret" not in str(e.value)
