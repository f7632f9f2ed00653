"""What the tables of decoders and the namings of GGUF share: apart, since BERT's table needs no more of them (1 ms of each start)."""

from __future__ import annotations

from ckptkit.schema import Key

D = "decoder.layers.{layer}."
E = D + "moe.experts.{expert}."


def may(canonical: str) -> Key:
    """A key that may be missing."""
    return Key(canonical, required=False)
