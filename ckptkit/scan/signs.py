"""What the pass over the values keeps of each tensor besides its magnitudes, so that rules can infer what happened to it.

Policy: nothing here may slow the pass. What a healthy tensor rules out at its first elements (lower bits all zero, few distinct
numbers) is asked no further; zeros are looked for at every sixty-fourth element; of the rows of a matrix only the first eight bytes are
kept. A sign is never a finding: the rules in `inferred` read the bytes again where one is to be believed.
"""

from __future__ import annotations

from .._typing import TYPE_CHECKING, Any, NamedTuple
from ..support.arrays import distinct, how_many

if TYPE_CHECKING:
    from numpy.typing import NDArray

STRIDE = 64  # elements between two that are looked at for runs of zeros
HOLE = 512  # bytes of zeros that no trained tensor holds in a row
LEVELS = 256  # distinct numbers: what eight bits can tell apart
LARGE = 1 << 16  # elements below which few distinct numbers mean nothing
MOST_ROWS = 1 << 20  # of which keys are kept
BLOCK = 1024  # elements of four bytes between two keys of blocks: a page
WIDE = 256  # columns from which few distinct numbers in a row mean something
_SAMPLE = 4096
# dtype -> types that its numbers may have come from, the narrowest first, each with the trailing bits that those lack
NARROWER = {"F32": (("bfloat16", 16), ("float16", 13)), "F64": (("float32", 29),)}


class Signs(NamedTuple):
    """What was seen of one tensor. `rms` is None of types that are not summed, `keys` of what is no matrix or has too many rows.

    `rounded`: the narrower type that every number would fit, "" if there is none. `levels`: how many distinct numbers, None for more
    than LEVELS. `coarse`: each row that was looked at holds few. `holes`: (first element, elements) of runs of zeros. `keys`: the first
    eight bytes of each row; `blocks`: of each 4,096 bytes.
    """

    rms: float | None
    rounded: str
    levels: int | None
    coarse: bool
    holes: tuple[tuple[int, int], ...]
    keys: NDArray[Any] | None
    blocks: NDArray[Any] | None


