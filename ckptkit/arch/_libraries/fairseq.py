"""How fairseq names an encoder-decoder, in its model.pt: transformers took these names over, and joined the tables of words.

Beside `model` lie `args` (an argparse.Namespace, before 1.0) or `cfg` (since). Positions that are learned begin after two rows, as in
transformers. Source: fairseq models/transformer, models/bart, checkpoint_utils.py (`args`, `cfg`); transformers 4 models/bart, mbart and
m2m_100 convert_*_original_*.py (what is left out, which table is shared).
"""

from __future__ import annotations

from collections.abc import Mapping

from ckptkit.arch._libraries.decoder_words import may
from ckptkit.arch.roberta import FAIRSEQ_KEYS, read_fairseq
from ckptkit.schema import TORCH, Besides, ConfigForm, Dialect, Files, Key, Lack, Library, Reader, Repeat, Writer

KEYS: dict[str, str | Key] = {
    **{k: v for k, v in FAIRSEQ_KEYS.items() if k != "max_positions"},
    "decoder_layers": "decoder_layers",
    "decoder_attention_heads": "decoder_heads",
    "decoder_ffn_embed_dim": "decoder_intermediate",
    "no_scale_embedding": Key("scale_embedding", words={True: False, False: True}, required=False),
    "share_decoder_input_output_embed": may("tied"),
}
NO_BIAS = {"lm_head.bias": Lack(0.0, why="fairseq's head has no bias")}


def fairseq(
    hf: Dialect, arch: str, task: str, *, tables: bool, defaults: Mapping[str, object], means: Mapping[str, bool], biased: bool = True,
) -> Dialect:  # fmt: skip
    """The naming of a family whose names in transformers are `hf`'s. `arch`, `task`: what fairseq calls it; `tables`: whether positions are
    learned; `means`: the options that make it this family."""

    def write(raw: dict[str, object]) -> dict[str, object]:
        options = {**raw, **means, "_name": arch, "arch": arch, "task": task, "share_all_embeddings": True, "encoder_learned_pos": tables,
            "decoder_learned_pos": tables}  # fmt: skip
        return {"args": None, "cfg": {"_name": None, "model": options, "task": {"_name": task}}}

    rows = {k.removeprefix("~"): v for k, v in hf.rows.items() if k not in ("~shared", "lm_head.weight", "final_logits_bias", "qa_outputs")}
    heads = {k: v for k, v in rows.items() if k.startswith("classification_head.")}
    rows = {k: v for k, v in rows.items() if k not in heads}
    rows |= {k.replace("classification_head.", "classification_heads.sentence_classification_head."): v for k, v in heads.items()}
    where: dict[str, str | Key] = (
        {"max_source_positions": "positions", "max_target_positions": "decoder_positions"}
        if tables
        else {"max_source_positions": may("max_positions")}
    )
    return Dialect(
        name="fairseq",
        title="fairseq",
        style=TORCH,
        container="torch",
        filename="model.pt",
        files=Files(wrapper="model"),
        rows={
            "encoder.embed_tokens": "embeddings.word",
            **rows,
            "decoder.output_projection.weight": "lm_head.weight",
        },
        besides=Besides(
            repeats={"decoder.embed_tokens.weight": Repeat("embeddings.word.weight")},
            strays={
                **{f"{stack}.version": "fairseq's version marker" for stack in ("encoder", "decoder")},
                **{f"{stack}.embed_positions._float_tensor": "what fairseq reads a dtype off" for stack in ("encoder", "decoder")},
            },
        ),
        lacks=NO_BIAS if biased else {},
        unties=frozenset({"lm_head.weight"}) if biased else frozenset(),  # the head's only tensor, which says that it is there
        library=Library(needs=frozenset({"lm"}) if biased else frozenset()),
        config=ConfigForm(
            filename="",
            keys={**KEYS, **where},
            implied={"norm_eps": 1e-5, "pad": 1, "eos": 2},
            defaults={"activation": "relu", "tied": True, "scale_embedding": True, "dropout": 0.1, "attention_dropout": 0.0, **defaults},
            reader=Reader(extras=read_fairseq),
            writer=Writer(extras=write),
            usual=dict.fromkeys(("share_all_embeddings", "_name"), ...),
        ),
    )
