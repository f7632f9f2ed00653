"""A Plan is pure data: carried as JSON text to another process it writes the same bytes; and --dry-run tells all of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from oracles import golden

from ckptkit import convert
from ckptkit.containers import by_name
from ckptkit.engine.run import run
from ckptkit.errors import UnsupportedError
from ckptkit.plan.values import from_json, to_json

RUN = """
import json, sys
from ckptkit.containers import by_name
from ckptkit.engine.run import run
from ckptkit.plan.values import from_json
plan = from_json(json.load(sys.stdin))
run(plan, compute_finish=by_name(plan.layout.container).finish)
"""

CASES = [
    ("bert_tf", {"to": "hf"}),
    ("bert_tf", {"to": "hf", "container": "torch"}),
    ("bert_tf_optim", {"container": "tf"}),
    ("hf_bert", {"to": "google"}),
    ("hf_bert", {"container": "torch", "dtypes": (("*embeddings*", "BF16"),), "max_shard_size": 100_000}),
]


def source(name: str) -> Path:
    return golden(name) / "safetensors" if name == "hf_bert" else golden(name)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(("name", "options"), CASES, ids=lambda v: "-".join(map(str, v.values())) if isinstance(v, dict) else v)
def test_a_plan_survives_json_and_runs_elsewhere(tmp_path: Path, name: str, options: dict[str, object]) -> None:
    target = tmp_path / "out"
    plan = convert(source(name), target, dry_run=True, **options).plan  # type: ignore[arg-type]
    text = json.dumps(to_json(plan))
    assert json.dumps(to_json(from_json(json.loads(text)))) == text
    assert from_json(json.loads(text)).tasks == plan.tasks
    assert not target.exists()
    subprocess.run([sys.executable, "-c", RUN], input=text, text=True, check=True, timeout=120)
    there = files(target)
    convert(source(name), target, overwrite=True, **options)  # type: ignore[arg-type]
    assert there == files(target)


def test_a_dry_run_tells_what_goes_where(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ckptkit", "convert", source("bert_tf_optim"), tmp_path / "out", "--to", "hf", "--dtype",
            "*word_embeddings*=bfloat16", "--dry-run"],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    rows = {line.split("  ")[0]: line.split()[-3:] for line in done.stdout.splitlines()}
    assert {
        "model.safetensors",
        "config.json",
        "ckptkit-ledger.json",
        "copied",
        "re-laid",
        "cast",
        "dropped: optimizer state",
    } <= rows.keys()
    assert rows["cast"][0] == "1"
    assert "reads" in done.stdout and "writes" in done.stdout and not (tmp_path / "out").exists()


def test_a_plan_of_another_version_is_refused(tmp_path: Path) -> None:
    data = to_json(convert(source("bert_tf"), tmp_path / "out", dry_run=True, to="hf").plan)
    with pytest.raises(UnsupportedError, match=r"the plan is of version 1, .*plan again"):
        run(from_json({**data, "version": 1}), compute_finish=by_name("safetensors").finish)
