"""A plan on workers that are processes of their own: the same bytes, whoever does it, and a worker's death costs its unit."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
from fleet_workers import Deadly, counted, told
from safetensors.numpy import save_file

from ckptkit import fleet
from ckptkit.containers import containers
from ckptkit.errors import CheckpointError
from ckptkit.fleet.run import known
from ckptkit.fleet.units import LARGE_UNIT, MOST_PARTS, UNIT, size_for
from ckptkit.plan.values import Plan
from ckptkit.store.local import LocalTree
from ckptkit.store.reaching import is_r2
from ckptkit.verbs.convert import convert

SMALL = 100_000  # bytes of a unit


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five matrices, one of them many units long."""
    folder = tmp_path_factory.mktemp("source")
    rng = np.random.default_rng(0)
    shapes = [(200, 150), (200, 150), (900, 300), (200, 150), (7,)]
    save_file({f"w{i}": rng.standard_normal(s, np.float32) for i, s in enumerate(shapes)}, folder / "model.safetensors")
    return folder


def written(folder: Path) -> dict[str, bytes]:
    """What lies in a folder; of the ledger only that it is there, for it holds times."""
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    return {n: b"" if n == "ckptkit-ledger.json" else p.read_bytes() for n, p in files.items()}


def plan_of(source: Path, target: Path, **words: Any) -> Plan:
    return convert(source, target, dry_run=True, **words).plan


# --- cutting -------------------------------------------------------------------------------------------------------


BERT, LLAMA, GPT = "made/bert-hf", "forms/llama_whole", "golden/gpt1_npy/model"
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "safetensors": (BERT, {"container": "safetensors"}),
    "shards": (BERT, {"container": "safetensors", "max_shard_size": 60_000}),
    "cast": (BERT, {"container": "torch", "dtype": "float16"}),
    "torch": (BERT, {"container": "torch"}),
    "torch-shards": (BERT, {"container": "torch", "max_shard_size": 60_000}),
    "npz": (BERT, {"container": "npz"}),
    "hdf5": (BERT, {"container": "hdf5"}),
    "keras": ("faults/head-behind-lstm/model.keras", {"container": "keras", "force": True}),
    "flax": (BERT, {"container": "flax"}),
    "gguf": (BERT, {"container": "gguf"}),
    "dcp": (BERT, {"container": "dcp", "max_shard_size": 60_000}),
    "orbax": (BERT, {"container": "orbax"}),
    "tf": (BERT, {"to": "google"}),
    "openai-npy": (GPT, {"container": "openai-npy"}),
    "consolidated": (LLAMA, {"to": "meta", "tp": 2}),
    "megatron": (LLAMA, {"to": "megatron", "tp": 2, "pp": 2}),
    "quantized": (LLAMA, {"container": "gguf", "quantize": "q8_0"}),
    "decoded": ("forms/quant_ct_pack4_tensor", {"container": "torch", "dequantize": True, "force": True}),
}


@pytest.mark.parametrize("form", FORMS)
def test_units_done_one_by_one_are_byte_for_byte_what_one_process_writes(form: str, tmp_path: Path) -> None:
    """With units far smaller than the tensors, so that tensors with checksums are cut, descriptors are parted from their tensors, and
    directories wait."""
    name, words = FORMS[form]
    source = oracles.FIXTURES / name
    convert(source, tmp_path / "here", **words)
    run = fleet.begin(plan_of(source, tmp_path / "there", **words), unit=2_000)
    receipts: dict[str, fleet.Receipt] = {}
    for u in run.units:
        receipts[u.name] = fleet.do(run, u)
    assert len(run.units) >= 5 and all(r.tag for r in receipts.values())
    fleet.commit(run, receipts)
    assert written(tmp_path / "there") == written(tmp_path / "here")


@pytest.mark.parametrize("form", ["safetensors", "cast", "torch", "npz", "gguf", "tf", "quantized", "decoded"])
def test_a_store_that_takes_parts_of_one_size_gets_them_and_the_same_bytes(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalTree, "equal_parts", True)
    name, words = FORMS[form]
    source = oracles.FIXTURES / name
    convert(source, tmp_path / "here", **words)
    run = fleet.begin(plan_of(source, tmp_path / "there", **words), unit=2_000)
    for file in {u.file for u in run.units}:
        sizes = [u.stop - u.start for u in run.units if u.file == file]
        assert set(sizes[:-1]) <= {2_048} and sizes[-1] <= 2_048
    receipts: dict[str, fleet.Receipt] = {}
    for u in run.units:
        receipts[u.name] = fleet.do(run, u)
    fleet.commit(run, receipts)
    assert written(tmp_path / "there") == written(tmp_path / "here")


