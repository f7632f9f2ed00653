"""How PaddleNLP names BERT and ERNIE: its `paddle` dialects. Matrices are (in, out); the table of words, which its decoder shares, is in
paddle.save's files under both names.

Sources: paddlenlp/transformers/{bert,ernie}/modeling.py, paddle nn/layer/transformer.py (self_attn, linear1, norm1), and the check of
model_utils.py that a safetensors file says the format "np" or "pd".
"""

from __future__ import annotations

from collections.abc import Mapping

from ckptkit.schema import CONV1D, Besides, Dialect, Files

L = "encoder.layers.{layer}."
H = "~encoder.layers.{layer}."
_ROWS: dict[str, str | tuple[str, ...]] = {
    "~embeddings.word_embeddings": "embeddings.word",
    "~embeddings.position_embeddings": "embeddings.position",
    "~embeddings.token_type_embeddings": "embeddings.segment",
    "~embeddings.layer_norm": "embeddings.norm",
    H + "self_attn.q_proj": L + "attention.query",
    H + "self_attn.k_proj": L + "attention.key",
    H + "self_attn.v_proj": L + "attention.value",
    H + "self_attn.out_proj": L + "attention.output",
    H + "norm1": L + "attention.norm",
    H + "linear1": L + "ffn.intermediate",
    H + "linear2": L + "ffn.output",
    H + "norm2": L + "ffn.norm",
    "~pooler.dense": "pooler",
    "cls.predictions.transform": "mlm.transform",
    "cls.predictions.layer_norm": "mlm.norm",
    "cls.predictions.decoder_weight": "mlm.decoder.weight",
    "cls.predictions.decoder_bias": "mlm.decoder.bias",
    "cls.seq_relationship": "nsp",
    "classifier": "classifier",
}


def paddle(disk: Dialect, prefix: str, more: Mapping[str, str | tuple[str, ...]] = {}) -> Dialect:
    """The dialect of a family whose names in transformers are `disk`'s; `more`: further rows."""
    return disk._replace(
        name="paddle", title="PaddleNLP", style=CONV1D, prefixes=(prefix, ""), prefixed=False, rows={**_ROWS, **more},
        classes=tuple(c for c in disk.classes if "qa" not in c.groups),
        besides=Besides(), files=Files(metadata={"format": "np"}, sidecars=disk.files.sidecars, ties=False),
    )  # fmt: skip
