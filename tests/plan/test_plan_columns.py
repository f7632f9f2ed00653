"""Plans by columns are, to whoever looks, the plans of an object for each tensor: as values, as text, as JSON, pickled, and carried out."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ckptkit.containers import Slot, Slots
from ckptkit.engine import copies
from ckptkit.engine import run as engine
from ckptkit.engine.copies import Copies, runs_of
from ckptkit.engine.journal import fingerprint
from ckptkit.engine.output import finisher
from ckptkit.engine.run import run
from ckptkit.engine.worker import Worker
from ckptkit.plan.columns import Sources, Targets, Tasks, said
from ckptkit.plan.values import Piece, Plan, Source, Task, from_json, to_json
from ckptkit.schema.loops import Loop
from ckptkit.tensors import Extent, TensorSpec
from ckptkit.verbs.convert import convert

KINDS = (("f4", (3, 2)), ("i8", ()), ("f2", (5,)), ("f4", (1, 1)))


def arrays(count: int) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    made = ((f"b{n * 7 % count}.w", KINDS[n % len(KINDS)]) for n in range(count))
    return {name: (np.arange(int(np.prod(s, dtype=int))) + n).astype(d).reshape(s) for n, (name, (d, s)) in enumerate(made)}


def planned(folder: Path, container: str, **words: object) -> Plan:
    (folder / "source").mkdir(parents=True)
    save_file(arrays(300), str(folder / "source" / "model.safetensors"))
    return convert(folder / "source", folder / "out", container=container, dry_run=True, **words).plan  # type: ignore[arg-type]


def as_objects(plan: Plan) -> Plan:
    """The same plan with an object for each tensor."""
    return plan._replace(sources=tuple(plan.sources), tasks=tuple(plan.tasks), layout=plan.layout._replace(slots=dict(plan.layout.slots)))


def test_what_is_looked_at_is_made_of_the_columns() -> None:
    specs = [TensorSpec("F32", (2, 3)), TensorSpec("F32", ()), TensorSpec("I8", (5,))]
    slots = Slots(["c", "a", "b"], [0, 0, 1], [0, 8, 16], [5, 24, 4])
    tasks = Tasks(Targets(["a", "b", "c"], specs), slots)
    want = (
        Task("a", Slot(0, 8, 24), "F32", (2, 3), (Piece(0, (Loop(6, 1, 1),)),)),
        Task("b", Slot(1, 16, 4), "F32", (), (Piece(1, ()),)),
        Task("c", Slot(0, 0, 5), "I8", (5,), (Piece(2, (Loop(5, 1, 1),)),)),
    )
    assert tasks == want and want == tasks and tuple(tasks) == want and repr(tasks) == repr(want) and len(tasks) == 3
    assert [type(x) for x in (tasks[0], tasks[0].slot, tasks[0].pieces[0])] == [Task, Slot, Piece]
    assert tasks[-1] == want[2] and tasks[1:] == want[1:] and tasks[::-2] == want[::-2] and tasks != want[:2] and tasks != [*want]
    with pytest.raises(IndexError):
        tasks[3]
    sources = Sources(["x", "y"], ["F32", "I8"], ["/p", "/q"], [8, 0], [24, 5])
    assert sources == (Source("x", "F32", (Extent("/p", 8, 24),)), Source("y", "I8", (Extent("/q", 0, 5),)))
    assert dict(slots) == {"c": Slot(0, 0, 5), "a": Slot(0, 8, 24), "b": Slot(1, 16, 4)} == slots and repr(slots) == repr(dict(slots))
    assert tasks.fill(slots) and not tasks.fill(dict(slots))
    for wrong in (Slots(["c", "a", "b"], [0, 0, 1], [0, 8, 17], [5, 24, 4]), Slots(["c", "a", "d"], [0, 0, 1], [0, 8, 16], [5, 24, 4])):
        assert not tasks.fill(wrong)


@pytest.mark.parametrize("container", ["safetensors", "torch", "tf", "npz"])
def test_a_plan_by_columns_is_the_plan_of_objects(tmp_path: Path, container: str) -> None:
    plan = planned(tmp_path, container, max_shard_size=2000 if container in ("safetensors", "torch") else None)
    whole = as_objects(plan)
    assert plan == whole and whole == plan and repr(plan) == repr(whole)
    text = json.dumps(to_json(plan))
    assert text == json.dumps(to_json(whole)) and from_json(json.loads(text)) == plan
    for other in (whole, from_json(json.loads(text)), pickle.loads(pickle.dumps(plan))):
        assert other == plan and said(other.tasks) == said(plan.tasks) and said(other.sources) == said(plan.sources)
        assert fingerprint(other, "crc32", "error") == fingerprint(plan, "crc32", "error")
    first = plan.sources[0]
    changed = plan._replace(sources=(first._replace(extents=(first.extents[0]._replace(offset=9),)), *plan.sources[1:]))
    assert fingerprint(changed, "crc32", "error") != fingerprint(plan, "crc32", "error")
    found, other = runs_of(plan), runs_of(whole)
    assert found is not None and other is not None and [list(c) for c in found] == [list(c) for c in other]


@pytest.mark.parametrize("container", ["safetensors", "torch", "tf"])
def test_both_are_carried_out_to_the_same_bytes(tmp_path: Path, container: str) -> None:
    from ckptkit.containers import by_name

    plan, files = planned(tmp_path, container), {}
    finish = finisher(by_name(container))
    turned = as_objects(plan)._replace(tasks=tuple(reversed(tuple(plan.tasks))))
    for name, some in (("columns", plan), ("objects", as_objects(plan)), ("turned", turned)):
        run(some._replace(target=str(tmp_path / name)), compute_finish=finish)
        files[name] = {p.name: p.read_bytes() for p in (tmp_path / name).iterdir()}
    assert files["columns"] == files["objects"] == files["turned"]
    if container == "safetensors":
        have, want = load_file(str(tmp_path / "columns" / "model.safetensors")), arrays(300)
        told = [{n: (a.dtype, a.shape, a.tobytes()) for n, a in side.items()} for side in (have, want)]
        assert told[0] == told[1]


def content(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.mark.parametrize("shards", [None, 1200])
@pytest.mark.parametrize("plainly", [False, True])
def test_what_stands_behind_tensors_is_written_with_them_and_taken_up_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plainly: bool, shards: int | None
) -> None:
    import torch

    from ckptkit.containers import by_name

    container, plan = by_name("torch"), planned(tmp_path, "torch", max_shard_size=shards)
    finish = finisher(container)
    apart = run(plan._replace(target=str(tmp_path / "apart")), compute_finish=container.finish)  # tensors first, and the rest later
    monkeypatch.setattr(copies, "CHUNK", 700)  # many jobs
    monkeypatch.setattr(engine, "MANY", 1)  # with a journal
    whole = run(plan._replace(target=str(tmp_path / "whole")), compute_finish=finish)
    assert content(tmp_path / "whole") == content(tmp_path / "apart")
    assert whole.bytes_written == sum(map(len, content(tmp_path / "whole").values())) <= apart.bytes_written  # each byte once
    pid = os.fork()
    if pid == 0:
        do, left = Worker.do, [5]

        def few(self: Worker, job: Copies) -> None:
            if not left[0]:
                os._exit(9)
            left[0] -= 1
            do(self, job)

        Worker.do = few  # type: ignore[method-assign,assignment]
        run(plan, jobs=1, compute_finish=container.finish if plainly else finish)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    done: list[object] = []
    monkeypatch.setattr(Worker, "do", lambda self, job, do=Worker.do: (done.append(job), do(self, job)))
    again = run(plan, compute_finish=finish)
    assert content(tmp_path / "out") == content(tmp_path / "whole") and again.bytes_written == whole.bytes_written
    jobs = len(copies.gathered(runs_of(plan), copies.borders(runs_of(plan))))  # type: ignore[arg-type]
    assert jobs > 10 and len(done) == (jobs if plainly else jobs - 5)
    held: dict[str, torch.Tensor] = {}
    for path in sorted((tmp_path / "out").glob("*.bin")):
        held |= torch.load(path, weights_only=True)
    want = arrays(300)
    assert held.keys() == want.keys() and all(held[n].numpy().tobytes() == a.tobytes() for n, a in want.items())
