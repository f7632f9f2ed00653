"""Looking closer at single tensors where the pass has raised a suspicion: noise, sinusoids, equal rows. Reads at most a few megabytes each.

A matrix of independent draws of spread s and shape (m, n) has its largest singular value at s (sqrt(m) + sqrt(n)), the edge of the
Marchenko-Pastur law; training leaves directions far beyond it.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..._typing import TYPE_CHECKING, Any
from ...containers import Checkpoint
from ...support.arrays import distinct, how_many, numpy_dtype

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGE = 1 << 16  # elements of a large tensor
SIDE = 256  # rows and columns of the block that a spectrum is taken of
SMALL_SIDE = 48  # below which a spectrum tells nothing
NOISE = 1.06  # times the edge: where a draw ends
STRICT = 1.02  # where it ends in a block of hundreds: one trained matrix of a real model was met at 1.057
TRAINED = 1.2  # times the edge: what training passes
STEPS = 40  # of the power method
ALIKE = 1.5  # times the variance of the sizes of rows that draws have
MOST = 64 << 20  # bytes of a tensor that is read whole
PAGE = 1024  # elements of four bytes in a page
TABLE = 1000  # rows from which a matrix may be a vocabulary's, in which fillers are equal


def _block(checkpoint: Checkpoint, name: str) -> NDArray[Any] | None:
    """The first rows and columns of a matrix as float32, their mean taken off; None of what is too small, or no matrix. Reads
    those rows."""
    import numpy as np

    t = checkpoint.tensors[name]
    shape = [n for n in t.spec.shape if n > 1]
    if len(shape) != 2 or min(shape) < SMALL_SIDE or t.strides is not None:
        return None
    n = min(shape[0], SIDE)
    if t.read is None and len(t.extents) == 1:
        extent = t.extents[0]._replace(length=t.extents[0].length // shape[0] * n)
        x = np.frombuffer(checkpoint.read_extent(extent), numpy_dtype(t.spec.dtype)).reshape(n, shape[1])
    elif t.spec.nbytes <= MOST:
        x = checkpoint.array(name).reshape(shape)[:n]
    else:
        return None
    block: NDArray[Any] = x[:, :SIDE].astype(np.float32)
    block -= block.mean()
    return block


def _beyond(block: NDArray[Any]) -> float:
    """The largest singular value of a block in multiples of the edge of noise of its spread, by the power method."""
    import numpy as np

    v = np.random.default_rng(0).standard_normal((block.shape[1], 4), np.float32)
    largest = 0.0
    for _ in range(STEPS):
        v /= np.linalg.norm(v, axis=0)
        u = block @ v
        largest = float(np.linalg.norm(u, axis=0).max())
        v = block.T @ u
    return largest / float(block.std() * (np.sqrt(block.shape[0]) + np.sqrt(block.shape[1])))


def may_be_noise(checkpoint: Checkpoint, name: str) -> bool:
    """Whether rows and columns of a matrix are as alike in size as those of independent draws: quick, and ruled out by nearly
    all that is trained."""
    block = _block(checkpoint, name)
    if block is None:
        return False
    square = block * block
    mean = float(square.mean())
    if not mean:
        return False
    excess = float(square.reshape(-1) @ square.reshape(-1)) / square.size / mean**2 - 1
    for axis in (0, 1):
        sizes = square.mean(axis)
        if float(sizes.var()) > ALIKE * mean**2 * excess / block.shape[axis]:
            return False
    return True


def is_noise(checkpoint: Checkpoint, name: str, *, strict: bool) -> bool:
    """Whether no direction of a matrix stands out. `strict` where nothing else speaks for it: trained matrices may come near."""
    block = _block(checkpoint, name)
    return block is not None and _beyond(block) <= (STRICT if strict else NOISE)


def look_trained(checkpoint: Checkpoint, names: Sequence[str]) -> bool:
    """Whether most matrices of a sample of `names` have directions beyond what a draw has."""
    blocks = [b for n in names[:: max(1, len(names) // 9)] if (b := _block(checkpoint, n)) is not None and b.any()][:9]
    return len(blocks) > 0 and sum(_beyond(b) > TRAINED for b in blocks) * 2 > len(blocks)


def is_sinusoid(checkpoint: Checkpoint, name: str) -> bool:
    """Whether the rows of a table all have one norm, as those of sines and cosines have."""
    import numpy as np

    spec = checkpoint.tensors[name].spec
    if len(spec.shape) != 2 or min(spec.shape) < 2 or spec.nbytes > MOST:
        return False
    norms = np.square(checkpoint.array(name).astype(np.float64)).sum(1)
    norms = norms[norms > 0]  # the row of the padding
    return len(norms) > 1 and bool(np.ptp(norms) <= 1e-2 * norms.mean())


def equal_rows(checkpoint: Checkpoint, name: str, keys: NDArray[Any]) -> str:
    """What to say of the equal rows of a matrix whose rows begin with `keys`; "" where there are none that tell anything."""
    import numpy as np

    spec = checkpoint.tensors[name].spec
    n = len(keys)
    if n % 2 == 0 and bool((keys[: n // 2] == keys[n // 2 :]).all()) and n >= 4 and bool((keys != keys[0]).any()):
        x = _whole(checkpoint, name)
        if x is not None and bool((x[: n // 2] == x[n // 2 :]).all()):
            return "its second half is its first half again"
    first, counts = distinct(keys)
    doubtful = (counts > 1) & (first != 0)
    if not doubtful.any() or len(first) < max(2, n // 8):
        return ""
    pairs: list[tuple[int, int]] = []
    for key in first[doubtful][:64]:
        at = np.flatnonzero(keys == key)
        if n >= TABLE and len(at) == at[-1] - at[0] + 1:
            continue  # fillers that follow one another
        base = _row(checkpoint, name, int(at[0]))
        if base is None or not base.any() or bool((base == base[0]).all()):
            continue
        same = [int(i) for i in at[1:65] if np.array_equal(_row(checkpoint, name, int(i)), base)]  # type: ignore[arg-type]
        pairs += [(int(at[0]), i) for i in same]
    if not pairs:
        return ""
    listed = ", ".join(f"{b} is {a} again" for a, b in pairs[:4])
    are, others = ("is", "another") if len(pairs) == 1 else ("are", "others")
    return f"{len(pairs)} of its {spec.shape[0]:,} rows {are} equal to {others} (row {listed})"


def repeated_block(checkpoint: Checkpoint, name: str, keys: NDArray[Any]) -> str:
    """What to say of a page of 4,096 bytes that stands twice in a tensor whose pages begin with `keys`; "" where there is none."""
    import numpy as np

    first, counts = distinct(keys)
    doubtful = first[(counts == 2) & (first != 0)]
    x = _whole(checkpoint, name) if 0 < len(doubtful) <= 64 else None
    if x is None:
        return ""
    flat = x.reshape(-1)
    for key in doubtful:
        a, b = (int(i) * PAGE for i in np.flatnonzero(keys == key))
        page = flat[a : a + PAGE]
        if len(page) == PAGE and np.array_equal(page, flat[b : b + PAGE]) and how_many(page.view("<u4")) > PAGE // 2:
            return f"the elements from {b:,} on are those from {a:,} on again"
    return ""


def _whole(checkpoint: Checkpoint, name: str) -> NDArray[Any] | None:
    spec = checkpoint.tensors[name].spec
    return checkpoint.array(name) if spec.nbytes <= MOST else None


def _row(checkpoint: Checkpoint, name: str, i: int) -> NDArray[Any] | None:
    """One row of a row-major matrix, without the others where its bytes lie in one piece."""
    import numpy as np

    t = checkpoint.tensors[name]
    if t.read is not None or len(t.extents) != 1:
        x = _whole(checkpoint, name)
        return None if x is None else x[i]
    size = t.extents[0].length // t.spec.shape[0]
    extent = t.extents[0]._replace(offset=t.extents[0].offset + i * size, length=size)
    return np.frombuffer(checkpoint.read_extent(extent), numpy_dtype(t.spec.dtype))
