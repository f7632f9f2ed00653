"""What lies in buckets besides checkpoints, and what objects are called: blanks, other scripts, what addresses use for themselves."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("obstore")
pytest.importorskip("moto")

import hub_server
import servers
from commands import run
from safetensors.numpy import save_file

from ckptkit.fleet.cleaning import clean
from ckptkit.store import trees
from ckptkit.verbs.convert import convert
from ckptkit.verbs.digest import digest

NAME = "model +é%2B, ünd (1).safetensors"
FORM: dict[str, Any] = {"container": "safetensors", "force": True}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("names")
    save_file({"w": np.arange(100, dtype=np.float32)}, folder / NAME)
    return folder / NAME


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with servers.s3():
        yield f"s3://{servers.BUCKET}"


@pytest.mark.parametrize("base", ["a b", "ü", "x+y", "p%20q", "a=b&c", "~tilde", "comma,'(q)!*"])
def test_names_of_all_kinds_are_written_in_parts_read_and_cleaned(base: str, source: Path, bucket: str) -> None:
    convert(source, f"{bucket}/{base}/{NAME}", **FORM)
    trees.forget()
    assert digest(f"{bucket}/{base}/{NAME}").whole == digest(source).whole
    convert(f"{bucket}/{base}/{NAME}", f"{bucket}/{base}/out dir", container="torch", force=True)
    trees.forget()
    assert digest(f"{bucket}/{base}/out dir").whole == digest(source).whole
    tree = trees.tree_of(bucket)[0]
    upload = tree.sink(f"{base}/left/{NAME}").begin()
    assert tree.uploads(f"{base}/left") == [(f"{base}/left/{NAME}", upload)]
    assert clean(f"{bucket}/{base}/left", remove=True).removed and tree.uploads(base) == []


def test_marks_of_folders_objects_called_as_folders_and_very_many_objects(source: Path, bucket: str) -> None:
    import boto3

    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"], region_name="us-east-1")

    def put(key: str, body: bytes) -> None:
        client.put_object(Bucket=servers.BUCKET, Key=key, Body=body)

    for key in ("mark/", "both", *(f"many/{i:05}.txt" for i in range(1001))):  # a listing has 1,000
        put(key, b"")
    for folder in ("mark", "both", "many"):
        put(f"{folder}/z.safetensors", source.read_bytes())
        trees.forget()
        for url in (f"{bucket}/{folder}", f"{bucket}/{folder}/"):
            assert digest(url).whole == digest(source).whole
    assert len(trees.tree_of(bucket)[0].list("many")) == 1002
    put("empty/model.safetensors", b"")
    done = run("inspect", f"{bucket}/empty/model.safetensors")
    assert done.returncode == 2 and "is empty" in done.stderr


def test_a_bucket_that_keeps_versions_is_written_and_replaced(source: Path, bucket: str, tmp_path: Path) -> None:
    import boto3

    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"], region_name="us-east-1")
    client.put_bucket_versioning(Bucket=servers.BUCKET, VersioningConfiguration={"Status": "Enabled"})
    save_file({"w": np.ones(100, np.float32)}, tmp_path / "other.safetensors")
    for file in (source, tmp_path / "other.safetensors"):
        convert(file, f"{bucket}/versions/model.safetensors", overwrite=file != source, **FORM)
        trees.forget()
        assert digest(f"{bucket}/versions/model.safetensors").whole == digest(file).whole


def test_a_server_that_sends_on_to_a_signed_address_is_followed_and_the_signature_never_shown(source: Path) -> None:
    """As the hub does for large files."""
    with servers.web(source.parent) as real:

        class Elsewhere(servers.Handler):
            def do_GET(self) -> None:
                self.reply(302, b"", Location=f"{real}{self.path}?X-Signature=topsecret")

            do_HEAD = do_GET

        with servers.running(Elsewhere) as address:
            done = run("digest", f"{address}/{NAME}")
            assert done.stdout.split()[0] == digest(source).whole and "topsecret" not in done.stdout + done.stderr
            lost = run("digest", f"{address}/none.safetensors")
            assert lost.returncode == 2 and "topsecret" not in lost.stderr


def test_names_of_all_kinds_at_a_hub_and_a_web_server(source: Path, tmp_path: Path) -> None:
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / NAME).write_bytes(source.read_bytes())
    with hub_server.hub(tmp_path), servers.web(tmp_path / "repo") as address:
        for url in (f"hf://owner/repo/{NAME}", f"hf://owner/repo@main/{NAME}", f"{address}/{NAME}"):
            assert digest(url).whole == digest(source).whole
