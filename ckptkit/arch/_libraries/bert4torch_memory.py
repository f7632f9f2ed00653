"""The names that bert4torch's modules have in memory: what a model's `state_dict` holds, and its `save_weights` writes.

Source: bert4torch 0.6.2 models/base/modeling_base.py, models/albert, models/electra, models/gpt2, layers/transformer_block.py (q, k, v
apart in every model; norms and linears are called the same in all).
"""

from __future__ import annotations

from collections.abc import Mapping

from ckptkit.schema import TORCH, Besides, Derived, Dialect, Files

E, M = "encoder.layers.{layer}.", "encoderLayer.{layer}."
D, W = "decoder.layers.{layer}.", "decoderLayer.{layer}."
NAMES: Mapping[str, str] = {
    "embeddings.word": "embeddings.word_embeddings", "embeddings.position": "embeddings.position_embeddings",
    "embeddings.segment": "embeddings.segment_embeddings", "embeddings.task": "embeddings.task_type_embeddings",
    "embeddings.norm": "embeddings.layerNorm", "embeddings.project": "embeddings.embedding_hidden_mapping_in",
    **{f"{E}attention.{part}": f"{M}multiHeadAttention.{part[0]}" for part in ("query", "key", "value", "output")},
    E + "attention.norm": M + "attnLayerNorm", E + "ffn.intermediate": M + "feedForward.intermediateDense",
    E + "ffn.output": M + "feedForward.outputDense", E + "ffn.norm": M + "ffnLayerNorm", "pooler": "pooler", "nsp": "nsp",
    "mlm.transform": "mlmDense", "mlm.norm": "mlmLayerNorm", "mlm.decoder": "mlmDecoder", "rtd.dense": "dense",
    "rtd.output": "dense_prediction", "uie.start": "linear_start", "uie.end": "linear_end",
    **{f"{D}attention.{part}": f"{W}multiHeadAttention.{part[0]}" for part in ("query", "key", "value", "output")},
    **{f"{D}attention.{part}_norm": f"{W}multiHeadAttention.{part[0]}_norm" for part in ("query", "key")},
    D + "attention.norm": W + "attnLayerNorm", D + "ffn.norm": W + "ffnLayerNorm", D + "ffn.gate": W + "feedForward.intermediateDense",
    D + "ffn.up": W + "feedForward.intermediateDense2", D + "ffn.intermediate": W + "feedForward.intermediateDense",
    D + "ffn.output": W + "feedForward.outputDense", "decoder.norm": "LayerNormFinal", "lm_head": "lm_head",
}  # fmt: skip


def memory(hf: Dialect, modules: Mapping[str, object], *, derived: Mapping[str, Derived] = {}) -> Dialect:
    """A family's names in memory, of its naming in transformers, whose configuration it keeps. Its heads for tasks are the user's own."""
    rows = {theirs: ours for ours, theirs in NAMES.items() if ours in modules}
    again = {"mlmBias": "mlm.decoder.bias"} if "mlm.decoder" in modules else {}
    return Dialect(
        name="bert4torch_memory",
        title="bert4torch (its modules in memory)",
        style=TORCH,
        container="torch",
        filename="pytorch_model.bin",
        rows=rows,
        lacks=hf.lacks,
        unties=frozenset({"lm_head.weight"}) if getattr(modules.get("lm_head"), "tied", None) else frozenset(),
        besides=Besides(repeats=again, derived=derived),
        files=Files(),
        config=hf.config,
    )
