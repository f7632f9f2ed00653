"""What a run into a store takes the place of, and the names by which it can: a checkpoint is replaced as a whole, or not at all.

Policy: shards of a checkpoint that is replaced get names that no other has, and its index, which names them, is exchanged at once; for
TensorFlow's bundles the file `checkpoint`, which names the prefix, is that index. Only what a ledger says ckptkit wrote is replaced.
Another form of several files cannot be exchanged at once: refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from .. import store
from .._typing import Any, NamedTuple
from ..containers import Part, is_index
from ..engine.replaceable import check_target
from ..errors import UsageError, printable
from ..plan.ledger import LEDGER
from ..plan.values import Plan
from ..store.interface import Tree

STATE = "checkpoint"  # TensorFlow's file that names the newest prefix


class Old(NamedTuple):
    """What is there already: nothing (`fresh`); else the tag of the index that is exchanged ("": none), and what is of no use after.
    `at_once`: the store exchanges all files at one instant. `was`: the tag of the one file of weights, which is replaced under its name."""

    fresh: bool = True
    tag: str = ""
    obsolete: tuple[str, ...] = ()
    at_once: bool = False
    was: str = ""


def old_of(said: Mapping[str, Any]) -> Old:
    """What the run found when it was begun, of its note."""
    obsolete = tuple(map(str, said["obsolete"]))
    return Old(bool(said["fresh"]), str(said["tag"]), obsolete, said.get("at_once") is True, str(said.get("was", "")))


def look_at_old(plan: Plan, tree: Tree, single: str, *, overwrite: bool) -> Old:
    """What the target's place holds. Raises UsageError where that is not to be replaced, or cannot be at once."""
    names = set(plan.names)
    _refuse_place(plan)
    if single:
        there = tree.entry(single)
        return Old(fresh=False, was=there.tag) if _may(there is not None, overwrite, plan.target) and there is not None else Old()
    names_there = tree.list().keys() - {".ckptkit", ".gitattributes"}  # which every repository of the hub has
    if not _may(bool(names_there), overwrite, plan.target):
        return Old()
    written = _written(tree)
    foreign = sorted((names_there & names) - written - {LEDGER})
    if foreign:
        what = f"holds what ckptkit has not written, and replacing it would lose that: {printable(', '.join(foreign[:6]), 300)}"
        raise UsageError(what, path=plan.target, hint="name another target")
    at = index_of(plan)
    index = plan.layout.files[at][0] if at is not None else None
    if index is None and len(plan.layout.files) > 1 and not tree.at_once:
        message = f"is replaced file by file in {plan.layout.container}: a reader could see some of both"
        raise UsageError(message, path=plan.target, hint="name another target")
    entry = tree.entry(index) if index is not None else None
    only = tree.entry(plan.layout.files[0][0]) if len(plan.layout.files) == 1 else None
    was = only.tag if only is not None else ""
    return Old(False, entry.tag if entry is not None else "", tuple(sorted(written & names_there)), tree.at_once, was)


def index_of(plan: Plan) -> int | None:
    """The file of the layout that names the others, and is exchanged last; None where there is none."""
    names = [n for n, _ in plan.layout.files]
    tf = plan.layout.container == "tf"
    return next((i for i, n in enumerate(names) if (n == STATE if tf else is_index(n))), None)


def _refuse_place(plan: Plan) -> None:
    """UsageError where the target is or holds an input, or is of another kind than what is to be written."""
    inputs = tuple(path for path, _, _ in plan.inputs)
    if not store.is_url(plan.target):
        check_target(plan.target, single=plan.single, overwrite=True, inputs=inputs)
        return
    mine = next((p for p in inputs if p == plan.target or p.startswith(plan.target.rstrip("/") + "/")), None)
    if mine is not None:
        raise UsageError(f"is or holds an input of this conversion ({mine})", path=plan.target, hint="name another target")


def _may(there: bool, overwrite: bool, target: str) -> bool:
    """Whether something is there; UsageError where it must not be."""
    if there and not overwrite:
        raise UsageError("exists", path=target, hint="--overwrite replaces it, or name another target")
    return there


def _written(tree: Tree) -> set[str]:
    """The names that the ledger says ckptkit wrote."""
    entry = tree.entry(LEDGER)
    if entry is None or not 0 <= entry.size < 64 << 20:
        return set()
    try:
        said = json.loads(tree.blob(LEDGER).pread(entry.size, 0))
        files = said["target"]["files"]
    except (ValueError, KeyError, TypeError):
        return set()
    return {n for n in files if isinstance(n, str)} if isinstance(files, list) else set()


def in_new_names(plan: Plan, old: Old, mark: str) -> Plan:
    """The plan whose shards have names of their own, where it takes the place of another checkpoint: in the layout, index and ledger."""
    index = index_of(plan)
    if old.fresh or old.at_once or index is None:
        return plan
    names = [n for i, (n, _) in enumerate(plan.layout.files) if i != index]
    prefix = next((n.removesuffix(".index") for n in names if n.endswith(".index")), "") if plan.layout.container == "tf" else ""
    new = {n: f"{prefix}-{mark[:8]}{n[len(prefix) :]}" if prefix else _marked(n, mark[:8]) for n in names}
    parts, size = [], -1
    for p in plan.layout.parts:
        if p.file == index and prefix:
            p = Part(index, 0, p.data.replace(prefix.encode(), f"{prefix}-{mark[:8]}".encode()))
            size = len(p.data)
        elif p.file == index:
            said = json.loads(p.data)
            said["weight_map"] = {t: new.get(n, n) for t, n in said["weight_map"].items()}
            p = Part(index, 0, (json.dumps(said, indent=2) + "\n").encode())
            size = len(p.data)
        parts.append(p)
    files = tuple((n, size) if i == index else (new[n], s) for i, (n, s) in enumerate(plan.layout.files))
    texts = tuple((n, _ledger(t, new) if n == LEDGER else t) for n, t in plan.texts)
    return plan._replace(layout=plan.layout._replace(files=files, parts=tuple(parts)), texts=texts)


def _marked(name: str, mark: str) -> str:
    """`model-00001-of-00003.safetensors` as `model-MARK-00001-of-00003.safetensors`."""
    made = re.sub(r"-(\d+-of-\d+\.)", rf"-{mark}-\1", name, count=1)
    return made if made != name else f"{mark}-{name}"


def _ledger(text: str, new: dict[str, str]) -> str:
    try:
        said = json.loads(text)
        said["target"]["files"] = [new.get(n, n) for n in said["target"]["files"]]
    except (ValueError, KeyError, TypeError):
        return text
    return json.dumps(said, indent=1, ensure_ascii=False) + "\n"
