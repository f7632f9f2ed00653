"""Rotary positions in a GGUF file: what its keys and its tensors of factors say, and what they cannot.

Sources: src/llama-model.cpp and src/llama-context.cpp of llama.cpp (which keys are read, what YaRN's scale is divided by), its
converter (the tensors rope_freqs and rope_factors_*), transformers modeling_rope_utils.py. A table's parameters are read back from its
numbers, since no key has them.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence

from ckptkit._typing import Any
from ckptkit.arch._libraries.decoder_words import may
from ckptkit.schema import Derived, Key

Values = Mapping[str, object]
WORDS = (
    "type", "factor", "attention_factor", "beta_fast", "beta_slow", "short_factor", "long_factor", "low_freq_factor", "high_freq_factor",
    "mscale", "mscale_all_dim", "mrope_section", "truncate", "llama_4_scaling_beta", "original_max_position_embeddings", "alpha", "part",
)  # fmt: skip
FREQS, LONG, SHORT = "rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"
TABLE = 4096  # numbers of a table that is read back, at most
NAMED = {"linear": "linear", "yarn": "yarn", "longrope": "longrope"}
ORIGINS = tuple(1 << n for n in range(13, 2, -1)) + tuple(1 << n for n in range(14, 21))


def keys() -> dict[str, str | Key]:
    """What is read of them, below "derived"."""
    return {f"rope_{word}": may(f"rope_{word}") for word in WORDS}


def written(*, dimensions: bool = True, growth: float = 0.0, prefix: str = "rope") -> dict[str, Callable[[Values], object]]:
    """The keys below an architecture's name that follow from the canonical values. `dimensions`: whether it says how many columns turn;
    `growth`: which part of what YaRN multiplies scores by it says, 0 where it says none of it; its own scale then follows."""

    def of(values: Values, word: str) -> Any:
        return values.get(f"{prefix}_{word}")

    def kind(values: Values) -> str | None:
        return NAMED.get(str(of(values, "type")))

    def stretched(word: str) -> Callable[[Values], object]:
        return lambda values: of(values, word) if kind(values) == "yarn" else None

    out: dict[str, Callable[[Values], object]] = {
        "rope.scaling.type": kind,
        "rope.scaling.factor": lambda values: _real(factor_of(values)) if kind(values) in ("linear", "yarn") else None,
        "rope.scaling.original_context_length": lambda values: origin_of(values) if kind(values) in ("yarn", "longrope") else None,
        "rope.scaling.attn_factor": attention_factor,
        "rope.scaling.yarn_attn_factor": stretched("attention_factor"),
        "rope.scaling.yarn_beta_fast": stretched("beta_fast"),
        "rope.scaling.yarn_beta_slow": stretched("beta_slow"),
    }
    if growth:
        out["rope.scaling.yarn_log_multiplier"] = lambda values: growth * m if (m := _all_dim(values)) else None
        out["rope.scaling.attn_factor"] = lambda values: None if _all_dim(values) else attention_factor(values)
    return out | ({"rope.dimension_count": turned} if dimensions else {})


def _all_dim(values: Values) -> float | None:
    m = values.get("rope_mscale_all_dim")
    return float(m) if isinstance(m, (int, float)) and m and values.get("rope_type") == "yarn" else None


def _real(number: object) -> float | None:
    return float(number) if isinstance(number, (int, float)) else None


def origin_of(values: Values) -> int | None:
    """The positions that a model was made for before they were stretched."""
    said = values.get("rope_original_max_position_embeddings") or values.get("max_positions")
    return int(said) if isinstance(said, (int, float)) else None


def factor_of(values: Values) -> object:
    """By how much positions are stretched: where nothing says it, what the lengths are to each other."""
    said, most, origin = values.get("rope_factor"), values.get("max_positions"), origin_of(values)
    return said if said is not None or not isinstance(most, int) or not origin else most / origin


def turned(values: Values) -> int | None:
    """The columns of a head that turn."""
    width, part = values.get("head_dim"), values.get("rope_part")
    if not isinstance(width, int):
        return None
    return int(width * part) if isinstance(part, (int, float)) else width


def grown(factor: float, m: float = 1.0) -> float:
    """YaRN's growth of the scores' scale with the length."""
    return 1.0 if factor <= 1 else 0.1 * m * math.log(factor) + 1.0


def attention_factor(values: Values) -> float | None:
    """What llama.cpp is to multiply its own scale of cosine and sine by; None where that is right as it is."""
    kind, factor = values.get("rope_type"), factor_of(values)
    said, own = values.get("rope_attention_factor"), 1.0
    if not isinstance(factor, (int, float)) or kind not in ("yarn", "longrope"):
        return None
    if kind == "longrope":
        most, origin = values.get("max_positions"), origin_of(values)
        factor = most / origin if isinstance(most, int) and origin else factor
        wanted = 1.0 if factor <= 1 or not origin else math.sqrt(1 + math.log(factor) / math.log(origin))
    else:
        own = grown(factor)
        m, every = values.get("rope_mscale"), values.get("rope_mscale_all_dim")
        both = isinstance(m, (int, float)) and isinstance(every, (int, float)) and m and every
        wanted = grown(factor, float(m)) / grown(factor, float(every)) if both else own  # type: ignore[arg-type]
    wanted = float(said) if isinstance(said, (int, float)) else wanted
    return wanted / own if abs(wanted - own) > 1e-6 * own or kind == "longrope" else None


def conflicts(values: Values, able: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What llama.cpp would turn otherwise. `able`: what its code of an architecture can besides: "freqs" and "factors" (tensors of
    factors), "part" of a head, "beta" (YaRN's borders), "alpha" (Hunyuan's base), "mrope", "beta4" (Llama 4's queries), "growth" (of scores
    with YaRN's factor), "log" (the same, as its own number)."""
    kind = str(values.get("rope_type") or "default")
    no = "its code of this architecture reads no factors of frequencies"
    if (kind == "llama3" and "freqs" not in able) or (kind == "longrope" and "factors" not in able):
        yield "rope_type", no
    elif kind not in ("default", "linear", "yarn", "llama3", "longrope", "dynamic"):
        yield "rope_type", "it has no such type"
    if kind == "dynamic" and values.get("rope_alpha") and "alpha" not in able:
        yield "rope_alpha", "it has no key for it"
    if "growth" in able and _all_dim(values) and values.get("rope_mscale") != values.get("rope_mscale_all_dim"):
        yield "rope_mscale", "its code of this architecture takes rope_mscale_all_dim for both"
    if "log" in able and _all_dim(values) and values.get("rope_mscale") != 1:
        yield "rope_mscale", "its code of this architecture takes 1"
    if kind == "yarn" and "beta" not in able:
        for word, usual in (("beta_fast", 32), ("beta_slow", 1)):
            if values.get(f"rope_{word}") not in (None, usual):
                yield f"rope_{word}", f"its code of this architecture always takes {usual}"
    if values.get("rope_part") not in (None, 1) and "part" not in able:
        yield "rope_part", "its code of this architecture turns whole heads"
    elif (columns := turned(values)) is not None and columns % 2:
        yield "rope_part", f"it turns pairs of columns, and this makes {columns}"
    if values.get("rope_mrope_section") and "mrope" not in able:
        yield "rope_mrope_section", "its code of this architecture has no sections"
    if values.get("rope_llama_4_scaling_beta") and "beta4" not in able:
        yield "rope_llama_4_scaling_beta", "its code of this architecture has no such scale"


