"""Runs whose processes something else starts: shares by the environment, workers that are killed, the files for clusters, bad input."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
import yaml
from commands import run
from safetensors.numpy import save_file
from test_fleet import written

from ckptkit import fleet
from ckptkit.errors import UsageError
from ckptkit.fleet.array import Share, share_of
from ckptkit.verbs.convert import convert

BERT = oracles.made("bert-hf")
CLUSTERS = oracles.ROOT / "docs" / "clusters"


# --- which share ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "of", "share"),
    [
        ({}, None, Share(0, 1)),
        ({"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_STEP": "2"}, None,
         Share(3, 4)),
        ({"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "3"}, None, Share(2, 3)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, None, Share(0, 1)),  # a batch script, and no step of it
        ({"AWS_BATCH_JOB_ARRAY_INDEX": "0", "AWS_BATCH_JOB_ARRAY_SIZE": "2"}, None, Share(0, 2)),
        ({"SKYPILOT_NODE_RANK": "5", "SKYPILOT_NUM_NODES": "6"}, None, Share(5, 6)),
        ({"JOB_COMPLETION_INDEX": "9"}, 10, Share(9, 10)),
        ({"SKYPILOT_NODE_RANK": "1", "SKYPILOT_NUM_NODES": "6"}, 2, Share(1, 2)),
    ],
)  # fmt: skip
def test_the_share_is_what_the_scheduler_says(environment: dict[str, str], of: int | None, share: Share) -> None:
    assert share_of(environment, of) == share


@pytest.mark.parametrize(
    ("environment", "of", "message"),
    [
        ({"JOB_COMPLETION_INDEX": "9"}, None, "nothing says how many workers"),
        ({"JOB_COMPLETION_INDEX": "9"}, 9, "none of 9 workers"),
        ({"SLURM_ARRAY_TASK_ID": "x", "SLURM_ARRAY_TASK_COUNT": "4"}, None, "which is no number"),
        ({"AWS_BATCH_JOB_ARRAY_INDEX": "-1", "AWS_BATCH_JOB_ARRAY_SIZE": "4"}, None, "which is no number"),
        ({}, 4, "nothing says which of them"),
    ],
)
def test_a_share_that_is_none_is_refused(environment: dict[str, str], of: int | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        share_of(environment, of)


# --- plan, work, finish --------------------------------------------------------------------------------------------


def test_a_plan_is_worked_on_by_shares_and_finished(tmp_path: Path) -> None:
    words = ["--to", "google", "--part-size", "20000"]
    assert run("convert", BERT, tmp_path / "here", "--to", "google").returncode == 0
    planned = run("convert", BERT, "there", *words, "--plan-to", "plan.json", cwd=tmp_path)
    units = len(fleet.run_at(str(tmp_path / "plan.json")).units)
    assert planned.returncode == 0 and f"a plan of {units} units" in planned.stderr and units > 5
    early = run("finish", "plan.json", cwd=tmp_path)
    assert early.returncode == 2 and f"{units} of {units} units are not done" in early.stderr
    for rank in (1, 0):
        done = run("work", "plan.json", cwd=tmp_path, SKYPILOT_NODE_RANK=str(rank), SKYPILOT_NUM_NODES="2")
        assert done.returncode == 0, done.stderr
    assert "all units are done" in done.stderr
    assert "all units are done" in run("work", str(tmp_path / "plan.json")).stderr  # from another folder, and nothing to do
    assert not any(p.is_file() for p in (tmp_path / "there").glob("*"))
    assert run("finish", "plan.json", cwd=tmp_path).returncode == 0
    assert written(tmp_path / "there") == written(tmp_path / "here")
    for command in ("work", "finish"):
        late = run(command, "plan.json", cwd=tmp_path)
        assert late.returncode == 2 and "no run into this place is under way" in late.stderr


def test_values_that_are_lost_are_told_when_it_is_finished_and_nothing_is_left(tmp_path: Path) -> None:
    save_file({"w": np.full((100, 100), 1e30, np.float32)}, tmp_path / "model.safetensors")
    words = ["--container", "safetensors", "--dtype", "float16", "--force", "--plan-to", tmp_path / "plan.json"]
    assert run("convert", tmp_path / "model.safetensors", tmp_path / "there", *words).returncode == 0
    assert run("work", tmp_path / "plan.json").returncode == 0
    done = run("finish", tmp_path / "plan.json")
    assert done.returncode == 1 and "10,000 values too large" in done.stderr
    assert list((tmp_path / "there").iterdir()) == []


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve matrices of the least part that S3 takes."""
    folder = tmp_path_factory.mktemp("large")
    rng = np.random.default_rng(0)
    save_file({f"w{i}": rng.standard_normal((1280, 1024), np.float32) for i in range(12)}, folder / "model.safetensors")
    return folder


