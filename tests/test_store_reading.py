"""The verbs read addresses as they read paths: the same answers, few requests, and one line where something is wrong."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import oracles
import pytest

pytest.importorskip("obstore")
pytest.importorskip("moto")

import hub_server
import servers

from ckptkit.containers import open_checkpoint
from ckptkit.errors import CheckpointError
from ckptkit.store import header_cache, remote, trees
from ckptkit.verbs.convert import convert
from ckptkit.verbs.diff import diff
from ckptkit.verbs.digest import digest
from ckptkit.verbs.inspect import inspect
from ckptkit.verbs.lock import lock
from ckptkit.verbs.validate import validate

RUNS = (
    "dcp_llama_tp2d", "deepspeed_llama_z2", "deepspeed_llama_z3", "megatron_legacy_llama_tp2pp2", "megatron_torch_dist_llama_tp2pp2",
    "meta_llama_tp2", "orbax",
)  # fmt: skip
SHARDS, TENSORS = 30, 700
SLOW = 0.15  # seconds that each request of a budget takes: what goes out together is then under way together


class Store:
    """A filled bucket, and what a hook does to requests meanwhile."""

    def __init__(self, requests: list[servers.Request]) -> None:
        self.requests = requests
        self.hook: servers.Hook | None = None
        self.slow = 0.0

    def __call__(self, request: servers.Request) -> servers.Answer | None:
        time.sleep(self.slow)
        return self.hook(request) if self.hook is not None else None

    def count(self) -> None:
        self.requests.clear()
        trees.forget()

    def waves(self, act: Callable[[], object], allowed: int) -> int:
        """In how many waves the requests of ``act`` came: the fewest of five tries, as a busy machine starts some of a wave late.

        What has to wait for an answer waits for it in every try.
        """
        found: list[int] = []
        for _ in range(5):
            self.count()
            act()
            found.append(servers.waves(self.requests))
            if found[-1] <= allowed:
                break
        return min(found)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT in each of the formats, one in shards, and one with many tensors in many shards."""
    base = tmp_path_factory.mktemp("models")
    source = oracles.golden("hf_bert") / "safetensors"
    convert(source, base / "safetensors", container="safetensors")
    convert(source, base / "shards", container="safetensors", max_shard_size=60_000)
    convert(source, base / "torch", container="torch")
    convert(source, base / "tf", to="google")
    for name in ("flax", "npz", "hdf5"):
        convert(source, base / name, container=name)
    for case in RUNS[:-1]:
        shutil.copytree(oracles.FIXTURES / "forms" / case, base / case, symlinks=True)
    convert(oracles.FIXTURES / "forms" / "llama_whole", base / RUNS[-1], to="flax", container="orbax")
    return base


@pytest.fixture(scope="module")
def bucket(models: Path) -> Iterator[Store]:
    held: list[Store] = []
    with servers.s3(lambda r: held[0](r) if held else None) as requests:
        held.append(Store(requests))
        for folder in models.iterdir():
            servers.fill(folder, folder.name)
        yield held[0]