def remarks(values: Values) -> Iterator[tuple[str, str]]:
    """What llama.cpp does otherwise where its own converter is content with that."""
    if values.get("rope_type") == "dynamic" and not values.get("rope_alpha"):
        yield "rope_type", f"llama.cpp does not stretch positions with the length: the same up to {values.get('max_positions')} tokens"
    if values.get("rope_type") == "yarn" and values.get("rope_truncate") is False:
        yield "rope_truncate", "llama.cpp rounds the borders of YaRN's ramp, as its own conversion does: outputs differ slightly"


# --- tables --------------------------------------------------------------------------------------------------------

_VALUES = "rope_type rope_theta rope_factor rope_low_freq_factor rope_high_freq_factor rope_original_max_position_embeddings"


def tables(able: Sequence[str]) -> dict[str, Derived]:
    """The tensors of factors that an architecture's code reads."""
    out = {}
    if "freqs" in able:
        out[FREQS] = Derived(f"llama3_factors {_VALUES} max_positions head_dim rope_part", "turned", made=True)
    if "factors" in able:
        out[LONG] = Derived("rope_factors rope_type rope_long_factor", "turned", made=True)
        out[SHORT] = Derived("rope_factors rope_type rope_short_factor", "turned", made=True)
    return out


def listed_factors(shape: tuple[int, ...], kind: object, factors: object) -> object:
    """[pairs], float32: LongRoPE's factors as they are listed; None in other models."""
    import numpy as np

    return np.asarray(factors, np.float32) if kind == "longrope" and isinstance(factors, (list, tuple)) else None


