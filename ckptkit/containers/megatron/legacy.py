"""The mp_rank folders: what each rank's file holds, put together but for what tensor-parallel ranks share."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from ... import store
from ..._typing import Any, NamedTuple
from ...errors import CorruptError, UnsupportedError, printable
from ...findings import Finding
from ...limits import LIMITS
from ...tensors import Box, StoredTensor
from .._pickle.globals import Tensor
from .._pieces import Replicas
from .._ranks import AGAIN, findings_of
from ..torch.rank_file import RankFile, open_rank
from .names import EXTRA, arguments, expert_of, layer_of, mesh_of, shifted
from .places import Place, tell

_FOLDER = re.compile(r"mp_rank_([0-9]{2})(?:_([0-9]{3}))?(?:_([0-9]{3}))?")
_FILES = ("model_optim_rng.pt", "model_rng.pt")
_CHUNK = re.compile(r"model([0-9]{0,3})")
# what a rank's file may hold as data: the settings of the run, and what TransformerEngine and Megatron keep beside
KNOWN = frozenset((
    "argparse.Namespace", "_io.BytesIO", "megatron.core.enums.ModelType", "megatron.core.transformer.enums.AttnBackend",
    "megatron.core.transformer.enums.AttnMaskType", "megatron.model.enums.AttnMaskType", "megatron.core.rerun_state_machine.RerunMode",
    "megatron.core.rerun_state_machine.RerunDiagnostic", "megatron.core.rerun_state_machine.RerunState", "pathlib.PosixPath",
    "megatron.core.transformer.enums.CudaGraphScope", "signal.Signals",
))  # fmt: skip


class Ranks(NamedTuple):
    """What a folder holds: for each tensor-parallel rank its tensors under the names of the whole model; `ranks`: whose each file is;
    `known`: whether the files themselves tell."""

    tensors: tuple[Mapping[str, StoredTensor], ...]
    files: list[RankFile]
    ranks: dict[str, str]
    extras: dict[str, object]
    findings: list[Finding]
    replicas: list[Replicas]
    known: bool = True
    mesh: str = ""


def read_ranks(folder: str) -> Ranks:
    """Read the file of every rank. Raises CorruptError where one is missing, UnsupportedError for another form of file."""
    files = _open_all(folder)
    tp, pp, ep = (max(p[i] for p in files) + 1 for i in range(3))
    LIMITS.check("shards", tp * pp * ep, "the number of ranks", folder)
    labels = {f.path: _label(p, tp, pp, ep) for p, f in files.items()}
    gone = [Place(t, p, e) for t in range(tp) for p in range(pp) for e in range(ep) if Place(t, p, e) not in files]
    first = next(iter(files.values()))
    args = arguments(first.value.get("args"))
    wants = _said(args, "tensor_model_parallel_size"), _said(args, "pipeline_model_parallel_size")
    if gone or any(w > n for w, n in zip(wants, (tp, pp), strict=True)):
        place = gone[0] if gone else Place(tp, 0, 0) if wants[0] > tp else Place(0, pp, 0)
        name = next((n for n in _chunks(first)[0]), "")
        whose = _label(place, max(tp, wants[0]), max(pp, wants[1]), ep)
        text = f"the file of {whose} is missing: {printable(name)!r} and others lack its part"
        raise CorruptError(text, path=folder, hint=AGAIN)
    findings = findings_of(files.values())
    findings += _iterations(files, labels)
    told = tell(files, lambda p: _label(p, tp, pp, ep), lambda f: next((n for n in _chunks(f)[0]), ""))
    findings += told.findings
    alone = len(files) == 1
    found = Ranks(
        tuple({} for _ in range(tp)), list(files.values()), labels, {}, findings, [], told.known or alone, mesh_of(tp, pp, ep)
    )  # fmt: skip
    layers = _Layers(files, tp, pp, ep)
    for place, file in sorted(files.items()):
        _take(found, place, file, layers)
    found.extras.update({k: v for k, v in first.value.items() if type(v) in (int, float, str, bool)})
    found.extras["args"] = {k: v for k, v in args.items() if v is not None}
    optimizer = [p for p, f in files.items() if isinstance(f.value.get("optimizer"), dict)]
    if optimizer:
        text = "the optimizer's state is kept in Megatron's own order, and is not read"
        findings.append(Finding("info", "pieces", labels[files[optimizer[0]].path], text))
    return found


def _said(args: Mapping[str, object], key: str) -> int:
    value = args.get(key)
    return value if type(value) is int and 0 < value <= LIMITS.shards else 1


def _open_all(folder: str) -> dict[Place, RankFile]:
    files: dict[Place, RankFile] = {}
    for name in sorted(store.listdir(folder)):
        found = _FOLDER.fullmatch(name)
        path = next((p for f in _FILES if store.is_file(p := os.path.join(folder, name, f))), None) if found else None
        if found is None or path is None:
            continue
        file = open_rank(path, KNOWN)
        if not isinstance(file.value, dict) or not any(isinstance(v, dict) and _CHUNK.fullmatch(str(k)) for k, v in file.value.items()):
            raise UnsupportedError("holds no model as Megatron saves it", path=path)
        if "language_model" in (file.value.get("model") or {}):
            raise UnsupportedError(
                "is of the models before Megatron-core (language_model), which are not read", path=path,
                hint="tools/checkpoint/convert.py, which comes with Megatron, makes one of its core",
            )  # fmt: skip
        files[Place(int(found[1]), int(found[2] or 0), int(found[3] or 0))] = file
    if not files:
        raise CorruptError("has no rank's file", path=folder)
    return files


def _label(p: Place, tp: int, pp: int, ep: int) -> str:
    words = [f"tensor-parallel rank {p.tensor}"] if tp > 1 or (pp == 1 and ep == 1) else []
    words += [f"pipeline stage {p.stage}"] if pp > 1 else []
    words += [f"expert-parallel rank {p.expert}"] if ep > 1 else []
    return ", ".join(words)


def _iterations(files: Mapping[Place, RankFile], labels: Mapping[str, str]) -> list[Finding]:
    """An error where a rank counts another iteration than most."""
    by: dict[object, list[str]] = {}
    for f in files.values():
        count = f.value.get("iteration")
        by.setdefault(count if type(count) is int else None, []).append(labels[f.path])
    if len(by) < 2:
        return []
    usual = max(by, key=lambda k: len(by[k]))
    return [
        Finding("error", "pieces", names[0], f"{names[0]} is of iteration {count}, the others of {usual}: its tensors are not theirs",
            "copy the folder again")
        for count, names in by.items() if count != usual
    ]  # fmt: skip


def _chunks(file: RankFile) -> list[dict[str, Any]]:
    """The parts of a model that a rank holds: one, or several of interleaved stages."""
    held = sorted((int(found[1] or 0), k) for k in file.value if type(k) is str and (found := _CHUNK.fullmatch(k)))
    out = []
    for _, key in held:
        value = file.value[key]
        if not isinstance(value, dict):
            raise CorruptError(f"has a {printable(key, 40)} that is no state dict", path=file.path)
        out.append({k: t for k, t in value.items() if type(k) is str and not k.endswith(EXTRA) and t is not None})
    return out


class _Layers:
    """Where the layers of each stage and the experts of each rank begin."""

    def __init__(self, files: Mapping[Place, RankFile], tp: int, pp: int, ep: int) -> None:
        self.first: dict[tuple[int, int], int] = {}  # (stage, chunk) -> layers before it
        counts: dict[tuple[int, int], int] = {}
        experts = 0
        for p in range(pp):
            for c, chunk in enumerate(_chunks(files[Place(0, p, 0)])):
                counts[c, p] = max((layer_of(n) for n in chunk), default=-1) + 1
                experts = max([experts, *(expert_of(n) + 1 for n in chunk)])
        at = 0
        for c, p in sorted(counts):
            self.first[p, c] = at
            at += counts[c, p]
        self.experts = experts if ep > 1 else 0  # of each expert-parallel rank


def _take(found: Ranks, place: Place, file: RankFile, layers: _Layers) -> None:
    """The tensors of one rank under the names of the whole model."""
    into: Any = found.tensors[place.tensor]
    for c, chunk in enumerate(_chunks(file)):
        for name, value in chunk.items():
            if not isinstance(value, Tensor):
                continue
            whole = shifted(name, layers.first[place.stage, c], place.expert * layers.experts)
            LIMITS.check("tensors", len(into) + 1, "the number of tensors", file.path)
            t = file.tensor(whole, value)
            first = into.setdefault(whole, t)
            if first is t:
                continue
            if first.spec != t.spec or first.strides != t.strides or not first.extents:
                text = f"{found.ranks[file.path]} has {printable(whole)!r} as {t.spec.dtype} {list(t.spec.shape)}, another rank otherwise"
                found.findings.append(Finding("error", "pieces", printable(whole), text, "the files are of different models"))
                continue
            offset = (0,) * len(t.spec.shape)
            boxes = [Box(offset, t.spec.shape, x.extents[0], x.strides) for x in (first, t)]
            found.replicas.append(Replicas(whole, t.spec, *boxes))
