"""Weights that are stored in several tensors: quantised numbers with their scales beside. Told by their names, never decoded here.

Policy: a number without its scale is another number. As long as nothing decodes a packing, whatever would take the numbers for the
weights is refused, and names the packing; moving all of its parts, bit for bit and under their own names, is harmless. The families are
told by exact last components, and only where the tensor that they belong to is there too.

Sources: transformers/quantizers (fp8 `weight_scale_inv`, compressed-tensors, GPTQ and AWQ `qweight`, bitsandbytes `quant_state` and
`SCB`, MXFP4 `_blocks` and `_scales`, HQQ `W_q`, Quanto `_data` and `_scale`, EETQ `weight_scales`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from .._typing import NamedTuple
from ..errors import UnsupportedError
from ..schema.templates import may_end
from ..support.name_text import collapse, natural


class Family(NamedTuple):
    """A way of packing: what it is called, the last component of the numbers, and those of what must or may lie beside."""

    name: str
    numbers: str
    needs: tuple[str, ...]
    may: tuple[str, ...] = ()


FAMILIES = (
    Family("GPTQ or AWQ", ".qweight", (".scales",), (".qzeros", ".g_idx")),
    Family("compressed-tensors", ".weight_packed", (".weight_scale",), (
        ".weight_shape", ".weight_zero_point", ".weight_g_idx", ".weight_global_scale", ".input_global_scale", ".input_scale",
    )),
    Family("FP8 by blocks", ".weight", (".weight_scale_inv",), (".input_scale", ".activation_scale")),
    Family("scaled numbers", ".weight", (".weight_scale",), (
        ".weight_zero_point", ".weight_scale_2", ".input_scale", ".input_zero_point", ".output_scale",
    )),
    Family("EETQ", ".weight", (".weight_scales",)),
    Family("bitsandbytes int8", ".weight", (".SCB",), (".weight_format",)),
    Family("bitsandbytes 4-bit", ".weight", (".weight.absmax", ".weight.quant_map"), (
        ".weight.nested_absmax", ".weight.nested_quant_map", ".weight.quant_state.bitsandbytes__nf4",
        ".weight.quant_state.bitsandbytes__fp4",
    )),
    Family("HQQ", ".W_q", (".scale", ".zero"), (".meta",)),
    Family("Quanto", ".weight._data", (".weight._scale",), (".weight._shift", ".input_scale", ".output_scale")),
    Family("MXFP4", "_blocks", ("_scales",)),
    Family("scaled numbers", "_weight", ("_weight_scale_inv",)),
    Family("scaled numbers", ".kernel", (".kernel_scale",)),
)  # fmt: skip


_SIGNS = tuple(n for f in FAMILIES for n in f.needs)


class Packing(NamedTuple):
    """One weight in several stored tensors: its family, the numbers, and what lies beside them by component."""

    family: str
    numbers: str
    beside: Mapping[str, str]

    @property
    def stored(self) -> tuple[str, ...]:
        return (self.numbers, *self.beside.values())


def may_be_packed(names: Iterable[str]) -> bool:
    """Whether some name may end as a part of a packed weight does: sooner said of 90,000 names than which."""
    return may_end(names, _SIGNS)


def packings(names: Iterable[str]) -> list[Packing]:
    """The weights that are stored so, by the names of a checkpoint's tensors."""
    have = set(names)
    if not any(n.endswith(_SIGNS) for n in have):
        return []
    out = []
    taken: set[str] = set()
    for family in FAMILIES:
        for name in have:
            if not name.endswith(family.numbers) or name in taken:
                continue
            stem = name[: len(name) - len(family.numbers)]
            if not stem or not all(stem + n in have for n in family.needs):
                continue
            beside = {part: stem + part for part in (*family.needs, *family.may) if stem + part in have}
            taken.update((name, *beside.values()))
            out.append(Packing(family.name, name, beside))
    return sorted(out, key=lambda p: natural(p.numbers))


def words(found: Sequence[Packing]) -> str:
    """Packings in a message: "72 weights are quantised with scales beside (FP8 by blocks: ...weight with ...weight_scale_inv, ...)"."""
    first = found[0]
    families = " and ".join(dict.fromkeys(p.family for p in found))
    beside = next(iter(first.beside.values()))
    are = "s are" if len(found) != 1 else " is"
    such = f"{first.numbers} with {beside}{', ...' if len(found) > 1 else ''}"
    return f"{len(found)} weight{are} quantised with scales beside ({families}: {such})"


def refuse_packed(found: Sequence[Packing], path: str, what: str) -> None:
    """Raise UnsupportedError where weights are packed that `what` ("converting to another naming") would take for plain numbers."""
    if found:
        raise UnsupportedError(
            f"{words(found)}: {what} would take the numbers without their scales",
            path=path,
            hint=f"dequantise it with the library that made it; not decoded here yet: {collapse([p.numbers for p in found], 3)}",
        )