def llama3_factors(shape: tuple[int, ...], *said: Any) -> object:
    """[pairs], float32: what Llama 3 divides each pair's frequency by; None in other models. `said`: as `tables` names them."""
    import numpy as np

    kind, theta, factor, low, high, origin, most, width, part = said
    if kind != "llama3" or not isinstance(width, int):
        return None
    width = int(width * part) if isinstance(part, (int, float)) else width
    factor, low, high = factor or 8.0, low or 1.0, high or 4.0
    origin = origin or most or 8192
    one = np.float32
    exponents = np.arange(0, width, 2, dtype=one) / one(width)
    rates = one(1) / (np.float64(theta or 10000.0) ** exponents.astype(np.float64)).astype(one)
    out = []
    for rate in rates:  # in the order in which PyTorch divides numbers by float32 tensors: times the reciprocal
        wave = one(2 * math.pi) * (one(1) / rate)
        if wave < origin / high:
            out.append(one(1))
        elif wave > origin / low:
            out.append(one(factor))
        else:
            smooth = (one(origin) * (one(1) / wave) - one(low)) / one(high - low)
            out.append(one(1) / ((one(1) - smooth) / one(factor) + smooth))
    return np.asarray(out, one)


DERIVATIONS: Mapping[str, Callable[..., object]] = {"llama3_factors": llama3_factors, "rope_factors": listed_factors}


def derived_rope(of: Mapping[str, object], kept: Mapping[str, object]) -> dict[str, object]:
    """What a file's keys below its architecture's name (`of`) and its tables say of rotary positions, by canonical names."""
    heads, hidden = of.get("attention.head_count"), of.get("embedding_length")
    whole = hidden // heads if isinstance(heads, int) and heads > 0 and isinstance(hidden, int) else None
    width, count = of.get("attention.key_length", whole), of.get("rope.dimension_count")
    out: dict[str, object] = {}
    if isinstance(width, int) and isinstance(count, int) and 0 < count < width and "attention.kv_lora_rank" not in of:
        out["rope_part"] = count / width
    kind, factor = of.get("rope.scaling.type"), of.get("rope.scaling.factor")
    kind = kind if kind in ("linear", "yarn") and factor not in (None, 1.0) else "longrope" if kind == "longrope" else None
    origin = of.get("rope.scaling.original_context_length")
    if kind == "linear":
        out |= {"rope_type": kind, "rope_factor": factor}
    elif kind == "yarn":
        out |= {"rope_type": kind, "rope_factor": factor, "rope_original_max_position_embeddings": origin}
        scale = of.get("rope.scaling.attn_factor")
        if isinstance(scale, float) and isinstance(factor, float) and scale != 1.0:
            out["rope_attention_factor"] = _rounded(scale * grown(factor))
        elif (said := of.get("rope.scaling.yarn_attn_factor")) is not None:
            out["rope_attention_factor"] = said
        out |= {f"rope_{w}": of[f"rope.scaling.yarn_{w}"] for w in ("beta_fast", "beta_slow") if f"rope.scaling.yarn_{w}" in of}
    freqs, long, short = (table(kept, n) for n in (FREQS, LONG, SHORT))
    if long and short and (kind == "longrope" or origin is not None):
        out |= {"rope_type": "longrope", "rope_long_factor": long, "rope_short_factor": short}
        out["rope_original_max_position_embeddings"] = origin
        if isinstance(scale := of.get("rope.scaling.attn_factor"), float):
            out["rope_attention_factor"] = scale
    elif freqs and any(f != 1.0 for f in freqs):
        out |= _parameters(freqs, of.get("rope.freq_base", 10000.0), 2 * len(freqs))
    return {"rope_type": "default", **{k: v for k, v in out.items() if v is not None}}