def test_r2_is_known_by_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_r2()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://0123abcd.r2.cloudflarestorage.com")
    assert is_r2()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://example.com/.r2.cloudflarestorage.com")
    assert not is_r2()


def test_every_format_that_is_written_is_cut_above() -> None:
    """But the one of a single array."""
    known = {words.get("container", name) for name, (_, words) in FORMS.items()}
    assert {n for n, c in containers().items() if c.WRITABLE} - known == {"npy"}


@pytest.mark.parametrize(("total", "unit"), [(10**9, UNIT), (500 << 30, 102 << 20), (1_400_000_000_000, LARGE_UNIT)])
def test_a_large_target_has_larger_units(source: Path, tmp_path: Path, total: int, unit: int) -> None:
    plan = plan_of(source, tmp_path / "there", container="safetensors", force=True)
    assert size_for(plan._replace(layout=plan.layout._replace(files=(("a", total),)))) == unit


def test_no_object_has_more_parts_than_a_store_takes(source: Path, tmp_path: Path) -> None:
    """Tensors a little over half a unit are the worst: each is a unit of its own."""
    folder = tmp_path / "source"
    folder.mkdir()
    save_file({f"w{i:05}": np.zeros(30, np.float32) for i in range(MOST_PARTS + 2_000)}, folder / "model.safetensors")
    units = fleet.cut(plan_of(folder, tmp_path / "there", container="safetensors", force=True), 70, 1)
    assert len(units) <= MOST_PARTS


def test_a_unit_waits_only_for_those_whose_checksums_it_holds(source: Path, tmp_path: Path) -> None:
    def waits(container: str) -> dict[str, tuple[str, ...]]:
        units = fleet.cut(plan_of(source, tmp_path / "there", container=container, force=True), SMALL, 1)
        return {u.name: u.waits for u in units if u.waits}

    assert waits("safetensors") == {} and waits("hdf5") == {}
    torch = waits("torch")
    directory = torch.popitem()
    assert len(directory[1]) > 10 and len(torch) == 1  # the one tensor that was cut has its descriptor behind its last piece
    last, pieces = torch.popitem()
    assert [int(p[2:]) for p in pieces] == list(range(int(last[2:]) - len(pieces), int(last[2:])))


def test_what_travels_of_a_unit_is_small(tmp_path: Path) -> None:
    """A unit, and its receipt, of a model with 700 tensors in units of a few tensors each: the issue allows 4 KB."""
    folder = tmp_path / "source"
    folder.mkdir()
    names = [f"model.layers.{i}.block_sparse_moe.experts.{j}.w{k}.weight" for i in range(20) for j in range(11) for k in (1, 2, 3)]
    save_file({n: np.ones((40, 100), np.float32) for n in names}, folder / "model.safetensors")
    run = fleet.begin(plan_of(folder, tmp_path / "there", container="torch", force=True), unit=8 * 16_000)
    with known(run) as do:
        sent = [len(pickle.dumps((do, u))) for u in run.units]
    told = [len(pickle.dumps(fleet.do(run, u))) for u in run.units[:5]]
    assert max(sent[:-1]) + max(told) < 4096 and sent[-1] < 4096  # the last, the directory, waits for 80 others


# --- processes -----------------------------------------------------------------------------------------------------