@pytest.fixture(autouse=True)
def _quiet(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "bucket" in request.fixturenames:
        store = request.getfixturevalue("bucket")
        store.hook, store.slow = None, 0.0
        trees.forget()


@pytest.mark.parametrize("form", ["safetensors", "shards", "torch", "tf", "flax", "npz", "hdf5", *RUNS])
def test_what_is_said_of_an_address_is_what_is_said_of_the_files(models: Path, bucket: Store, form: str) -> None:
    below = "/checkpoint" if (models / form / "checkpoint").is_dir() else ""
    here, there = str(models / form) + below, f"s3://{servers.BUCKET}/{form}{below}"
    a, b = inspect(here), inspect(there)
    assert [t.name for t in a.tensors] == [t.name for t in b.tensors] and a.sizes == b.sizes
    assert [(os.path.basename(f), n) for f, n in a.files] == [(f.rpartition("/")[2], n) for f, n in b.files]
    assert all(f.startswith(there) for f, _ in b.files)
    assert digest(here).whole == digest(there).whole
    assert json.loads(lock(here)) == json.loads(lock(there))
    found = [
        [(f.severity, f.rule, f.message) for f in validate(place).findings if "from afar" not in f.message] for place in (here, there)
    ]
    assert found[0] == found[1]
    assert diff(here, there).exit_code == 0


def test_a_web_server_and_a_hub_are_read_the_same(models: Path) -> None:
    whole = digest(models / "safetensors").whole
    with servers.web(models) as address:
        for form in ("safetensors", "shards", "torch"):
            assert digest(f"{address}/{form}").whole == whole
        assert digest(f"{address}/shards/model.safetensors.index.json").whole == whole
    with hub_server.hub(models, token="hf_secret") as hub:
        assert digest("hf://owner/shards").whole == whole
        assert digest("hf://owner/torch@main/pytorch_model.bin").whole == whole
        files = [a for a in hub.asked if "/resolve/" in a]
        assert files and all(hub_server.COMMIT in a and "bytes=" in a for a in files)  # at the commit, and by ranges
    with hub_server.hub(models, token="other"), servers.environment(HF_TOKEN="hf_wrong"):
        with pytest.raises(CheckpointError, match="no such repository") as e:
            digest("hf://owner/shards")
        assert "hf_wrong" not in str(e.value) and "HF_TOKEN" in str(e.value)


def test_many_shards_take_a_request_each_and_three_waves(tmp_path: Path, bucket: Store) -> None:
    from safetensors.numpy import save_file

    where: dict[str, str] = {}
    for s in range(SHARDS):
        name = f"model-{s + 1:05d}-of-{SHARDS:05d}.safetensors"
        tensors = {f"model.layers.{s}.mlp.experts.{i}.up_proj.weight": np.zeros((2, 3), np.float32) for i in range(TENSORS)}
        save_file(tensors, tmp_path / name)
        where |= dict.fromkeys(tensors, name)
    index = {"metadata": {"total_size": SHARDS * TENSORS * 24}, "weight_map": where}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "config.json").write_text('{"model_type": "unheard-of"}')
    url = servers.fill(tmp_path, "many")
    bucket.slow = SLOW
    assert bucket.waves(lambda: inspect(url), 3) <= 3
    assert len(bucket.requests) <= SHARDS + 3
    headers = sum(8 + int.from_bytes((tmp_path / n).read_bytes()[:8], "little") for n in set(where.values()))
    assert headers <= sum(r.sent for r in bucket.requests if r.name.endswith(".safetensors")) <= 1.3 * headers
    assert len(inspect(url).tensors) == SHARDS * TENSORS


def test_headers_longer_than_the_index_tells_are_completed_together(tmp_path: Path, bucket: Store) -> None:
    from safetensors.numpy import save_file

    where = {}
    for s in range(4):
        name = f"model-{s + 1:05d}-of-00004.safetensors"
        save_file({f"w{s}": np.zeros((2, 3), np.float32)}, tmp_path / name, metadata={"note": "n" * 3000})
        where[f"w{s}"] = name
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    url = servers.fill(tmp_path, "longer")
    bucket.slow = SLOW

    def act() -> None:
        with open_checkpoint(url) as c:
            assert list(c) == ["w0", "w1", "w2", "w3"] and len(c.metadata["note"]) == 3000

    assert bucket.waves(act, 4) <= 4


def test_a_zip_of_torch_and_a_bundle_take_four_requests(tmp_path: Path, bucket: Store) -> None:
    import torch

    (tmp_path / "t").mkdir()
    torch.save({f"layer.{i}.weight": torch.zeros(40, 50) for i in range(204)}, tmp_path / "t" / "pytorch_model.bin")
    (tmp_path / "t" / "config.json").write_text('{"model_type": "bert"}')
    url = servers.fill(tmp_path / "t", "zip")
    bucket.count()
    inspect(url)
    assert len(bucket.requests) <= 4
    convert(tmp_path / "t", tmp_path / "b", container="tf", force=True)
    url = servers.fill(tmp_path / "b", "bundle")
    bucket.count()
    with open_checkpoint(url) as c:
        assert len(c) == 204
    assert len(bucket.requests) <= 4


def test_an_h5_file_is_read_where_its_headers_are(tmp_path: Path, bucket: Store) -> None:
    import h5py

    (tmp_path / "h").mkdir()
    with h5py.File(tmp_path / "h" / "m.h5", "w") as f:
        for i in range(20):
            f[f"layer_{i}/kernel:0"] = np.full((1000, 700), i, np.float32)
    url = servers.fill(tmp_path / "h", "h5") + "/m.h5"
    bucket.count()
    with open_checkpoint(url) as c:
        assert len(c) == 20
        assert sum(r.sent for r in bucket.requests) <= 0.01 * (tmp_path / "h" / "m.h5").stat().st_size
        assert c.array("layer_7/kernel:0")[999, 699] == 7


