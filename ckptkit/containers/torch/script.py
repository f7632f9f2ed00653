"""TorchScript archives (torch.jit.save): a program with its weights, of which only the weights are read.

Source: torch/csrc/jit/serialization/{export_module,pickler,import}.cpp. data.pkl describes the module as objects of classes called
`__torch__...`, whose attributes are its parameters, buffers and submodules alike; the values of tensors lie in data/N, those of the
constants that the code names in constants/N, described by constants.pkl. `torch.jit.freeze` makes constants of all parameters, whose
names are then lost. Code may be compressed, tensors are not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from ..._typing import TYPE_CHECKING, NamedTuple
from ...errors import CorruptError, UnsupportedError, printable
from ...findings import Finding
from ...limits import LIMITS
from ...support.opaque import Opaque
from .._pickle import interpreter
from .._pickle.globals import Storage, Tensor
from .state_dict import Tree, read_tree
from .views import shown, storage_key

if TYPE_CHECKING:
    from .._wire.zip_archive import Entry

Record = Callable[["Entry"], bytes]  # a small record's bytes, held against their checksum
_OWN = ("__torch__.", "torch.jit._pickle.", "torch.jit._pickle")  # what every such archive names


class Script(NamedTuple):
    """What an archive holds: its tensors, and what is to be said."""

    tree: Tree
    findings: list[Finding]


def read_script(entries: Mapping[str, Entry], root: str, record: Record, path: str) -> Script:
    """The tensors of an archive. Raises CorruptError, UnsupportedError for one that holds none, LimitError."""
    where = os.path.basename(path)
    packed = next((e.name for n, e in entries.items() if e.method and not n.startswith(root + "code/")), None)
    if packed is not None:
        raise UnsupportedError(f"entry {printable(packed)} is compressed; TorchScript stores its tensors", path=path)
    named: dict[str, object] = {}
    found: list[Finding] = []
    folders: dict[int, str] = {}  # of each storage, by its identity
    kept: list[object] = []
    for name in ("data", "constants"):
        e = entries.get(f"{root}{name}.pkl")
        if e is None:
            continue
        LIMITS.check("pickle_bytes", e.size, f"the size of {e.name}", path)
        got = interpreter.load(record(e), path=f"{path}/{e.name}")
        kept += got.storages
        folders |= {id(s): name for s in got.storages}
        opaque = tuple(n for n in got.opaque if not n.startswith(_OWN))
        found += interpreter.findings(opaque, where, got.calls, got.refused)
        named |= _attributes(got.value, "" if name == "data" else "constants", path)

    def locate(s: Storage, declared: int) -> tuple[int, int, str]:
        folder = folders.get(id(s), "data")
        key = f"{folder}/{s.key if type(s.key) is str else storage_key(s.key)}"
        e = entries.get(root + key)
        if e is None or s.view is not None:
            raise CorruptError(f"the storage {shown(s.key)} of a tensor has no record {printable(root + key, 200)}", path=path)
        if declared > e.size:
            raise CorruptError(f"storage {shown(key)} is said to have {shown(declared)} bytes; its record has {e.size:,}", path=path)
        return e.start, declared, key

    tree = read_tree(named, locate, path, len(kept))
    if not tree.tensors:
        raise UnsupportedError("is a TorchScript archive (torch.jit.save) without weights, a program alone", path=path)
    frozen = all(n.startswith("constants.") for n in tree.tensors)
    lost = "; it was frozen, which made constants of its parameters: their names are lost" if frozen else ""
    said = f"is a TorchScript archive: a program with its weights. Only the weights are read, the code is not{lost}"
    hint = "torch.save(torch.jit.load(FILE).state_dict(), NEW) gives a plain checkpoint" if not frozen else "use the module before freezing"
    found.append(Finding("warning" if frozen else "info", "program", where, said, hint))
    return Script(tree, found)


def _attributes(value: object, start: str, path: str) -> dict[str, object]:
    """The tensors of a module's description under the paths of their attributes, as its state_dict() calls them."""
    out: dict[str, object] = {}
    todo: list[tuple[str, object, tuple[int, ...]]] = [(start, value, ())]
    while todo:
        name, v, above = todo.pop()
        if len(name) > LIMITS.name_bytes:
            LIMITS.check("name_bytes", len(name), "the length of a tensor's name", path)
        if type(v) is Tensor:
            if len(out) >= LIMITS.tensors:
                LIMITS.refuse("tensors", "it has more tensors", path)
            out[name] = v
            continue
        inner = v.state if type(v) is Opaque else v
        if type(v) is Opaque and inner is None:
            inner = v.args
        items = list(inner.items() if isinstance(inner, dict) else enumerate(inner) if isinstance(inner, (list, tuple)) else ())
        if id(v) in above or not items:
            continue
        if len(above) >= LIMITS.pickle_depth:
            LIMITS.refuse("pickle_depth", "the pickle is nested deeper", path)
        below = (*above, id(v))
        held = [(f"{name}.{k}" if name else str(k), x, below) for k, x in items if type(x) in (Tensor, Opaque, dict, list, tuple)]
        todo += reversed(held)
    return out
