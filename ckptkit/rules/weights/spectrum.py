"""Looking closer at single tensors where the pass has raised a suspicion: noise, sinusoids, equal rows. Reads at most a few megabytes each.

A matrix of independent draws of spread s and shape (m, n) has its largest singular value at s (sqrt(m) + sqrt(n)), the edge of the
Marchenko-Pastur law; training leaves directions far beyond it.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..._typing import TYPE_CHECKING, Any
from ...containers import Checkpoint
from ...support.arrays import numpy_dtype

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGE = 1 << 16  # elements of a large tensor
SIDE = 384  # rows and columns of the block that a spectrum is taken of
SMALL_SIDE = 48  # below which a spectrum tells nothing
NOISE = 1.06  # times the edge: where a draw ends
TRAINED = 1.2  # times the edge: what training passes
MOST = 64 << 20  # bytes of a tensor that is read whole
TABLE = 1000  # rows from which a matrix may be a vocabulary's, in which fillers are equal


def _block(checkpoint: Checkpoint, name: str) -> NDArray[Any] | None:
    """A block of a matrix as float64, its mean taken off; None of what is too small, or no matrix."""
    import numpy as np

    spec = checkpoint.tensors[name].spec
    shape = [n for n in spec.shape if n > 1]
    if len(shape) != 2 or min(shape) < SMALL_SIDE or spec.nbytes > MOST:
        return None
    x: NDArray[Any] = checkpoint.array(name).reshape(shape)[:SIDE, :SIDE].astype(np.float64)
    x -= x.mean()
    return x


def _beyond(checkpoint: Checkpoint, name: str) -> float | None:
    """The largest singular value of a block in multiples of the edge of noise of its spread."""
    import numpy as np

    x = _block(checkpoint, name)
    if x is None or not x.any():
        return None
    edge = x.std() * (np.sqrt(x.shape[0]) + np.sqrt(x.shape[1]))
    return float(np.linalg.norm(x, 2) / edge)


def is_noise(checkpoint: Checkpoint, name: str) -> bool:
    """Whether a matrix is a plain draw: nothing beyond the edge, and the tails of a normal or a uniform distribution or of what lies between."""
    import numpy as np

    x = _block(checkpoint, name)
    if x is None:
        return False
    beyond = _beyond(checkpoint, name)
    kurtosis = float((x**4).mean() / (x**2).mean() ** 2) if x.any() else 0.0
    return beyond is not None and beyond <= NOISE and 1.5 < kurtosis < 3.3 and bool(np.isfinite(x).all())


def look_trained(checkpoint: Checkpoint, names: Sequence[str]) -> bool:
    """Whether most matrices of a sample of `names` have directions beyond what a draw has."""
    step = max(1, len(names) // 12)
    seen = [b for n in names[::step] if (b := _beyond(checkpoint, n)) is not None][:12]
    return len(seen) > 0 and sum(b > TRAINED for b in seen) * 2 > len(seen)


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
    if n % 2 == 0 and bool((keys[: n // 2] == keys[n // 2 :]).all()) and n >= 4 and len(np.unique(keys)) > 1:
        x = _whole(checkpoint, name)
        if x is not None and bool((x[: n // 2] == x[n // 2 :]).all()):
            return "its second half is its first half again"
    first, counts = np.unique(keys, return_counts=True)
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
    return f"{len(pairs)} of its {spec.shape[0]:,} rows {'is' if len(pairs) == 1 else 'are'} equal to {'another' if len(pairs) == 1 else 'others'} (row {listed})"


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
