"""Probe inputs: made ones, or a file's, which is held against the model before it runs."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

from ...errors import UsageError
from ..spec import Spec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[np.generic]]

LENGTH = 24
SEED = 20
DUE = "an .npz file with input_ids [batch, position] and what goes with them"
BESIDE = ("attention_mask", "global_attention_mask", "token_type_ids", "position_ids", "decoder_input_ids", "decoder_attention_mask")


def make_probes(spec: Spec, probes: str | int) -> Arrays:
    """Token ids of every kind with padding and segments as the model takes them; or those of an .npz file. UsageError where they do not
    fit the model."""
    import numpy as np

    if isinstance(probes, str):
        return read_probes(spec, probes)
    if probes < 1:
        raise UsageError(f"--probes {probes}: at least one is needed")
    rng = np.random.default_rng(SEED)
    length = longest(spec, LENGTH)
    low = min(spec.sizes["vocab"] - 1, 5)
    ids = rng.integers(low, spec.sizes["vocab"], (probes, length))
    mask = np.ones((probes, length), np.int64)
    two = bool(spec.traits.encoder and spec.traits.decoder and spec.has("decoder"))
    if spec.traits.encoder:
        for row in range(1, probes):  # the first has no padding
            mask[row, rng.integers(length // 2, length + 1) :] = 0
    pad = int(str(spec.traits.pad)) if spec.traits.positions == "counted" else 0
    out: Arrays = {"input_ids": np.where(mask == 1, ids, pad), "attention_mask": mask}
    if spec.sizes.get("segments", 0) > 1 and spec.has("embeddings.segment"):
        out["token_type_ids"] = np.minimum(np.arange(length) * spec.sizes["segments"] // length, spec.sizes["segments"] - 1)[None].repeat(
            probes, 0
        )
    if spec.traits.marks:  # the first probe has its own, the others two positions each
        out["global_attention_mask"] = np.isin(np.arange(length), (0, length // 3))[None].repeat(probes, 0).astype(np.int64)
    if two:
        out["decoder_input_ids"] = rng.integers(low, spec.sizes["vocab"], (probes, max(1, length // 2)))
    return out


def longest(spec: Spec, length: int) -> int:
    """`length`, or as many tokens as the model has positions for."""
    begins = spec.traits.positions in ("counted", "masked", "offset")
    offset = int(str(spec.traits.pad)) + 1 - spec.sizes.get("reserved", 0) if begins else 0
    offset += spec.has("decoder_embeddings.ahead")
    return max(1, min(length, spec.sizes.get("positions", length + offset) - offset))


def read_probes(spec: Spec, path: str) -> Arrays:
    """The arrays of a file as whole numbers: known names, two dimensions (a mask may have three), rows of tables that are there."""
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            found = {n: file[n] for n in file.files}
    except (OSError, ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as e:
        why = e.strerror if isinstance(e, OSError) and e.strerror else "it is no .npz file of numbers"
        raise UsageError(f"the probes cannot be read: {why}", path=path, hint=DUE) from None
    two = bool(spec.traits.encoder and spec.traits.decoder and spec.has("decoder"))
    for name in ("input_ids", *(("decoder_input_ids",) if two else ())):
        if name not in found:
            raise UsageError(f"the probes have no {name}", path=path, hint=DUE)
    rows = {
        "input_ids": spec.sizes["vocab"],
        "decoder_input_ids": spec.sizes["vocab"],
        "token_type_ids": spec.sizes.get("segments", 1),
        "position_ids": spec.sizes.get("positions", 1 << 31),
    }
    shape = found["input_ids"].shape
    for name, array in found.items():
        if name != "input_ids" and name not in BESIDE:
            raise UsageError(f"the probes hold {name!r}, which no model takes", path=path, hint=f"input_ids and {', '.join(BESIDE)}")
        if array.dtype.kind not in "iub":
            raise UsageError(f"{name} of the probes is {array.dtype}, not whole numbers", path=path)
        like = found["decoder_input_ids"].shape if name.startswith("decoder") and "decoder_input_ids" in found else shape
        square = name == "attention_mask" and array.shape == (*shape, shape[-1])
        if array.ndim < 2 or not array.size or (array.shape != like and not square) or array.shape[0] != shape[0]:
            raise UsageError(
                f"{name} of the probes is {list(array.shape)}, where [batch, position] is expected and input_ids is {list(shape)}",
                path=path,
            )
        if name in rows and not (int(array.min()) >= 0 and int(array.max()) < rows[name]):
            raise UsageError(f"{name} of the probes goes from {array.min()} to {array.max()}; the model has {rows[name]} rows", path=path)
    if spec.traits.positions == "learned" and shape[1] > spec.sizes.get("positions", shape[1]):
        raise UsageError(f"the probes have {shape[1]} positions; the model has {spec.sizes['positions']}", path=path)
    return {n: x.astype(np.int64) for n, x in found.items()}
