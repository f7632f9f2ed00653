"""The ledger of a conversion: every source tensor and where it went or why not, every target tensor and where it came from."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress

from .. import store
from .._typing import Any
from .._version import __version__
from ..findings import Finding
from ..graph.examine import Subject
from ..support.columns import compiled, weave
from ..tensors import TensorSpec
from .arrange import Stories, Weights
from .columns import specs_of
from .target import Request
from .values import Plan

LEDGER = "ckptkit-ledger.json"


class Told(Mapping[str, dict[str, object]]):
    """The tensors of one side of a ledger, each entry made when it is asked for: 40,000 of them would be a fifth of all memory."""

    def __init__(self, specs: Mapping[str, TensorSpec], stories: Stories, plain: Callable[[str], dict[str, object]]) -> None:
        self._specs, self._stories, self._plain = specs, stories, plain
        text = json.dumps(plain("%"))[:-1].split('"%"')
        self._usual = text[0], text[1]  # the JSON of a plain entry before and after its name

    def __getitem__(self, name: str) -> dict[str, object]:
        story, spec = self._stories[name], self._specs.get(name)
        entry = self._plain(name) if story is None else dict(story)
        if spec is not None:
            entry["dtype"], entry["shape"] = spec
        return entry

    def __iter__(self) -> Iterator[str]:
        yield from self._specs
        yield from (n for n in self._stories if n not in self._specs)

    def __len__(self) -> int:
        return len(self._stories)

    @property
    def unusual(self) -> dict[str, dict[str, object]]:
        """The entries of the tensors that have a story: of the others there is nothing to say."""
        return {name: self[name] for name, story in self._stories.items() if story is not None}

    def lines(self, many: int) -> list[str]:
        """Its items as JSON, `many` of them to a line, as they would be encoded one by one. What is usual is put together of a form for
        each dtype and shape: an entry that nobody looks at is not made."""
        encode, quoted = json.JSONEncoder(ensure_ascii=False).encode, json.encoder.encode_basestring
        specs, stories, before = self._specs, self._stories, self._usual[0]
        tails = {spec: f"{self._usual[1]}, {encode({'dtype': spec[0], 'shape': spec[1]})[1:]}" for spec in set(specs.values())}
        usual = many > 1 and compiled() is not None and specs.keys() == stories.keys() and set(map(type, stories.values())) == {type(None)}
        names = list(specs) if usual else list(self)
        texts = list(map(quoted, names))
        if usual:
            with suppress(UnicodeEncodeError):  # half a surrogate pair in a name
                return _woven(texts, f": {before}".encode(), list(map(tails.__getitem__, specs.values())), many)
        items = []
        for name, text, spec, story in zip(names, texts, map(specs.get, names), map(stories.__getitem__, names), strict=True):
            if story is None and spec is not None:
                items.append(f"{text}: {before}{text}{tails[spec]}")
            else:
                items.append(f"{text}: {encode(self[name])}")
        return [", ".join(items[i : i + many]) for i in range(0, len(items), many)]

    def __reduce__(self) -> tuple[object, ...]:
        return dict, (dict(self),)  # pickled as what it says


def _woven(texts: list[str], before: bytes, tails: list[str], many: int) -> list[str]:
    """The lines of entries that all say the same of their names."""
    out = []
    for i in range(0, len(texts), many):
        names = texts[i : i + many]
        out.append(weave([names, before, names, tails[i : i + many], b", "], len(names))[:-2].decode())
    return out


def unusual(entries: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
    """Those of a ledger's entries that say more than that a tensor is copied to its own name, and perhaps others."""
    return entries.unusual if isinstance(entries, Told) else entries


def ledger_text(ledger: Mapping[str, object]) -> str:
    """The ledger as JSON with a line for each tensor; above 5,000 of them one for each thousand, which takes a fifth of the time."""
    encode = json.JSONEncoder(ensure_ascii=False).encode
    source = ledger["source"]
    many = 1 if isinstance(source, dict) and len(source["tensors"]) <= 5000 else 1000

    out: list[str] = []  # joined once: at 90,000 tensors the text is of 20 MB

    def put(v: object, level: int, indent: str) -> None:
        inner = indent + " "
        between = "{\n"
        if isinstance(v, Told) and v:
            for line in v.lines(many):
                out.extend((between, inner, line))
                between = ",\n"
        elif isinstance(v, Mapping) and v and level < 2:
            for k, x in v.items():
                out.extend((between, inner, encode(k), ": "))
                put(x, level + 1, inner)
                between = ",\n"
        else:
            out.append(encode(v if not isinstance(v, Told) else {}))
            return
        out.append(f"\n{indent}}}")

    put(ledger, 0, "")
    return "".join([*out, "\n"])


def with_ledger(plan: Plan, ledger: dict[str, object]) -> Plan:
    """The plan that also writes the ledger, which lists the target's files: those that another run may later take the place of."""
    target = ledger["target"]
    assert isinstance(target, dict)
    target["files"] = sorted({*plan.names, LEDGER})
    return plan._replace(texts=(*plan.texts, (LEDGER, ledger_text(ledger))))


def make_ledger(subject: Subject, request: Request, weights: Weights, findings: Sequence[Finding]) -> dict[str, object]:
    """Every source tensor and where it went or why not, every target tensor and where it came from."""
    ck = subject.checkpoint
    parts = {t.name: t for w in subject.packings.weights.values() for t in w.parts.values()}  # of packed weights, beside these
    r = subject.graph.recognition
    held = ck.tensors | parts if parts else ck.tensors
    return {
        "ledger_version": 1,
        "ckptkit": __version__,
        "source": {
            "files": [{"name": os.path.basename(f), "bytes": store.file_size(f)} for f in ck.files],
            "container": ck.container,
            "architecture": r.architecture.name if r else None,
            "dialect": r.dialect.name if r else None,
            "tensors": Told(dict(zip(held, [t[1] for t in held.values()], strict=True)), weights.went, lambda n: {"to": [n]}),
        },
        "target": {
            "container": request.container.NAME,
            "dialect": request.dialect.name if request.dialect else (r.dialect.name if r else None),
            "tensors": Told(specs_of(weights.targets), weights.came, lambda n: {"from": [n], "how": "copied"}),
        },
        "findings": [f._asdict() for f in [*weights.findings, *findings]],
    }
