"""Trees of flax with the modules of transformers' PyTorch classes, as JAX programs keep them in Orbax.

Source: flax/linen/{linear,normalization}.py (kernel, scale, embedding; kernels are (in, out)).
"""

from __future__ import annotations

from ckptkit.schema import FLAX, Besides, Dialect, Files, Style


def flax_tree(disk: Dialect) -> Dialect:
    """The names of the same modules in a tree of flax (Orbax): matrices (in, out) are a `kernel`, norms have a `scale`, tables are an
    `embedding`; the tree's keys are joined by dots."""
    style: Style = {kind: {p: (how, *(n.replace("/", ".") for n in names)) for p, (how, *names) in of.items()} for kind, of in FLAX.items()}
    return disk._replace(
        name="flax", title="flax, transformers' modules (Orbax)", style=style, container="orbax", prefixes=("model.", ""), classes=(),
        files=Files(), besides=Besides(),
    )  # fmt: skip
