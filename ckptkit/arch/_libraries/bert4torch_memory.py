"""The names that bert4torch's modules have in memory: what a model's `state_dict` holds, and its `save_weights` writes.

A model of two stacks keeps the table of words in both; a T5 the first layer's table of distances in every layer; a BART the two rows
before its positions behind them.

Source: bert4torch 0.6.2 models/base/modeling_base.py, models/albert, models/electra, models/gpt2, layers/transformer_block.py (q, k, v
apart in every model; norms and linears are called the same in all).
"""

from __future__ import annotations

from collections.abc import Mapping

from ckptkit.schema import TORCH, Besides, Derived, Dialect, Files, Lack

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


PARTS = {"attention": "multiHeadAttention", "cross_attention": "crossAttention"}
NORMS = {"attention": "attnLayerNorm", "cross_attention": "crossLayerNorm", "ffn": "ffnLayerNorm"}
# of a feed-forward that is gated, and of one that is not, the first matrix has one name
DENSE = {
    True: {"gate": "intermediateDense", "up": "intermediateDense1", "output": "outputDense"},
    False: {"intermediate": "intermediateDense", "output": "outputDense"},
}
AGAIN = "what bert4torch keeps in each layer of the first one's table"


def of_two_stacks(hf: Dialect, modules: Mapping[str, object], *, biased: bool = False, gated: bool = False) -> Dialect:
    """The same of a family with an encoder and a decoder: T5, 1.1 of it `gated`; BART, whose head of transformers is `biased`."""
    rows: dict[str, str | tuple[str, ...]] = {"encoder.embeddings.word_embeddings": "embeddings.word"}
    strays: dict[str, str] = {}
    for stack, holder, table in (("encoder", "layer", "embeddings"), ("decoder", "decoder_layer", "decoder_embeddings")):
        at, ours = f"{stack}.{stack}Layer.{{{holder}}}.", f"{stack}.layers.{{{holder}}}."
        own = {
            f"{stack}.embeddings.layerNorm": f"{table}.norm",
            **{f"{at}{name}.{part[0]}": f"{ours}{of}.{part}" for of, name in PARTS.items() for part in ("query", "key", "value", "output")},
            **{f"{at}feedForward.{name}": f"{ours}ffn.{part}" for part, name in DENSE[gated].items()},
            **{at + name: f"{ours}{of}.norm" for of, name in NORMS.items()},
            f"{stack}.final_layer_norm": f"{stack}.norm",
            f"{stack}.{stack}Layer.0.multiHeadAttention.relative_positions_encoding": f"{stack}.position_bias",
        }
        rows |= {theirs: mine for theirs, mine in own.items() if mine in modules}
        if f"{table}.reserved" in modules:
            places = f"*({'positions' if stack == 'encoder' else 'decoder_positions'} reserved) hidden"
            rows[f"{stack}.embeddings.position_embeddings.weight"] = (f"{table}.position.weight", f"{table}.reserved.weight", places)
        kept = ("relative_positions_encoding.weight", "relative_positions.relative_position")
        strays |= {f"{at}multiHeadAttention.{name}": AGAIN for name in kept if f"{stack}.position_bias" in modules}
    both = E + "ffn.gate" in modules
    made = memory(hf, {})
    return made._replace(
        name=made.name + "_gated" * gated, alias=made.name if gated else "",
        config=hf.config._replace(implied={**hf.config.implied, "gated": gated}) if both else hf.config,
        rows={**rows, "decoder.lm_head": "lm_head"},
        lacks={"lm_head.bias": Lack(0.0, why="bert4torch's head has no bias")} if biased else {},
        unties=frozenset({"lm_head.weight"}),
        besides=Besides(repeats={"decoder.embeddings.word_embeddings.weight": "embeddings.word.weight"}, strays=strays),
    )  # fmt: skip
