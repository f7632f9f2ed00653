"""EXAONE 4: norms after each part, norms of each head's query and key, rotary positions in the layers with a window only.

Source: transformers models/exaone4.
"""

from __future__ import annotations

from collections.abc import Iterator

from ckptkit.arch._libraries.decoders import WORDS, Values, attention, decoder, flags, gated, hf, last, may
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch._libraries.gguf import Window, gguf
from ckptkit.arch.llama import shape
from ckptkit.arch.olmo2 import AFTER

MODULES = {**WORDS, **attention(norms=AFTER, qk_norm="head_dim"), **gated(norms=AFTER), **last()}
HF = hf(
    "exaone4", "Exaone4", MODULES,
    keys={**flags("layer_types", "sliding_window_pattern"), "sliding_window": may("window")},
    defaults={"activation": "silu", "norm_eps": 1e-5},
)  # fmt: skip


def windowed_where_it_is_large(values: Values) -> Iterator[tuple[str, str]]:
    """llama.cpp has a window, and layers that are not turned, in models of 64 layers only."""
    if bool(values.get("window")) is not (values.get("layers") == 64):
        yield "window", "its code of this architecture has a window in models of 64 layers, and in no other"


GGUF = gguf(
    "exaone4", MODULES, implied={"activation": "silu"}, rope=("freqs",), window=Window("types 4", own=True),
    conflicts=windowed_where_it_is_large,
)  # fmt: skip

ARCHITECTURE = decoder(
    "exaone4", "EXAONE 4", MODULES, HF, GGUF,
    rank=1,
    traits=runs(window="=window", sliding="types 4", rotary_in="sliding_or_no_window"),
    variants={"exaone-4-1.2b": shape(30, 2048, 32, 8, 4096, 102400), "exaone-4-32b": shape(64, 5120, 40, 8, 27392, 102400)},
)  # fmt: skip