class Fatal:
    """An executor whose second unit kills its worker."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self.pool, self.given = pool, 0

    def submit(self, fn: Any, /, *args: Any) -> Any:
        self.given += 1
        return self.pool.submit(os._exit, 9) if self.given == 2 else self.pool.submit(fn, *args)


@pytest.mark.parametrize("container", ["torch", "safetensors"])
def test_an_executor_writes_the_bytes_that_one_process_writes_and_what_it_left_is_taken_up(
    source: Path, tmp_path: Path, container: str
) -> None:
    convert(source, tmp_path / "here", container=container, force=True)
    plan = plan_of(source, tmp_path / "there", container=container, force=True)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn) as pool, pytest.raises(BrokenProcessPool):
        fleet.run_on(plan, fleet.on_executor(Fatal(pool)), unit=SMALL)
    run = fleet.begin(plan, unit=SMALL)
    had = len(fleet.done(run))
    assert 1 <= had < len(run.units)
    with ProcessPoolExecutor(2, spawn) as pool:
        done = fleet.run_on(plan, fleet.on_executor(pool), unit=SMALL)
    assert written(tmp_path / "there") == written(tmp_path / "here")
    assert done.bytes_written == sum(u.stop - u.start for u in run.units) - sum(u.stop - u.start for u in run.units[:had])


def check_deaths(engine: fleet.Engine, source: Path, folder: Path, *, patient: bool = False) -> tuple[int, int, int]:
    """A conversion on an engine whose workers die at 30 % of the units: (units, pieces of work, processes)."""
    convert(source, folder / "here", container="torch", force=True)
    (folder / "log" / "told").mkdir(parents=True)
    plan = plan_of(source, folder / "there", container="torch", force=True)

    def deadly(do: Any, items: Any) -> Any:
        for receipt in engine(Deadly(do, str(folder / "log"), patient), items):
            told(folder / "log", receipt.unit)
            yield receipt

    fleet.run_on(plan, deadly, unit=SMALL)
    assert written(folder / "there") == written(folder / "here")
    return (len(fleet.cut(plan, SMALL, 1)), *counted(folder / "log"))


def test_processes_that_die_at_a_third_of_the_units_cost_a_unit_each(source: Path, tmp_path: Path) -> None:
    with fleet.engine("local:2") as engine:
        units, work, processes = check_deaths(engine, source, tmp_path)
    deaths = len([n for n in range(1, units + 1) if n % 10 in (2, 5, 8)])
    assert deaths >= 4 and work == units + deaths and processes >= deaths


def test_work_that_kills_each_process_is_an_error_and_the_rest_is_kept(source: Path, tmp_path: Path) -> None:
    plan = plan_of(source, tmp_path / "there", container="safetensors", force=True)
    with fleet.engine("local:1") as engine, pytest.raises(CheckpointError, match="a process died 4 times at the same piece of work"):
        fleet.run_on(plan, lambda do, items: engine(os._exit, [9]), unit=SMALL)
    fleet.run_on(plan, lambda do, items: map(do, items), shared=False, unit=SMALL)


def test_dask_writes_the_same_and_a_worker_that_dies_costs_a_unit(source: Path, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None) as cluster:
        cluster.adapt(minimum=2, maximum=2, interval="500ms")  # whoever runs Dask replaces its workers
        with fleet.engine(cluster.scheduler_address.replace("tcp://", "dask://")) as engine:
            units, work, processes = check_deaths(engine, source, tmp_path, patient=True)  # Dask loses results with the worker
    deaths = len([n for n in range(1, units + 1) if n % 10 in (2, 5, 8)])
    assert units + deaths <= work <= units + 2 * deaths and processes >= deaths  # one that the scheduler had sent ahead may go with it


def test_ray_writes_the_same_while_workers_die_and_a_node_goes(source: Path, tmp_path: Path) -> None:
    """Two nodes of Ray on this machine; one is removed once a third of the units are done."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    os.environ["RAY_memory_monitor_refresh_ms"] = "0"  # noqa: SIM112  of the whole machine, which others use too
    node = {"num_cpus": 1, "object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "num_cpus": 0, "node_ip_address": "127.0.0.2"})
    try:
        nodes = [cluster.add_node(**node, node_ip_address="127.0.0.2") for _ in range(2)]
        ray.init(address=cluster.address, log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(
            [str(oracles.ROOT), str(oracles.ROOT / "tests")])}})  # fmt: skip

        with fleet.engine("ray") as engine:

            def losing(do: Any, items: Any) -> Any:
                for n, receipt in enumerate(engine(do, items)):
                    if n == len(items) // 3 and len(items) > 3:
                        cluster.remove_node(nodes[0], allow_graceful=False)
                    yield receipt

            units, work, processes = check_deaths(losing, source, tmp_path)
    finally:
        ray.shutdown()
        cluster.shutdown()
    deaths = len([n for n in range(1, units + 1) if n % 10 in (2, 5, 8)])
    assert units + deaths <= work <= units + deaths + 1 and processes >= deaths  # and one for the node
