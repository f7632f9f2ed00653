"""How much memory a model takes: its weights in other types, training with Adam, a decoder's cache of keys and values. Headers only.

Policy: everything here is an estimate, is said to be one, and comes with the parts that it is the sum of, so that whoever knows better
can take what fits. Nothing is added for activations, for what a library keeps beside, or for a server's paging, since no file tells.
A cache is counted from the shapes of the projections that are there (grouped queries, one head of keys, latent vectors), and layers that
see a window keep no more than that.
"""

from __future__ import annotations

from math import prod

from .._typing import TYPE_CHECKING, NamedTuple
from ..errors import CheckpointError
from ..graph.examine import Subject
from ..tensors import DTYPES

if TYPE_CHECKING:
    from ..runtime.spec import Spec

TOKENS = 1000
GROUP = 32  # weights that share a scale of 16 bits, in the usual packings of 4 bits
Line = tuple[str, int, str]  # what, bytes, the parts in words


class Memory(NamedTuple):
    """Estimates in bytes, each with its parts in words; `notes` say what they rest on and what is not in them."""

    weights: tuple[Line, ...]
    training: tuple[Line, ...]
    cache: tuple[Line, ...]  # of a decoder; empty where it is none, or nothing says how it runs
    notes: tuple[str, ...]

    def plain(self) -> dict[str, object]:
        """The same as JSON data."""
        rows = {k: [dict(zip(("what", "bytes", "parts"), line, strict=True)) for line in getattr(self, k)] for k in self._fields[:3]}
        return {"estimate": True, **rows, "notes": list(self.notes)}


class Kept(NamedTuple):
    """What one layer keeps of each token: elements, and of how many tokens at most (0: of all)."""

    elements: int
    window: int
    how: str


def memory_of(subject: Subject) -> Memory:
    """The estimates for an open checkpoint. Reads no weight."""
    tensors, packed = subject.checkpoint.tensors, subject.packings.weights
    names = [n for n in subject.counted() if DTYPES[tensors[n].spec.dtype].kind != "string"]
    sizes: dict[str, int] = {}
    for n in names:
        label, nbytes = (packed[n].label, packed[n].nbytes) if n in packed else (tensors[n].spec.dtype, tensors[n].spec.nbytes)
        sizes[label] = sizes.get(label, 0) + nbytes
    shapes = [tensors[n].spec.shape for n in names]
    matrices = sum(prod(s) for s in shapes if sum(k > 1 for k in s) > 1)
    every = sum(prod(s) for s in shapes)
    rest = every - matrices
    now = sum(sizes.values())
    weights = (
        ("as they are stored", now, " + ".join(f"{n:,} of {label}" for label, n in sorted(sizes.items(), key=lambda kv: -kv[1]))),
        ("in float32", 4 * every, f"4 x {every:,}"),
        ("in float16 or bfloat16", 2 * every, f"2 x {every:,}"),
        ("matrices in int8", matrices + 2 * rest, f"1 x {matrices:,} in matrices + 2 x {rest:,} in others"),
        ("matrices in 4 bits", (matrices + 1) // 2 + 2 * (matrices // GROUP + rest),
         f"1/2 x {matrices:,} + a scale of 2 bytes for {GROUP} of them + 2 x {rest:,} in others"),
    )  # fmt: skip
    training = (
        ("with Adam, in float32", 16 * every, f"4 weights + 4 gradients + 8 moments, x {every:,}"),
        ("with Adam, mixed precision", 16 * every, f"2 weights + 2 gradients + 4 float32 weights + 8 moments, x {every:,}"),
        ("with Adam of 8 bits, mixed precision", 10 * every, f"2 weights + 2 gradients + 4 float32 weights + 2 moments, x {every:,}"),
    )
    notes = ["Estimates: activations, buffers of libraries and fragmentation come on top."]
    cache, more = _cache(subject)
    return Memory(weights, training, cache, (*notes, *more))


def _cache(subject: Subject) -> tuple[tuple[Line, ...], tuple[str, ...]]:
    from ..runtime.spec import spec_of

    try:
        spec = spec_of(subject)
    except CheckpointError as e:
        said = f"No cache of keys and values is estimated: {e.message}."
        return (), (said,) if subject.architecture is not None else ()
    layers = kept_by_layer(spec)
    if not layers:
        return (), ()
    lines = [_line(f"{TOKENS:,} tokens", layers, TOKENS)]
    windows = {k.window for k in layers if k.window > 0}
    if any(w < 2 * TOKENS for w in windows):
        full = [k for k in layers if not k.window]
        lines.append((f"each further {TOKENS:,} tokens", *_line("", full, TOKENS)[1:]))
    most = spec.values.get("max_positions") or spec.values.get("positions") or spec.sizes.get("positions")
    if isinstance(most, int) and most > TOKENS:
        lines.append(_line(f"{most:,} tokens, as many as it has positions for", layers, most))
    notes = ["The cache is of one sequence in float16: half of it in 8 bits, twice in float32."]
    blocks = len(spec.blocks("decoder") or spec.blocks("encoder"))
    if len(layers) < blocks:
        notes.append(
            f"{blocks - len(layers)} of {blocks} layers keep no keys and values of their own; what they keep instead is not in it."
        )
    if spec.traits.encoder and spec.traits.decoder:
        notes.append("What the decoder keeps of the encoder's output is not in it.")
    return tuple(lines), tuple(notes)


def kept_by_layer(spec: Spec) -> list[Kept]:
    """What each layer of a decoder keeps of a token; empty for a model that sees all of its input at once."""
    if not spec.traits.decoder and spec.traits.mask != "causal":
        return []
    shapes = {leaf.path: dict(leaf.params).get("weight") for leaf in spec.leaves}
    out = []
    for number, block in enumerate(spec.blocks("decoder" if spec.traits.decoder else "encoder")):
        rows = {
            name: shape[0]
            for name in ("key", "value", "latent", "key_rope")
            if (shape := shapes.get(f"{block}.attention.{name}")) is not None
        }
        how = "latent" if "latent" in rows else "key"
        elements = sum(rows.get(n, 0) for n in (("latent", "key_rope") if how == "latent" else ("key", "value")))
        if elements:
            window = spec.layer(number).get("window", 0)
            past = window if isinstance(window, int) and spec.traits.window_kind in ("past", "chunk") else 0
            out.append(Kept(elements, past, "a latent vector and the part that is turned" if how == "latent" else "keys and values"))
    return out


def _line(what: str, layers: list[Kept], tokens: int) -> Line:
    groups: dict[Kept, int] = {}
    for k in layers:
        groups[k] = groups.get(k, 0) + 1
    parts, total = [], 0
    for k, n in groups.items():
        held = min(tokens, k.window or tokens)
        total += 2 * n * k.elements * held
        few = f" (of the last {held:,} tokens)" if held < tokens else ""
        parts.append(f"{n} layers x {k.elements:,} {k.how}{few}")
    return what, total, f"2 bytes x {tokens:,} tokens x ({' + '.join(parts)})" if parts else "nothing: every layer sees a window"
