"""What of a whole pickled module goes along though it is no part of the architecture: the layers that its own class has around the model.

Policy: a class around a model has no loader but itself, and its state dict is its model's and its own layers'. So where the names stay as
they are, the others keep theirs too, with a warning; translated to another naming they have none, and are refused.
"""

from __future__ import annotations

from ..findings import Finding
from ..graph.examine import Subject
from ..schema import Dialect
from ..support.name_text import collapse, natural
from ..tensors import TensorSpec
from .arrange import Builder, whole


def carried(subject: Subject, dialect: Dialect | None) -> dict[str, str]:
    """Stored name -> the name in the target, of what goes along beside the architecture's own; {} for what is no whole module."""
    ck, r = subject.checkpoint, subject.graph.recognition
    if ck.settings is None or r is None or dialect is not r.dialect:
        return {}
    packed = {n for p in subject.graph.packings for n in p.stored}
    out: dict[str, str] = {}
    for name, (kind, what) in subject.graph.roles.items():
        if kind == "unexplained" and not what and name not in packed and name not in ck.parts and ck.tensors[name].spec.dtype != "STRING":
            target = name.removeprefix(r.wrapper)
            if target not in r.matches and target not in out.values():
                out[name] = target
    return out


def take_along(builder: Builder, dialect: Dialect, title: str) -> dict[str, str]:
    """Add these to the targets, with a finding; what `carried` gives."""
    along = carried(builder.subject, dialect)
    for name, target in along.items():
        t = builder.tensors[name]
        spec = TensorSpec(builder.dtype(target, name, t.spec.dtype), t.spec.shape)
        builder.targets.append((target, spec, (whole(builder.source(name), t),)))
        builder.moved(name, target)
        builder.came[target] = {"from": [name], "how": "copied" if spec == t.spec else "cast"}
    if along:
        names = sorted(along, key=natural)
        what = f"{len(names)} tensors of the module around {title} go along under their own names: {collapse(names, 4)}"
        builder.findings.append(Finding("warning", "carried", collapse(names, 4), what, f"a library's {title} does not load them"))
    return along