class Tracker:
    """The running signs of one tensor in one job. `shape` is the stored shape, row-major; () where strides make it another."""

    __slots__ = ("_columns", "_dtype", "_rows", "bits", "blocks", "coarse", "counted", "holes", "keys", "levels", "squares")

    def __init__(self, dtype: str, shape: tuple[int, ...], numel: int) -> None:
        self._dtype = dtype
        self._rows, self._columns = (shape[0], numel // shape[0]) if len(shape) == 2 and shape[0] else (0, 0)
        self.squares = 0.0
        self.counted = 0
        wide = dtype in NARROWER
        self.bits = 0 if wide else -1  # every bit that is set in some number, while the lowest are not
        self.levels: set[int] | None = set() if wide and numel >= LARGE else None
        self.coarse: list[bool] = []
        self.holes: list[tuple[int, int]] = []
        self.keys: list[tuple[int, NDArray[Any]]] = []
        self.blocks: list[tuple[int, NDArray[Any]]] = []

    def add(self, other: Tracker) -> None:
        """Take in what another job found of the same tensor."""
        self.squares += other.squares
        self.counted += other.counted
        self.bits |= other.bits
        self.coarse += other.coarse
        self.levels = None if self.levels is None or other.levels is None else self.levels | other.levels
        self.holes += other.holes
        self.keys += other.keys
        self.blocks += other.blocks

    def take(self, unsigned: NDArray[Any], start: int, known: tuple[int, float] | None = None) -> None:
        """The elements from `start` on, as unsigned integers of their bits. `known`: the bits that are set in some of them and the sum
        of squares, where a pass over them has told already.
        """
        import numpy as np

        size = unsigned.itemsize
        x = _floats(unsigned, self._dtype)
        if x is not None:
            with np.errstate(all="ignore"):
                self.squares += known[1] if known is not None and size == 4 else float(np.dot(x, x))
            self.counted += len(x)
        if self.bits & 1 == 0 and self.bits >= 0:
            self.bits |= known[0] if known is not None else int(np.bitwise_or.reduce(unsigned[:_SAMPLE]))
            if known is None and self.bits & 0xFF == 0:
                self.bits |= int(np.bitwise_or.reduce(unsigned))
        if self.levels is not None:
            seen, _ = distinct(unsigned[: 4 * LEVELS])
            if len(seen) <= LEVELS:
                seen, _ = distinct(unsigned)
            self.levels = None if len(seen) > LEVELS else self.levels | set(seen.tolist())
            if self.levels is not None and len(self.levels) > LEVELS:
                self.levels = None
        if size > 1:
            self._zeros(unsigned, start)
        if size == 4:
            self._coarse(unsigned, start)
            first = -start % BLOCK
            here = unsigned[first : len(unsigned) - 1 : BLOCK].astype("<u8") << np.uint64(32)
            if len(here):
                self.blocks.append(((start + first) // BLOCK, here | unsigned[first + 1 :: BLOCK][: len(here)]))
        if self._rows > 1 and self._columns * size >= 16 and self._rows <= MOST_ROWS:
            self._row_keys(unsigned, start)

    def _zeros(self, unsigned: NDArray[Any], start: int) -> None:
        import numpy as np

        least = HOLE // unsigned.itemsize
        step = min(STRIDE, least // 2)
        sampled = unsigned[::step] == 0
        both = sampled[1:] & sampled[:-1]
        if not both.any():
            return
        at = 0
        for i in np.flatnonzero(both).tolist()[:_SAMPLE]:
            if i * step < at:
                continue
            first = i * step
            back = unsigned[max(0, first - step) : first][::-1] != 0
            first -= int(back.argmax()) if back.any() else len(back)
            rest = unsigned[first:] != 0
            end = first + (int(rest.argmax()) if rest.any() else len(rest))
            at = end
            if end - first >= least:
                self.holes.append((start + first, end - first))

    def _coarse(self, unsigned: NDArray[Any], start: int) -> None:
        """Whether the first whole row of the piece holds few distinct numbers for its length."""

        if self.coarse and not self.coarse[-1]:
            return  # one row of many numbers is enough
        first = -start % self._columns if self._columns else 0
        if self._columns >= WIDE and first + self._columns <= len(unsigned):
            row = unsigned[first : first + min(self._columns, _SAMPLE)]
            distinct = how_many(row)
            self.coarse.append(1 < distinct < 0.8 * len(row))

    def _row_keys(self, unsigned: NDArray[Any], start: int) -> None:
        import numpy as np

        columns, width = self._columns, 8 // unsigned.itemsize
        row = -(-start // columns)
        first = row * columns - start
        n = (len(unsigned) - width - first) // columns + 1 if len(unsigned) >= first + width else 0
        if n <= 0:
            return
        keys = np.zeros(n, "<u8")
        for k in range(width):
            keys |= unsigned[first + k :: columns][:n].astype("<u8") << np.uint64(8 * unsigned.itemsize * k)
        self.keys.append((row, keys))

    def signs(self) -> Signs:
        """The whole of it, when every job has been added."""
        keys = _joined(self.keys)
        rms = (self.squares / self.counted) ** 0.5 if self.counted else None
        zeros = (self.bits & -self.bits).bit_length() - 1 if self.bits > 0 else 0
        rounded = next((kind for kind, least in NARROWER.get(self._dtype, ()) if zeros >= least), "") if self.counted else ""
        return Signs(
            rms=rms,
            rounded=rounded,
            levels=None if self.levels is None else len(self.levels),
            coarse=bool(self.coarse) and all(self.coarse),
            holes=tuple(sorted(self.holes)),
            keys=keys if keys is not None and len(keys) == self._rows else None,  # a row that lies across two pieces has no key
            blocks=_joined(self.blocks),
        )


def _joined(parts: list[tuple[int, NDArray[Any]]]) -> NDArray[Any] | None:
    import numpy as np

    if not parts:
        return None
    parts.sort(key=lambda k: k[0])
    whole: NDArray[Any] = np.concatenate([k for _, k in parts])
    return whole


def _floats(unsigned: NDArray[Any], dtype: str) -> NDArray[Any] | None:
    """The elements as numbers that can be summed quickly: all of F64 and F32, a sample of the halves, None of others."""
    import numpy as np

    if dtype in ("F32", "F64"):
        full: NDArray[Any] = unsigned.view(f"<f{unsigned.itemsize}")
        return full
    if dtype == "BF16":
        wide: NDArray[Any] = (unsigned[:_SAMPLE].astype("<u4") << np.uint32(16)).view("<f4")
        return wide
    if dtype == "F16":
        halves: NDArray[Any] = unsigned[:_SAMPLE].view("<f2").astype("<f4")
        return halves
    return None
