"""Weights in MXFP4 that get the parts that another naming has of them, bit for bit: gpt-oss' blocks and scales (transformers'
and the original files'), and ggml's blocks.

Policy: a code and the scale of its group go along as one number, code + 16 * scale, so that whatever joins, parts and turns weights does so
with packed ones; the target's parts are cut out of these numbers again. Nothing is decoded and nothing rounded. What is joined of a packed
and a plain tensor is refused.
"""

from __future__ import annotations

from ..errors import UnsupportedError
from .arrange import Weights
from .target import Request
from .values import Encode
from .with_codes import CODES, packing_of


def repacked(weights: Weights, request: Request) -> Weights:
    """`weights` with the parts of what is packed in the place of each. UnsupportedError where a tensor is packed in part only."""
    blocks = request.container.NAME == "gguf"
    packing = packing_of(request.dialect, request.container.NAME)
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