def test_headers_are_kept_by_tag_for_the_next_command_and_no_longer_than_that(
    models: Path, tmp_path: Path, bucket: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = servers.fill(models / "shards", "kept")
    names = [t.name for t in inspect(models / "shards").tensors]
    with servers.environment(CKPTKIT_CACHE=str(tmp_path / "cache")):
        bucket.count()
        inspect(url)
        first = len(bucket.requests)
        bucket.count()
        assert [t.name for t in inspect(url).tensors] == names
        assert first > len(bucket.requests) and not [r for r in bucket.requests if r.name.endswith(".safetensors")]
        kept = list((tmp_path / "cache" / "headers").iterdir())
        assert kept and all(f.stat().st_mode & 0o77 == 0 for f in kept)
        for f in kept:  # what is damaged is as if it were not there
            f.write_bytes(f.read_bytes()[:-1] + b"?")
        bucket.count()
        assert [t.name for t in inspect(url).tensors] == names and len(bucket.requests) == first
        trees.forget()
        other = servers.fill(models / "safetensors" / "model.safetensors", "kept-one") + "/model.safetensors"
        assert digest(other).whole == digest(models / "safetensors").whole
        trees.forget()
        tree, name = trees.tree_of(other)
        data = (models / "safetensors" / "model.safetensors").read_bytes()
        tree.put(name, data.replace(b"word_embeddings", b"WORD_embeddings"))
        trees.forget()
        assert any("WORD_embeddings" in t.name for t in inspect(other).tensors)
        monkeypatch.setattr(header_cache, "OF_ALL", 1)
        bucket.count()
        inspect(url)
        trees.forget()
        assert list((tmp_path / "cache" / "headers").iterdir()) == []
    with servers.environment(CKPTKIT_CACHE="0"):
        bucket.count()
        inspect(url)
        bucket.count()
        inspect(url)
        assert len(bucket.requests) == first


def test_shards_of_a_tensor_each_are_a_request_each(tmp_path: Path, bucket: Store) -> None:
    """Their headers are shorter than what says that a file is no pointer and no page."""

    from safetensors.numpy import save_file

    names = {f"w{k}": f"model-{k + 1:05d}-of-00009.safetensors" for k in range(9)}
    for n, f in names.items():
        save_file({n: np.ones((200, 300), np.float32)}, tmp_path / f)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    url = servers.fill(tmp_path, "single")
    bucket.count()
    assert len(inspect(url).tensors) == 9
    assert len(bucket.requests) <= 9 + 3


def test_local_headers_of_a_zip_are_held_where_the_bytes_are_read(tmp_path: Path, bucket: Store) -> None:
    import torch

    torch.save({"a": torch.ones(4, 5), "b": torch.zeros(30)}, tmp_path / "model.pt")
    raw = bytearray((tmp_path / "model.pt").read_bytes())
    at = raw.index(b"PK\3\4", 1)
    raw[at + 30] ^= 1  # another name than the directory's
    (tmp_path / "model.pt").write_bytes(raw)
    url = servers.fill(tmp_path, "lying") + "/model.pt"
    with pytest.raises(CheckpointError, match="by its own header"):
        open_checkpoint(str(tmp_path / "model.pt"))
    assert any("from afar" in f.message for f in inspect(url).findings)
    with pytest.raises(CheckpointError, match="by its own header"):
        validate(url)


def test_a_store_that_stumbles_is_asked_again(models: Path, bucket: Store) -> None:
    seen: set[tuple[str, str]] = set()

    def once(r: servers.Request) -> servers.Answer | None:
        key = r.path, r.headers.get("range", "")
        if key in seen:
            return None
        seen.add(key)
        return servers.Answer(503, b"<Error><Code>SlowDown</Code></Error>") if len(seen) % 2 else servers.Answer(0)

    whole = digest(models / "shards").whole
    bucket.count()
    bucket.hook = once
    assert digest(f"s3://{servers.BUCKET}/shards").whole == whole
    assert len(bucket.requests) > len(seen) > 4


def test_a_checkpoint_that_is_replaced_under_way_is_an_error_that_names_the_object(models: Path, bucket: Store) -> None:
    import boto3

    url = servers.fill(models / "safetensors", "moving")
    bucket.count()
    with open_checkpoint(url) as c:
        client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"], region_name="us-east-1")
        data = (models / "safetensors" / "model.safetensors").read_bytes()
        client.put_object(Bucket=servers.BUCKET, Key="moving/model.safetensors", Body=data[:-4] + b"\1\2\3\4")
        name = max(c.tensors.values(), key=lambda t: t.extents[0].offset).name
        with pytest.raises(CheckpointError, match=r"moving/model\.safetensors: was replaced while it was read"):
            c._blobs.clear()
            trees.tree_of(url)[0].kept = remote.Kept()  # what was read ahead is no proof
            c.array(name)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("s3://{bucket}/nothing", "no such file"),
        ("s3://{bucket}/safetensors/modle.safetensors", "did you mean model.safetensors"),
        ("s3://{bucket}-2/x", "no such bucket"),
        ("ftp://somewhere/x", "s3://, gs://"),
        ("s3:/{bucket}/x", "a Path makes one slash of two"),
        ("http://127.0.0.1:9/x/model.safetensors", "cannot be reached"),
        ("https://u:topsecret@somewhere/x", "user or a password"),
    ],
)
def test_what_cannot_be_read_is_one_line_with_a_hint(bucket: Store, path: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = remote.options
    monkeypatch.setattr(remote, "options", lambda root: plain(root) | {"retry_config": {"max_retries": 0}})
    with pytest.raises(CheckpointError) as e:
        inspect(path.format(bucket=servers.BUCKET))
    line = str(e.value)
    assert said in line and "Hint: " in line and "\n" not in line and e.value.exit_code == 2
    assert "test-secret" not in line and "topsecret" not in line


def test_a_store_that_refuses_a_page_of_a_proxy_and_a_server_without_ranges_are_one_line(models: Path, bucket: Store) -> None:
    bucket.count()
    bucket.hook = lambda r: servers.Answer(403, b"<Error><Code>AccessDenied</Code><Message>test-secret</Message></Error>")
    with pytest.raises(CheckpointError, match=r"may not be read: the store refuses") as e:
        inspect(f"s3://{servers.BUCKET}/safetensors")
    assert "AWS_ACCESS_KEY_ID" in str(e.value) and "test-secret" not in str(e.value)
    with servers.web(models, page=b"<html><body>Log in</body></html>") as address, pytest.raises(CheckpointError) as e:
        inspect(f"{address}/safetensors/model.safetensors")
    assert "web page" in str(e.value)
    with servers.web(models, ranges=False) as address, pytest.raises(CheckpointError, match="HTTP ranges"):
        inspect(f"{address}/safetensors/model.safetensors")


def test_objects_can_be_read_where_only_the_listing_is_refused(models: Path, bucket: Store) -> None:
    bucket.count()
    bucket.hook = lambda r: servers.Answer(403, b"<Error><Code>AccessDenied</Code></Error>") if "list-type" in r.path else None
    url = f"s3://{servers.BUCKET}/safetensors/model.safetensors"
    assert digest(url).whole == digest(models / "safetensors").whole


def test_containers_ask_the_store_and_never_the_system() -> None:
    """No `os` but for texts of paths, no mmap, no open, no pathlib in containers/: an address has to work wherever a path does."""
    texts = {"join", "basename", "dirname", "split", "splitext", "isabs"}
    own = {"fspath", "PathLike", "sep", "path"}
    wrong = []
    for file in sorted((oracles.ROOT / "ckptkit" / "containers").rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        opens = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
        opens |= {a.arg for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) for a in n.args.args}
        for node in ast.walk(tree):
            said = ""
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os" and node.attr not in own:
                said = f"os.{node.attr}"
            elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "os.path" and node.attr not in texts:
                said = f"os.path.{node.attr}"
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open" and "open" not in opens:
                said = "open()"
            elif isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Name) and node.value.id == "open":
                said = "open under another name"
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
                said = next((n for n in names if n in ("mmap", "pathlib", "io", "shutil", "glob")), "")
            if said == "open()" and isinstance(node, ast.Call) and ast.unparse(node.args[0]) == "INDEX":
                said = ""  # the package's own table of containers, which is no checkpoint's
            if said:
                wrong.append(f"{file.name}:{node.lineno} {said}")
    assert wrong == []


def test_a_path_imports_no_store_and_no_library_of_one() -> None:
    code = (
        "import sys, ckptkit; ckptkit.inspect(sys.argv[1]); ckptkit.digest(sys.argv[1]); "
        "print([m for m in sys.modules if m.split('.')[0] in ('obstore', 'boto3', 'huggingface_hub') or m.startswith('ckptkit.store.')])"
    )
    case = str(oracles.golden("hf_bert") / "safetensors")
    done = subprocess.run([sys.executable, "-c", code, case], capture_output=True, text=True, cwd=oracles.ROOT, check=True)
    assert set(ast.literal_eval(done.stdout)) == {"ckptkit.store.paths", "ckptkit.store.files", "ckptkit.store.local_blob"}


