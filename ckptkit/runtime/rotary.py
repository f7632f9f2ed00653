"""Rotary positions: how fast each pair of columns turns, and turning them.

The rates of a kind of layer are worked out once, from the canonical values that begin with its word ("rope_theta", "rope_type", ...), as
plain numbers in double precision; only what depends on the length of the input (dynamic, longrope) is left to the run.
Sources: RoFormer (arXiv 2104.09864); YaRN (2309.00071); LongRoPE (2402.13753); transformers modeling_rope_utils.py (each type's
formula and which of its parameters has a value where none is said); Qwen's modeling_qwen.py (a base that grows in steps with the
input, queries that grow with the logarithm of their position, both beyond the length that the model was trained with).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import Any

from ..errors import UndecidedError

DOUBLINGS = 24  # of the length that a model was trained with, at most
TYPES = ("default", "linear", "dynamic", "yarn", "llama3", "longrope", "proportional")
Values = Mapping[str, object]


class Said:
    """The canonical values of one kind of layer's rotary positions: `said["theta"]` is the value of "rope_theta"."""

    def __init__(self, values: Values, prefix: str) -> None:
        self.values, self.prefix = values, prefix

    def get(self, name: str) -> Any:
        return self.values.get(f"{self.prefix}_{name}")

    def __getitem__(self, name: str) -> float:
        """A number that must be there."""
        found = self.get(name)
        if not isinstance(found, (int, float)) or isinstance(found, bool):
            raise UndecidedError(
                f"neither the tensors nor a configuration say {self.prefix}_{name}", hint="give the configuration with its rope_parameters"
            )
        return float(found)


def angles_of(values: Values, prefix: str, width: int, dtype: str = "") -> dict[str, object]:
    """How `width` columns of a head turn: "rates" (radians for each position, one for each pair), "scale" (of cosine and sine), and

    "long", "limit": the rates of inputs of more than `limit` positions; "base", "factor", "positions": of rates that grow with the input.
    "trained", "steps": rates of inputs of up to once, twice, four times ... that length; "beta", "origin": queries grow with their
    position; "logarithm": with its logarithm beyond that. `dtype`: what rates are rounded to. UndecidedError where a parameter is missing
    or the type is not known.
    """
    said = Said(values, prefix)
    kind = said.get("type") or "default"
    if kind == "dynamic" and said.get("alpha"):
        kind = "alpha"
    if kind == "mrope":  # of a multimodal model: where all is text, its three positions are one
        kind = "default"
    make = MADE.get(str(kind))
    if make is None:
        raise UndecidedError(f"no model can be built with rotary positions of type {kind!r}", hint=f"one of {', '.join(TYPES)}")
    out = make(said, width, values)
    if dtype == "float16":
        out["rates"] = [struct.unpack("<e", struct.pack("<e", r))[0] for r in out["rates"]]  # type: ignore[attr-defined]
    if said.get("in_steps") and kind == "default":
        factors = [2 ** (k + 1) - 1 for k in range(DOUBLINGS + 1)]
        steps = [_rates(said["theta"] * f ** (width / (width - 2)), width) for f in factors]
        out |= {"trained": int(said["trained"]), "steps": steps}
    if said.get("by_logarithm"):
        out |= {"logarithm": int(said["trained"])}
    if said.get("llama_4_scaling_beta"):
        out |= {"beta": said["llama_4_scaling_beta"], "origin": said["original_max_position_embeddings"]}
    return {"scale": 1.0, **out}


