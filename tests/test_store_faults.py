"""Stores that fail: what is read is right or a one-line error that names the object, and what is written is never a mix of two."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("obstore")
pytest.importorskip("moto")

import servers
import store_servers
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ckptkit.containers import open_checkpoint
from ckptkit.errors import CheckpointError
from ckptkit.store import open_blob, plain_http, remote, trees
from ckptkit.store.below import tree_at
from ckptkit.verbs.convert import convert
from ckptkit.verbs.digest import digest

FAULTS = {
    "drop": lambda: servers.Answer(0),
    "lost": lambda: servers.Answer(0, lost=True),
    "truncate": lambda: servers.Answer(200, cut=7),
    "slow": lambda: servers.Answer(503, b"<Error><Code>SlowDown</Code></Error>"),
    "tag": lambda: servers.Answer(200, tag='"another"'),
    "page": lambda: servers.Answer(200, b"<html><body>Log in</body></html>"),
}
FORM: dict[str, Any] = {"container": "safetensors", "max_shard_size": 20_000, "force": True}
# what each of the first requests meets; most meet nothing
MEETS = st.lists(st.sampled_from([*FAULTS, *[""] * 6]), max_size=25)
PHASES = [Phase.generate]  # one that fails is told as it was met: a smaller one would take minutes
NAMES = ["s3", *store_servers.written()]


class Faulty:
    """A hook of a proxy: the n-th request meets what is drawn."""

    def __init__(self) -> None:
        self.meets: list[str] = []
        self.only: Any = None

    def __call__(self, request: servers.Request) -> servers.Answer | None:
        time.sleep(0.002 if len(self.meets) % 3 else 0.02)  # what is under way together comes in another order each time
        if self.only is not None:
            return self.only(request)
        word = self.meets.pop(0) if self.meets else ""
        return FAULTS[word]() if word else None


def small(folder: Path, value: float) -> Path:
    """A checkpoint of one value in all its places."""
    from safetensors.numpy import save_file

    folder.mkdir()
    save_file({f"layer.{i}.weight": np.full((50, 40), value, np.float32) for i in range(6)}, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def impatient() -> Iterator[None]:
    """Retries of all libraries without their long waits."""
    plain = remote.options
    backoff = {"init_backoff": timedelta(milliseconds=1), "max_backoff": timedelta(milliseconds=5), "base": 2.0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote, "options", lambda root: plain(root) | {"retry_config": {"max_retries": 3, "backoff": backoff}})
        patch.setattr(plain_http, "WAIT", 0.001)
        yield


@pytest.fixture(scope="module", params=NAMES)
def faulty(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, impatient: None) -> Iterator[tuple[Faulty, str]]:
    """A store behind a proxy that fails as it is told; the address of its bucket."""
    hook = Faulty()
    with store_servers.started(request.param, tmp_path_factory.mktemp(request.param), hook) as url:
        yield hook, url


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[float, Path]:
    base = tmp_path_factory.mktemp("made")
    out = {v: small(base / str(v), v) for v in (1.0, 2.0)}
    convert(out[1.0], base / "shards", **FORM)
    return {**out, 0.0: base / "shards"}


def objects(url: str) -> tuple[str, ...]:
    """The objects below an address: SeaweedFS lists a folder for a while after the last of them is gone."""
    tree, name = trees.tree_of(url)
    return tuple(tree.below(name))  # type: ignore[attr-defined]


def one_line(error: CheckpointError, url: str) -> None:
    line = str(error)
    assert url in line and "Hint: " in line and "\n" not in line and "test-secret" not in line and "<html" not in line


@settings(max_examples=12, deadline=None, phases=PHASES)
@given(MEETS)
def test_what_is_read_is_right_or_an_error_that_names_the_object(
    faulty: tuple[Faulty, str], made: dict[float, Path], meets: list[str]
) -> None:
    hook, bucket = faulty
    hook.meets, hook.only = [], None
    url = servers.fill(made[0.0], "read", bucket)
    whole = digest(made[0.0]).whole
    trees.forget()
    hook.meets = list(meets)
    try:
        assert digest(url).whole == whole
    except CheckpointError as e:
        assert any(meets)
        one_line(e, bucket)


@settings(max_examples=12, deadline=None, phases=PHASES)
@given(MEETS, st.lists(st.tuples(st.integers(0, 400_000), st.integers(1, 90_000)), min_size=1, max_size=6))
def test_pieces_of_an_object_are_its_bytes_or_an_error(
    faulty: tuple[Faulty, str], meets: list[str], wanted: list[tuple[int, int]]
) -> None:
    hook, bucket = faulty
    hook.meets, hook.only = [], None
    data = bytes(i * i % 251 for i in range(400_000))
    tree_at(bucket).put("pieces.bin", data)
    trees.forget()
    hook.meets = list(meets)
    try:
        blob = open_blob(f"{bucket}/pieces.bin")
        into = memoryview(bytearray(100))
        for (at, n), got in zip(wanted, blob.read_many(wanted), strict=True):
            assert got == data[at : at + n]
            if at + 100 <= len(data):
                blob.read(at, into)
                assert into == data[at : at + 100]
    except CheckpointError as e:
        assert any(meets)
        one_line(e, bucket)  # or the object: where already the listing fails it is the bucket that is named


def values_at(url: str) -> object:
    """The one value that a reader finds; None where there is no whole checkpoint; MIXED where values differ."""
    trees.forget()
    try:
        with open_checkpoint(url) as c:
            values = {float(x) for n in c for x in np.unique(c.array(n))}
            broken = [f for f in c.findings if f.severity == "error"] or len(c) != 6
    except CheckpointError:
        return None
    if "model.safetensors.index.json" not in trees.tree_of(url)[0].list(url.partition("://")[2].partition("/")[2]):
        return None  # shards without their index, which are an error to read
    return "MIXED" if broken or len(values) != 1 else values.pop()


COUNT = itertools.count()


@settings(max_examples=6, deadline=None, phases=PHASES)
@given(MEETS, st.integers(0, 40), st.booleans())
def test_what_is_written_is_the_old_or_the_new_and_is_finished_when_it_is_begun_again(
    faulty: tuple[Faulty, str], made: dict[float, Path], meets: list[str], quiet: int, replaces: bool
) -> None:
    hook, bucket = faulty
    hook.meets, hook.only = [], None
    url = f"{bucket}/written-{next(COUNT)}"
    if replaces:
        convert(made[1.0], url, **FORM)
    before = 1.0 if replaces else None
    trees.forget()
    hook.meets = [""] * quiet + list(meets)
    try:
        convert(made[2.0], url, overwrite=replaces, **FORM)
        ended = True
    except CheckpointError as e:
        assert any(meets)
        assert "Hint: " in str(e) and "\n" not in str(e) and bucket in str(e)
        ended = False
    hook.meets = []
    found = values_at(url)
    assert found == 2.0 if ended else found in (before, 2.0)
    if not ended:
        trees.forget()
        try:
            convert(made[2.0], url, overwrite=replaces, **FORM)
        except CheckpointError as e:  # all was there, and only the last answer was lost
            assert "exists" in e.message and found == 2.0
        assert values_at(url) == 2.0


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (404, "NoSuchBucket", "there is no such bucket"),
        (403, "AccessDenied", "may not be written: the store refuses"),
        (403, "RequestTimeTooSkewed", "clock"),
        (501, "NotImplemented", "takes no conditions"),
        (400, "EntityTooSmall", "no parts as small as these"),
    ],
)
def test_a_store_that_refuses_to_be_written_is_one_line(
    faulty: tuple[Faulty, str], made: dict[float, Path], status: int, code: str, said: str
) -> None:
    hook, bucket = faulty
    url = f"{bucket}/refused-{code}"
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>test-secret</Message></Error>".encode()

    def refuse(r: servers.Request) -> servers.Answer | None:
        early = code not in ("EntityTooSmall", "NotImplemented")
        conditional = "if-none-match" in r.headers
        part = "uploadId" in r.path or "comp=block" in r.path
        if r.method in ("PUT", "POST") and (early or (conditional if code == "NotImplemented" else part)):
            return servers.Answer(status, body)
        return None

    trees.forget()
    hook.only = refuse
    try:
        with pytest.raises(CheckpointError) as e:
            convert(made[2.0], url, **FORM)
    finally:
        hook.only = None
    if not (bucket.startswith("az") and code in ("EntityTooSmall", "NotImplemented")):  # which Azure does not say
        assert said in e.value.message
        trees.forget()
        assert objects(url) == () and tree_at(url).uploads() == []
    one_line(e.value, url)
    assert values_at(url) is None


def test_a_store_that_overlooks_conditions_is_noticed_before_anything_is_written(
    faulty: tuple[Faulty, str], made: dict[float, Path]
) -> None:
    hook, bucket = faulty
    if bucket.startswith("az"):
        return  # the condition is part of what is signed

    def overlook(r: servers.Request) -> None:
        r.headers.pop("if-none-match", None)

    trees.forget()
    hook.only = overlook
    try:
        with pytest.raises(CheckpointError, match="takes no conditions on what is written"):
            convert(made[2.0], f"{bucket}/overlooked", **FORM)
    finally:
        hook.only = None
    trees.forget()
    assert objects(f"{bucket}/overlooked") == () and tree_at(f"{bucket}/overlooked").uploads() == []


def test_a_page_of_a_proxy_instead_of_a_store_is_one_line(faulty: tuple[Faulty, str], made: dict[float, Path]) -> None:
    hook, bucket = faulty
    trees.forget()
    hook.only = lambda r: servers.Answer(200, b"<html><body>Log in</body></html>")
    try:
        for work in (lambda: digest(f"{bucket}/read"), lambda: convert(made[2.0], f"{bucket}/page", **FORM)):
            with pytest.raises(CheckpointError, match="not as a store does") as e:
                work()
            one_line(e.value, bucket)
    finally:
        hook.only = None
