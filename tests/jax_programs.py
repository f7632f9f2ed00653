"""Programs of JAX that judge Orbax' folders, and the environments that they run in."""

from __future__ import annotations

from pathlib import Path

import oracles

RESTORE = """
import os, sys
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
import jax, numpy as np, orbax.checkpoint as ocp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
source, flat, again = sys.argv[1:]
with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as c:
    tree = c.restore(source)
out = {}
for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
    out[".".join(str(getattr(k, "key", getattr(k, "idx", k))) for k in path)] = np.asarray(leaf)
np.savez(flat, **out)
mesh = Mesh(np.array(jax.devices()).reshape(2, 2), ("x", "y"))
def cut(a):
    axes = [("x" if d % 2 == 0 else "y") if n % 2 == 0 and d < 2 else None for d, n in enumerate(a.shape)]
    return jax.device_put(a, NamedSharding(mesh, PartitionSpec(*axes)))
with ocp.StandardCheckpointer() as c:
    c.save(again, jax.tree.map(cut, tree))
"""
"""What Orbax restores of a folder (1) goes into an .npz (2) under names with dots, and is saved again (3), cut by a mesh."""

SAVE = """
import os, sys
os.environ["JAX_PLATFORMS"] = "cpu"
import numpy as np, orbax.checkpoint as ocp
tree = {}
with np.load(sys.argv[1]) as f:
    for name in f.files:
        at = tree
        *path, last = ("params", *name.split("-"))
        for key in path:
            at = at.setdefault(key, {})
        at[last] = f[name]
with ocp.StandardCheckpointer() as c:
    c.save(sys.argv[2], tree)
"""
"""Arrays of an .npz (1), named with dashes, are saved by Orbax (2) as a tree below `params`."""


def orbax() -> Path:
    """The interpreter that has Orbax."""
    return oracles.environment("orbax", "orbax-checkpoint==0.12.8", "jax==0.10.2")


def maxtext() -> Path:
    """The interpreter that has MaxText's code, whose package is for newer ones, and what that needs of JAX."""
    return oracles.environment(
        "maxtext", "--ignore-requires-python", "--no-deps", "maxtext==0.2.5", "jax==0.10.2", "jaxlib==0.10.2", "numpy==2.4.0",
        "ml-dtypes==0.6.0", "opt-einsum==3.4.0", "scipy==1.17.0",
    )  # fmt: skip