def test_workers_of_an_array_that_are_killed_cost_a_unit_each(large: Path, tmp_path: Path) -> None:
    """Four processes as Slurm starts them, on a store; two are killed while their second part is on its way, and started again."""
    pytest.importorskip("obstore")
    pytest.importorskip("moto")
    import servers

    doomed: dict[str, subprocess.Popen[bytes]] = {}
    named = threading.Event()  # it is said which these are
    parts: dict[str, int] = {}

    def hook(request: servers.Request) -> servers.Answer | None:
        if request.method != "PUT" or "uploadId" not in request.path:
            return None
        named.wait()
        who = re.search(r"Credential=(\w+)/", request.headers["authorization"])
        assert who is not None
        parts[who[1]] = parts.get(who[1], 0) + 1
        if parts[who[1]] == 2 and who[1] in doomed:
            doomed[who[1]].send_signal(signal.SIGKILL)
            return servers.Answer(0)
        return None

    def started(rank: int, name: str) -> subprocess.Popen[bytes]:
        env = {**os.environ, "SLURM_ARRAY_TASK_ID": str(rank), "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "0",
               "AWS_ACCESS_KEY_ID": name, "PYTHONPATH": str(oracles.ROOT)}  # fmt: skip
        command = [sys.executable, "-m", "ckptkit", "work", f"s3://{servers.BUCKET}/plan.json", "--jobs", "1"]
        return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    convert(large, tmp_path / "here", container="torch", force=True)
    with servers.s3(hook):
        url = servers.fill(large, "source")
        there = f"s3://{servers.BUCKET}/there"
        words: dict[str, Any] = {"container": "torch", "force": True, "part_size": 5 << 20}
        convert(url, there, plan_to=f"s3://{servers.BUCKET}/plan.json", **words)
        units = len(fleet.run_at(f"s3://{servers.BUCKET}/plan.json").units)
        workers = {n: started(n, f"first{n}") for n in range(4)}
        doomed.update({f"first{n}": workers[n] for n in (1, 2)})
        named.set()
        codes = [workers[n].wait(600) for n in range(4)]
        assert codes == [0, -signal.SIGKILL, -signal.SIGKILL, 0]
        for n in (1, 2):
            assert started(n, f"second{n}").wait(600) == 0
        assert run("finish", f"s3://{servers.BUCKET}/plan.json").returncode == 0
        assert units >= 12 and sum(parts.values()) == units + 2
        from ckptkit.store import open_blob, trees

        trees.forget()
        for name, content in written(tmp_path / "here").items():
            blob = open_blob(f"{there}/{name}")
            assert blob.pread(blob.size, 0) == content or not content
            blob.close()


# --- bad input -----------------------------------------------------------------------------------------------------


@pytest.fixture
def planned(tmp_path: Path) -> Iterator[Path]:
    """A folder with a source, and a plan of it that was begun."""
    save_file({"w": np.ones((100, 100), np.float32)}, tmp_path / "model.safetensors")
    words = ["--container", "safetensors", "--force", "--plan-to", tmp_path / "plan.json"]
    assert run("convert", tmp_path / "model.safetensors", tmp_path / "there", *words).returncode == 0
    yield tmp_path


def refused(*words: object, **env: str) -> str:
    """What a command says that ends with status 2: one line, with a hint."""
    done = run(*words, **env)
    assert done.returncode == 2 and done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and " Hint: " in lines[0] and lines[0].startswith("error: "), done.stderr
    return lines[0]