def _rates(base: float, width: int) -> list[float]:
    return [base ** (-2 * i / width) for i in range((width + 1) // 2)]


def _default(said: Said, width: int, values: Values) -> dict[str, object]:
    return {"rates": _rates(said["theta"], width)}


def _linear(said: Said, width: int, values: Values) -> dict[str, object]:
    factor = said["factor"]
    return {"rates": [r / factor for r in _rates(said["theta"], width)]}


def _alpha(said: Said, width: int, values: Values) -> dict[str, object]:
    """Hunyuan's: a base stretched once and for all."""
    return {"rates": _rates(said["theta"] * said["alpha"] ** (width / (width - 2)), width)}


def _proportional(said: Said, width: int, values: Values) -> dict[str, object]:
    """Gemma 4's: as many pairs of the whole head turn as its part says, and the others stand."""
    part, factor = said.get("part"), said.get("factor") or 1.0
    turned = int((1.0 if part is None else float(part)) * width // 2)
    return {"rates": [r / factor if i < turned else 0.0 for i, r in enumerate(_rates(said["theta"], width))]}


def _dynamic(said: Said, width: int, values: Values) -> dict[str, object]:
    positions = _number(values, "max_positions")
    rates = _rates(said["theta"], width)
    return {"rates": rates, "base": said["theta"], "factor": said["factor"], "positions": positions, "width": width}


def _yarn(said: Said, width: int, values: Values) -> dict[str, object]:
    base, origin = said["theta"], said["original_max_position_embeddings"]
    factor = _number(values, "max_positions") / origin if said.get("factor") is None else said["factor"]
    scale = said.get("attention_factor")
    if scale is None:
        m, every = said.get("mscale"), said.get("mscale_all_dim")
        scale = grown(factor, float(m)) / grown(factor, float(every)) if m and every else grown(factor)

    def column(turns: float) -> float:
        return width * math.log(origin / (turns * 2 * math.pi)) / (2 * math.log(base))

    low, high = column(float(said.get("beta_fast") or 32)), column(float(said.get("beta_slow") or 1))
    if said.get("truncate") is not False:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, width - 1)
    high += 0.001 if low == high else 0.0
    slow = [min(max((i - low) / (high - low), 0.0), 1.0) for i in range(width // 2)]
    return {"rates": [r / factor * s + r * (1 - s) for r, s in zip(_rates(base, width), slow, strict=True)], "scale": float(scale)}


def grown(factor: float, m: float = 1.0) -> float:
    """YaRN's growth of the scores' scale with the length."""
    return 1.0 if factor <= 1 else 0.1 * m * math.log(factor) + 1.0


def squared_growth(values: Values, prefix: str) -> float:
    """What DeepSeek multiplies scores by where positions are stretched."""
    said = Said(values, prefix)
    every = said.get("mscale_all_dim")
    return grown(said["factor"], float(every)) ** 2 if every and said.get("type") not in (None, "default") else 1.0


def _llama3(said: Said, width: int, values: Values) -> dict[str, object]:
    factor, low, high = said["factor"], said["low_freq_factor"], said["high_freq_factor"]
    origin = said["original_max_position_embeddings"]
    out = []
    for rate in _rates(said["theta"], width):
        wave = 2 * math.pi / rate
        smooth = (origin / wave - low) / (high - low)
        if wave > origin / low:
            out.append(rate / factor)
        elif wave < origin / high:
            out.append(rate)
        else:
            out.append((1 - smooth) * rate / factor + smooth * rate)
    return {"rates": out}


def _longrope(said: Said, width: int, values: Values) -> dict[str, object]:
    origin = said["original_max_position_embeddings"]
    factor = _number(values, "max_positions") / origin if said.get("factor") is None else said["factor"]
    scale = said.get("attention_factor")
    if scale is None:
        scale = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(origin))
    rates = _rates(said["theta"], width)
    lists = [_listed(said, name, len(rates)) for name in ("short_factor", "long_factor")]
    short, long = ([r / f for r, f in zip(rates, factors, strict=True)] for factors in lists)
    return {"rates": short, "long": long, "limit": origin, "scale": float(scale)}


def _listed(said: Said, name: str, count: int) -> list[float]:
    found = said.get(name)
    if not isinstance(found, (list, tuple)) or len(found) != count:
        raise UndecidedError(f"{said.prefix}_{name} is not a list of {count} numbers, one for each pair of columns")
    return [float(x) for x in found]


def _number(values: Values, name: str) -> float:
    found = values.get(name)
    if not isinstance(found, (int, float)) or isinstance(found, bool):
        raise UndecidedError(f"neither the tensors nor a configuration say {name}", hint="give the configuration")
    return float(found)


MADE = {
    "default": _default, "linear": _linear, "alpha": _alpha, "dynamic": _dynamic, "yarn": _yarn, "llama3": _llama3, "longrope": _longrope,
    "proportional": _proportional,
}  # fmt: skip


def table(ops: Any, said: Mapping[str, Any], positions: Any, wide: str) -> Any:
    """[2 or 3, batch or 1, position, pair]: cosine, sine and, where queries grow with their position, by how much. `wide`: the dtype."""
    rates = ops.constant(said["rates"], wide)
    at = ops.cast(positions, wide)
    if "long" in said:
        rates = ops.where(ops.max(at) + 1 > said["limit"], ops.constant(said["long"], wide), rates)
    if "trained" in said:  # the base times 2 ** k - 1, k the least with trained * 2 ** (k - 1) >= length
        length = ops.max(at) + 1
        step = sum(ops.cast(length > said["trained"] * 2**j, "int32") for j in range(DOUBLINGS))
        rates = ops.take(ops.constant(said["steps"], wide), step, axis=0)
    elif "base" in said:
        width, most = said["width"], said["positions"]
        length = ops.maximum(ops.max(at) + 1, most)
        base = said["base"] * (said["factor"] * length / most - (said["factor"] - 1)) ** (width / (width - 2))
        rates = ops.exp(ops.log(base) * ops.constant([-2 * i / width for i in range(width // 2)], wide))
    angle = ops.expand_dims(at, -1) * rates
    planes = [ops.cos(angle) * said["scale"], ops.sin(angle) * said["scale"]]
    if "beta" in said:
        growth = 1 + said["beta"] * ops.log(1 + ops.floor(at / said["origin"]))
        planes.append(ops.zeros_like(angle) + ops.expand_dims(growth, -1))
    elif "logarithm" in said:
        growth = ops.maximum(ops.log(at + 1) / math.log(said["logarithm"]), 1.0)
        planes.append(ops.zeros_like(angle) + ops.expand_dims(growth, -1))
    return ops.stack(planes, axis=0)


def turn(ops: Any, x: Any, turned: Any, pairs: str, planes: int = 1) -> Any:
    """The first columns of [batch, head, position, column] turned: each with the one half their number on, or with its neighbour. Of two
    `planes` each half of the columns is turned by its own half of the angles."""
    if planes == 2:
        half, quarter = x.shape[-1] // 2, turned.shape[-1] // 2
        first = turn(ops, x[..., :half], turned[..., :quarter], pairs)
        return ops.concatenate((first, turn(ops, x[..., half:], turned[..., quarter:], pairs)), axis=-1)
    cos, sin = (ops.cast(ops.expand_dims(turned[i], 1), x.dtype) for i in (0, 1))
    half = turned.shape[-1]
    kept = x[..., 2 * half :]
    if pairs == "half":
        a, b = x[..., :half], x[..., half : 2 * half]
        out = ops.concatenate((a * cos - b * sin, b * cos + a * sin), axis=-1)
    else:
        a, b = x[..., 0 : 2 * half : 2], x[..., 1 : 2 * half : 2]
        both = ops.stack((a * cos - b * sin, b * cos + a * sin), axis=-1)
        shape = ops.shape(x)
        out = ops.reshape(both, (shape[0], shape[1], shape[2], 2 * half))
    return out if kept.shape[-1] == 0 else ops.concatenate((out, kept), axis=-1)


def growth(ops: Any, turned: Any, like: Any) -> Any:
    """By how much queries at each position are multiplied, [batch or 1, 1, position, 1]; None where they are not."""
    if turned.shape[0] < 3:
        return None
    return ops.cast(ops.expand_dims(turned[2][..., :1], 1), like.dtype)
