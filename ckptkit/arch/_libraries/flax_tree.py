"""Trees of flax with the modules of transformers' PyTorch classes, as JAX programs keep them in Orbax.

Source: flax/linen/{linear,normalization}.py (kernel, scale, embedding; kernels are (in, out)), linen/transforms.py (scan: the layers of a
stack are one array of each kind, along the axis that `variable_axes` gives, 0 or 1).
"""

from __future__ import annotations

from collections.abc import Mapping

from ckptkit.arch._libraries.transformers import turned
from ckptkit.schema import FLAX, Besides, Dialect, Files, Module, Style
from ckptkit.schema.layout import parse

_LAYERS = "layers.{layer}."


def _style() -> Style:
    return {kind: {p: (how, *(n.replace("/", ".") for n in names)) for p, (how, *names) in of.items()} for kind, of in FLAX.items()}


def flax_trees(disk: Dialect, modules: Mapping[str, Module]) -> tuple[Dialect, ...]:
    """The names of the same modules in a tree of flax (Orbax): matrices (in, out) are a `kernel`, norms have a `scale`, tables are an
    `embedding`; the tree's keys are joined by dots. The layers are apart, or scanned: joined along the second axis or the first."""
    apart = disk._replace(
        name="flax", title="flax, transformers' modules (Orbax)", style=_style(), container="orbax", prefixes=("model.", ""),
        files=Files(), besides=Besides(),
    )  # fmt: skip
    scanned = (
        apart._replace(
            name=f"flax_scanned{axis}", alias="flax_scanned", rows=_scanned(disk, modules, axis), prefixes=("decoder.", "model.", ""),
            title=f"flax, transformers' modules, layers scanned along axis {axis} (Orbax)",
        )
        for axis in (0, 1)
    )  # fmt: skip
    return apart, *scanned


def _scanned(disk: Dialect, modules: Mapping[str, Module], axis: int) -> dict[str, str | tuple[str, ...]]:
    """The rows of single modules, those of layers with the axis that counts them."""
    out: dict[str, str | tuple[str, ...]] = {}
    style = _style()
    for key, module in disk.rows.items():
        if not isinstance(module, str):
            continue
        names = [n.replace(_LAYERS, "layers.") for n in key.split(" | ")]
        if module == "embeddings.word":
            names = ["token_embedder", "model.embed_tokens", "embed_tokens"]  # beside the stack
        for suffix, text in modules[module].params:
            how, ending, *_ = style[modules[module].kind][suffix]
            layout = turned(text) if how == "transposed" else text
            if _LAYERS in key:
                dims = [f"({' '.join(d)})" for d in parse(layout).dims]
                layout = " ".join((*dims[:axis], "*{layer}", *dims[axis:]))
            out[" | ".join(n + ending for n in names)] = (f"{module}.{suffix}", layout)
    return out