@pytest.mark.parametrize("command", ["work", "finish"])
def test_what_is_no_plan_is_refused(tmp_path: Path, command: str) -> None:
    assert "there is no plan" in refused(command, tmp_path / "none.json")
    assert "there is no plan" in refused(command, tmp_path)
    for text in ("", "[]", "{}", "null", '{"ckptkit_plan": 2}', "\x00" * 100, "[" * 100_000):
        (tmp_path / "plan.json").write_text(text)
        assert "is no plan of ckptkit" in refused(command, tmp_path / "plan.json")


def test_a_plan_with_a_hole_is_refused(planned: Path) -> None:
    whole = json.loads((planned / "plan.json").read_text())
    for key in (*whole, *whole["plan"]):
        said = json.loads(json.dumps(whole))
        (said if key in said else said["plan"]).pop(key)
        (planned / "plan.json").write_text(json.dumps(said))
        assert "is no plan of ckptkit" in refused("work", planned / "plan.json")


def test_a_plan_of_another_version_is_refused(planned: Path) -> None:
    whole = json.loads((planned / "plan.json").read_text())
    for key, value in (("ckptkit", "0.0.1"), ("ckptkit_plan", 99)):
        (planned / "plan.json").write_text(json.dumps({**whole, key: value}))
        assert "is a plan of ckptkit" in refused("work", planned / "plan.json")


def test_a_source_that_has_changed_is_refused(planned: Path) -> None:
    save_file({"w": np.zeros((100, 100), np.float32)}, planned / "model.safetensors")
    for command in ("work", "finish"):
        assert "has changed since the plan was made" in refused(command, planned / "plan.json")
    (planned / "model.safetensors").unlink()
    assert "was there when the plan was made" in refused("work", planned / "plan.json")


def test_a_second_run_into_the_same_place_is_refused_until_the_first_is_cleaned_away(planned: Path) -> None:
    words = ["convert", planned / "model.safetensors", planned / "there", "--container", "safetensors", "--force"]
    other = [*words, "--dtype", "float16", "--plan-to", planned / "other.json"]
    assert "another run into this place is not finished" in refused(*other)
    assert not (planned / "other.json").exists()
    assert run("clean", planned / "there", "--remove").returncode == 0
    assert run(*other).returncode == 0
    assert "is of another plan" in refused("work", planned / "plan.json")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--on", "spark"], "there is no such engine"),
        (["--on", "local:0"], "there is no such engine"),
        (["--on", "ray://host"], "there is no such engine"),
        (["--on", "local:1", "--plan-to", "plan.json"], "two ways"),
        (["--on", "local:1", "--check=reference"], "on this machine"),
        (["--part-size", "1MB"], "written in parts"),
        (["--part-size", "much", "--on", "local:1"], "not a size"),
    ],
)
def test_words_that_do_not_go_together_are_refused(tmp_path: Path, words: list[str], message: str) -> None:
    assert message in refused("convert", BERT, tmp_path / "there", "--to", "google", *words)
    assert not (tmp_path / "there").exists()


def test_an_engine_that_is_not_installed_or_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, on in (("ray", "ray"), ("distributed", "dask://127.0.0.1:9")):
        with monkeypatch.context() as m:
            m.setitem(sys.modules, name, None)
            line = refused("convert", BERT, tmp_path / "there", "--to", "google", "--on", on)
            assert "which is not installed" in line and "pip install" in line
    for name, on in (("ray", "ray://127.0.0.1:9"), ("distributed", "dask://127.0.0.1:9")):
        with monkeypatch.context() as m:
            m.setitem(sys.modules, name, _stub(name))
            m.setitem(sys.modules, "ray.exceptions", _stub("ray.exceptions"))
            assert "answers at 127.0.0.1:9" in refused("convert", BERT, tmp_path / "there", "--to", "google", "--on", on)
    assert not (tmp_path / "there").exists()


def _stub(name: str) -> Any:
    """A module that has whatever is imported from it, and does nothing."""
    import types

    module = types.ModuleType(name)
    module.__getattr__ = lambda attribute: type(attribute, (Exception,), {})  # type: ignore[method-assign]
    return module


