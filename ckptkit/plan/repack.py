"""Weights in MXFP4 that get the parts that another naming has of them, bit for bit: gpt-oss' blocks and scales, and ggml's blocks.

Policy: a code and the scale of its group go along as one number, code + 16 * scale, so that whatever joins, parts and turns weights does so
with packed ones; the target's parts are cut out of these numbers again. Nothing is decoded and nothing rounded. What is joined of a packed
and a plain tensor is refused.
"""

from __future__ import annotations

from collections.abc import Mapping

from .._typing import TYPE_CHECKING, cast
from ..errors import UnsupportedError
from ..packing import Form, Quantizer, by_name
from ..schema import Architecture, Dialect, Table
from .values import Encode

if TYPE_CHECKING:
    from ..graph.examine import Subject
    from .arrange import Weights
    from .target import Request

CODES = "codes_too"  # the option and the setting of packings by which a code goes along with its scale
BLOCKS, PARTS = "ggml", "mxfp4-experts"


def with_codes(form: Form) -> Form:
    """The form whose elements are codes with their scales."""
    return form._replace(options={**form.options, CODES: True})


def packed_table(arch: Architecture, dialect: Dialect) -> Table:
    """The rows of a dialect, those that it packs with the layout that they have then."""
    rows = {k: (*v[:-1], dialect.packed[k]) if k in dialect.packed and isinstance(v, tuple) else v for k, v in dialect.rows.items()}
    return Table(arch, dialect._replace(rows=rows)) if dialect.packed else arch.table(dialect.name)


def words_of(request: Request) -> Mapping[str, object]:
    """What the target's configuration has to say of it."""
    return {} if request.container.NAME == "gguf" else cast(Quantizer, by_name(PARTS)).words({})


def repacked(weights: Weights, subject: Subject, request: Request) -> Weights:
    """`weights` with the parts of what is packed in the place of each. UnsupportedError where a tensor is packed in part only."""
    blocks = request.container.NAME == "gguf"
    packing = cast(Quantizer, by_name(BLOCKS if blocks else PARTS))
    settings: dict[str, int | str | bool] = {CODES: True, **({"type": "MXFP4"} if blocks else {})}
    targets = []
    came, encodes = dict(weights.came), dict(weights.encodes)
    for name, spec, pieces in weights.targets:
        held = {weights.sources[p.source].packed is not None for p in pieces if p.source >= 0}
        if True not in held:
            targets.append((name, spec, pieces))
            continue
        if False in held or any(p.op != "copy" for p in pieces):
            raise UnsupportedError(f"{name} joins weights that are packed and others", hint="--dequantize decodes them")
        story = came.pop(name)
        for role, part in packing.encoded(spec.shape, "F32", settings).items():
            stored = name + packing.PARTS[role][1:]
            targets.append((stored, part, pieces))
            encodes[stored] = Encode(packing.NAME, role, "F32", spec.shape, dict(settings))
            came[stored] = {**(story or {"from": [name]}), "how": f"repacked, bit for bit (mxfp4, {role})"}
    return weights._replace(targets=tuple(targets), came=came, encodes=encodes)