def shortest(value: float) -> float:
    """The shortest decimal that is this float32: 1e-06 for 9.999999974752427e-07."""
    try:
        raw = struct.pack("<f", value)
    except OverflowError:
        return value
    for digits in range(1, 9):
        near = float(f"{value:.{digits}g}")
        if struct.pack("<f", near) == raw:
            return near
    return value


def _rounded(value: float) -> float:
    """A number of float32's precision as people write it."""
    return float(f"{value:.7g}")


def table(kept: Mapping[str, object], name: str) -> list[float]:
    """The numbers of a table of factors; [] where there is none."""
    from ckptkit.containers.gguf.header import Span, Value, items

    value = kept.get(name)
    if not isinstance(value, Value) or (isinstance(value.value, Span) and value.value.many > TABLE):
        return []
    return [shortest(v) for v in items(value)]


def _parameters(factors: Sequence[float], theta: object, width: int) -> dict[str, object]:
    """Llama 3's parameters, of which a table of factors is made: the usual ones, or what the smooth part between the borders tells (with a
    low factor of 1, which the others are relative to)."""
    if not isinstance(theta, (int, float)) or not 0 < theta < math.inf or not all(1 <= f < 1e9 for f in factors) or max(factors) == 1:
        return {"rope_type": "rope_freqs.weight, of unknown parameters"}
    factor = max(factors)
    waves = [2 * math.pi * theta ** (2 * i / width) for i in range(len(factors))]

    def fits(low: float, high: float, origin: float) -> bool:
        for f, wave in zip(factors, waves, strict=True):
            smooth = (origin / wave - low) / (high - low)
            want = 1.0 if wave < origin / high else factor if wave > origin / low else 1 / ((1 - smooth) / factor + smooth)
            if abs(want - f) > 1e-4 * want:
                return False
        return True

    found = next(((1.0, 4.0, n) for n in ORIGINS if fits(1.0, 4.0, n)), None)
    between = [
        (1 / w, (1 / f - 1 / factor) / (1 - 1 / factor)) for f, w in zip(factors, waves, strict=True) if 1.0001 < f < 0.9999 * factor
    ]
    if found is None and len(between) > 1:
        (a, s), (b, t) = between[0], between[-1]
        slope = (t - s) / (b - a)
        start = s - slope * a
        high, origin = 1 - 1 / start, slope * -1 / start
        near = (1.0, _rounded(round(high, 3)), round(origin))
        found = near if high > 1 and fits(*near) else None
    if found is None:
        return {"rope_type": "rope_freqs.weight, of unknown parameters"}
    low, high, origin = found
    return {
        "rope_type": "llama3", "rope_factor": factor, "rope_low_freq_factor": low, "rope_high_freq_factor": high,
        "rope_original_max_position_embeddings": int(origin),
    }  # fmt: skip