def test_a_target_that_is_an_input_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    save_file({"w": np.ones((100, 100), np.float32)}, tmp_path / "model.safetensors")
    words = ["--force", "--overwrite", "--on", "local:1", "--container", "safetensors"]
    model = tmp_path / "model.safetensors"
    for target, message in ((model, "is an input"), (tmp_path, "holds an input")):
        assert message in refused("convert", model, target, *words)
    (tmp_path / "file").write_text("mine")
    assert "is a file" in refused("convert", model, tmp_path / "file", *words)
    assert model.stat().st_size > 40_000 and (tmp_path / "file").read_text() == "mine"


def test_what_is_made_of_a_private_file_is_private(tmp_path: Path) -> None:
    save_file({"w": np.ones((100, 100), np.float32)}, tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").chmod(0o600)
    words = ["--container", "torch", "--force", "--on", "local:1"]
    assert run("convert", tmp_path / "model.safetensors", tmp_path / "there", *words).returncode == 0
    assert {oct(p.stat().st_mode & 0o777) for p in (tmp_path / "there").iterdir()} == {"0o600"}


# --- the files for clusters ----------------------------------------------------------------------------------------


def test_the_job_of_kubernetes_says_as_many_workers_as_it_starts() -> None:
    job = yaml.safe_load((CLUSTERS / "kubernetes.yaml").read_text())
    spec = job["spec"]
    command = spec["template"]["spec"]["containers"][0]["command"]
    assert (job["kind"], spec["completionMode"]) == ("Job", "Indexed")
    assert command[:2] == ["ckptkit", "work"] and int(command[command.index("--of") + 1]) == spec["completions"] == spec["parallelism"]


def test_the_task_of_skypilot_works_on_several_machines() -> None:
    task = yaml.safe_load((CLUSTERS / "skypilot.yaml").read_text())
    assert task["num_nodes"] > 1 and task["run"].startswith("ckptkit work ")


def test_the_script_of_slurm_plans_works_and_finishes(tmp_path: Path) -> None:
    """With an sbatch that runs what it is given at once, as often as its array says."""
    subprocess.run(["bash", "-n", CLUSTERS / "slurm.sh"], check=True)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ckptkit").write_text(f'#!/bin/sh\nexec {sys.executable} -m ckptkit "$@"\n')
    (tmp_path / "bin" / "sbatch").write_text(
        "#!/bin/bash\nn=0\nwhile [ $# -gt 0 ]; do\n  case $1 in\n  --array=0-*) last=${1#--array=0-} ;;\n  --wrap) line=$2; shift ;;\n"
        "  --dependency=*) [ \"$1\" = --dependency=afterok:17 ] || exit 1 ;;\n  esac\n  shift\ndone\n"
        "if [ -z \"$last\" ]; then bash -c \"$line\" >&2; exit; fi\n"
        "for n in $(seq 0 $last); do\n  SLURM_ARRAY_TASK_ID=$n SLURM_ARRAY_TASK_COUNT=$((last + 1)) bash -c \"$line\" >&2 || exit\ndone\n"
        "echo 17\n"
    )  # fmt: skip
    for name in ("ckptkit", "sbatch"):
        (tmp_path / "bin" / name).chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(oracles.ROOT), "WORKERS": "3"}
    script = [str(CLUSTERS / "slurm.sh"), str(BERT), str(tmp_path / "there"), "--to", "google", "--part-size", "20000"]
    done = subprocess.run(["bash", *script], env=env, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert "worker 3 of 3 is done" in done.stderr
    convert(BERT, tmp_path / "here", to="google")
    assert written(tmp_path / "there") == written(tmp_path / "here")


def test_the_table_of_the_simulation_is_what_it_gives() -> None:
    """Its assumptions are numbers in it, so the page cannot say others; a few rows, for it takes a while."""
    sys.path.insert(0, str(oracles.ROOT))
    from benchmarks.fleet_simulation import ROWS, median

    text = (oracles.ROOT / "docs" / "fleet.md").read_text(encoding="utf-8")
    for name, world in ROWS:
        assert f"\n| {name} | " in text
        if name in ("1 machine", "100", "40, the store gives 12.5 GB/s"):
            o = median(world)
            assert f"\n| {name} | {o.units:,} | {o.again} | {o.seconds:,.0f} | {o.efficiency:.2f} |\n" in text
