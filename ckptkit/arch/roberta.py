"""RoBERTa: BERT without segments, positions offset by the padding index, a head of its own.

Source: fairseq models/roberta/model.py, modules/transformer_sentence_encoder.py, checkpoint_utils.py;
transformers models/roberta (its conversion of fairseq names too).
"""

from __future__ import annotations

from collections.abc import Mapping

from ckptkit.arch._libraries import gguf_others
from ckptkit.arch._libraries import keras_hub as hub
from ckptkit.arch._libraries.transformers import BYTE_PAIRS, DERIVED, HF_KEYS, flax, tf
from ckptkit.arch._libraries.transformers import EMBEDDINGS as HF_EMBEDDINGS
from ckptkit.arch._libraries.transformers import LAYERS as HF_LAYERS
from ckptkit.arch.bert import DEFAULTS, MLM_OWN, SIZES
from ckptkit.arch.bert import MODULES as BERT
from ckptkit.schema import (
    TORCH,
    Architecture,
    Besides,
    Class,
    ConfigForm,
    Dialect,
    Files,
    Key,
    Lack,
    Reader,
    Repeat,
    Vocabulary,
    Writer,
    embedding,
    linear,
    norm,
)
from ckptkit.schema.library_names import AGAIN

L = "encoder.layers.{layer}."

MODULES = {
    "embeddings.word": BERT["embeddings.word"],
    "embeddings.reserved": embedding("reserved hidden"),  # the rows up to the padding index: what padding uses
    **{k: m for k, m in BERT.items() if m.group in ("core", "pooler") and k != "embeddings.word"},
    "mlm.transform": linear("transformed", "hidden", group="mlm"),
    "mlm.norm": norm("transformed", group="mlm"),
    "mlm.decoder": linear("vocab", "transformed", group="mlm", tied={"weight": "embeddings.word.weight"}),
    "classification.dense": linear("pooled", "hidden", group="classification"),
    "classification.output": linear("labels", "pooled", group="classification"),
    "classifier": linear("labels", "hidden", group="classifier"),
    "qa": linear("qa_labels", "hidden", group="qa"),
}

# one table, of which positions begin after the padding index, 1
POSITIONS = ("embeddings.reserved.weight", "embeddings.position.weight", "*(reserved positions) hidden")

F = "~sentence_encoder.layers.{layer}."
HEAD = "classification_heads.sentence_classification_head."

FAIRSEQ_ROWS: dict[str, str | tuple[str, ...]] = {
    "~sentence_encoder.embed_tokens": "embeddings.word",
    "~sentence_encoder.embed_positions.weight": POSITIONS,
    "~sentence_encoder.layernorm_embedding | sentence_encoder.emb_layer_norm": "embeddings.norm",
    F + "self_attn.q_proj": L + "attention.query",
    F + "self_attn.k_proj": L + "attention.key",
    F + "self_attn.v_proj": L + "attention.value",
    F + "self_attn.out_proj": L + "attention.output",
    F + "self_attn_layer_norm": L + "attention.norm",
    F + "fc1": L + "ffn.intermediate",
    F + "fc2": L + "ffn.output",
    F + "final_layer_norm": L + "ffn.norm",
    "~lm_head.dense": "mlm.transform",
    "~lm_head.layer_norm": "mlm.norm",
    "~lm_head.weight": "mlm.decoder.weight",
    "~lm_head.bias": "mlm.decoder.bias",
    HEAD + "dense": "classification.dense",
    HEAD + "out_proj": "classification.output",
}
# the older code joined query, key and value in one tensor and named the embeddings' norm otherwise
FAIRSEQ_OLD_ROWS: dict[str, str | tuple[str, ...]] = {
    **{k: v for k, v in FAIRSEQ_ROWS.items() if "_proj" not in k or "out_proj" in k},
    F + "self_attn.in_proj_weight": (
        L + "attention.query.weight", L + "attention.key.weight", L + "attention.value.weight", "*(heads head_dim) hidden",
    ),
    F + "self_attn.in_proj_bias": (
        L + "attention.query.bias", L + "attention.key.bias", L + "attention.value.bias", "*(heads head_dim)",
    ),
}  # fmt: skip
del FAIRSEQ_OLD_ROWS["~sentence_encoder.layernorm_embedding | sentence_encoder.emb_layer_norm"]
FAIRSEQ_OLD_ROWS["~sentence_encoder.emb_layer_norm | sentence_encoder.layernorm_embedding"] = "embeddings.norm"

FAIRSEQ_KEYS: dict[str, str | Key] = {
    "encoder_layers": "layers",
    "encoder_embed_dim": "hidden",
    "encoder_ffn_embed_dim": "intermediate",
    "encoder_attention_heads": "heads",
    "activation_fn": Key(
        "activation",
        words={"gelu": "gelu", "gelu_accurate": "gelu_tanh", "gelu_fast": "gelu_tanh", "relu": "relu", "tanh": "tanh", "linear": "linear"},
    ),
    "max_positions": "positions",
    "dropout": "dropout",
    "attention_dropout": "attention_dropout",
}
KIN = ("roberta", "xlm-roberta", "camembert")  # the same model; what they split text into is another matter
TASK = "multilingual_masked_lm"  # XLM-R's, whose options are else RoBERTa's


_TOLD = frozenset(("arch", "_name", "encoder_layers", "decoder_layers"))  # Megatron keeps its `args` too, and has none of these


def read_fairseq(extras: Mapping[str, object]) -> dict[str, object] | None:
    """The model's options in a fairseq file: `cfg.model` (new) or the attributes of `args` (old); None of other programs' arguments. "kin"
    is which of RoBERTa's models it is, where the task says it."""
    cfg = extras.get("cfg")
    options = cfg.get("model") if isinstance(cfg, Mapping) else None
    found = options if options is not None else extras.get("args")
    found = getattr(found, "state", found)
    if not isinstance(found, Mapping) or _TOLD.isdisjoint(found):
        return None
    task = cfg.get("task") if isinstance(cfg, Mapping) else None
    named = task.get("_name") if isinstance(task, Mapping) else found.get("task")
    return {str(k): v for k, v in found.items()} | ({"kin": "xlm-roberta"} if named == TASK else {})


def _of_kin(raw: dict[str, object]) -> dict[str, object]:
    """The options with the task that says which of its models it is."""
    return {k: v for k, v in raw.items() if k != "kin"} | ({"task": TASK} if raw.get("kin") == "xlm-roberta" else {})


def write_fairseq(raw: dict[str, object]) -> dict[str, object]:
    """What fairseq's loader expects beside `model`: `args` None and the options as a plain dict."""
    raw = _of_kin(raw)
    task = {"_name": raw.get("task", "masked_lm")}
    return {"args": None, "cfg": {"_name": None, "model": {**raw, "_name": "roberta"}, "task": task}}


def write_fairseq_old(raw: dict[str, object]) -> dict[str, object]:
    """The older form: `args` is an argparse.Namespace."""
    from ckptkit.support.opaque import Opaque

    return {"args": Opaque("argparse", "Namespace", (), _of_kin(raw))}


NO_RESERVED = {
    "embeddings.reserved.weight": Lack(0.0, {"reserved": 2}, harmless="only padding uses the first two rows of the position table"),
}
NO_SEGMENTS = {
    "embeddings.segment.weight": Lack(
        0.0, {"segments": 1}, fold="embeddings.position.weight", why="RoBERTa has no segments; transformers has one row of them"
    )
}


def _fairseq(name: str, title: str, rows: Mapping[str, str | tuple[str, ...]], write: object) -> Dialect:
    return Dialect(
        name=name,
        title=title,
        alias="fairseq",
        style=TORCH,
        prefixes=("decoder.", "encoder.") if name == "fairseq_old" else ("encoder.", "decoder."),
        container="torch",
        filename="model.pt",
        files=Files(wrapper="model"),
        rows=rows,
        besides=Besides(strays={"~sentence_encoder.version": "fairseq's version marker"}),
        lacks=NO_SEGMENTS,
        config=ConfigForm(
            filename="",
            keys={**FAIRSEQ_KEYS, "kin": Key("kin", words={n: n for n in KIN}, required=False)},
            implied={"norm_eps": 1e-5},
            defaults={**DEFAULTS, "activation": "gelu", "tied": True},
            also={"arch": "roberta_base", "task": "masked_lm", "pooler_activation_fn": "tanh", "activation_dropout": 0.0},
            reader=Reader(extras=read_fairseq),
            writer=Writer(extras=write),  # type: ignore[arg-type]
        ),
    )


TRAITS = {
    "encoder": "encoder.layers.{layer}",
    "positions": "counted",
    "pad": "=pad",
    "own": MLM_OWN,
    "heads": {"pooler": "pooler", "mlm": "lm", "classification": "first", "classifier": "pooled_or_tokens", "qa": "tokens"},
}

# by each of its models' names; first come those that are written where no configuration names one
CLASSES = tuple(
    Class(family + name, frozenset(groups), labels=labels)
    for family in ("Roberta", "XLMRoberta", "Camembert")
    for name, groups, labels in (
        ("Model", {"pooler"}, None), ("ForMaskedLM", {"mlm"}, None), ("ForSequenceClassification", {"classification"}, None),
        ("ForTokenClassification", {"classifier"}, None), ("ForQuestionAnswering", {"qa"}, None),
        ("ForMultipleChoice", {"pooler", "classifier"}, 1),
        ("ForCausalLM", {"mlm"}, None),
    )
)  # fmt: skip

HF = Dialect(
    name="hf",
    title="transformers (PyTorch)",
    style=TORCH,
    prefixes=("roberta.", ""),
    rows={
        **{k: v for k, v in HF_EMBEDDINGS.items() if v != "embeddings.position"},
        "~embeddings.position_embeddings.weight": POSITIONS,
        **HF_LAYERS,
        "~pooler.dense": "pooler",
        "lm_head.dense": "mlm.transform",
        "lm_head.layer_norm": "mlm.norm",
        "lm_head.decoder.weight": "mlm.decoder.weight",
        "lm_head.bias": "mlm.decoder.bias",
        "classifier.dense": "classification.dense",
        "classifier.out_proj": "classification.output",
        "classifier": "classifier",
        "qa_outputs": "qa",
    },
    besides=Besides(repeats={"lm_head.decoder.bias": Repeat("mlm.decoder.bias", apart=True)}, derived=DERIVED),
    classes=CLASSES,
    files=Files(metadata={"format": "pt"}, sidecars=BYTE_PAIRS),
    config=ConfigForm(
        filename="config.json",
        keys={
            **SIZES,
            "max_position_embeddings": Key("positions", shift=-2),
            "model_type": Key("kin", words={n: n for n in KIN}, required=False),
            **HF_KEYS,
        },
        labels=True,
        marks={"model_type": "roberta"},
        defaults={**DEFAULTS, "norm_eps": 1e-12, "activation": "gelu", "tied": True, "pad": 1},
        also={"bos_token_id": 0, "eos_token_id": 2},
    ),
)

TF_POSITIONS = "embeddings/position_embeddings"
TRUNK = HF._replace(rows={k: v for k, v in HF.rows.items() if v != POSITIONS})

ARCHITECTURE = Architecture(
    name="roberta",
    title="RoBERTa",
    called=("roberta",),
    names=("xlm-roberta", "camembert"),
    rank=1,
    usual=(("embeddings.segment.weight", 0, 1),),
    modules=MODULES,
    traits=TRAITS,
    relations=("hidden = heads head_dim", "pooled = hidden", "transformed = hidden"),
    fixed={"qa_labels": 2, "reserved": 2},
    variants={
        "roberta-base": {"layers": 12, "hidden": 768, "heads": 12},
        "roberta-large": {"layers": 24, "hidden": 1024, "heads": 16},
        "distilroberta-base": {"layers": 6, "hidden": 768, "heads": 12},
        "xlm-roberta-base": {"layers": 12, "hidden": 768, "heads": 12, "vocab": 250002},
        "xlm-roberta-large": {"layers": 24, "hidden": 1024, "heads": 16, "vocab": 250002},
    },
    dialects=(
        HF,
        tf(
            MODULES,
            TRUNK,
            "roberta/",
            shared={"lm_head": "mlm"},
            rows={" | ".join(f"~{TF_POSITIONS}/{n}" for n in ("embeddings", "weight")): POSITIONS},
            repeats={" | ".join(f"{AGAIN}lm_head/roberta/{TF_POSITIONS}/{n}" for n in ("embeddings", "weight")): Repeat(POSITIONS, "mlm")},
        ),
        flax(MODULES, TRUNK, rows={"~embeddings/position_embeddings/embedding": POSITIONS}),
        hub.backbone(
            ("RobertaBackbone", "XLMRobertaBackbone"),
            "roberta.roberta_backbone",
            (hub.JOINT, hub.NORM, hub.ENCODER),
            {**hub.JOINT_EMBEDDINGS, **hub.LAYERS, **hub.MLM, **hub.DEEP_CLASSIFIER},
            keys={
                **hub.SIZES,
                hub.CLASS: Key(
                    "kin", words={"RobertaBackbone": "roberta", "XLMRobertaBackbone": "xlm-roberta", "": "camembert"}, required=False
                ),
            },
            implied={"activation": "gelu", "norm_eps": 1e-5, "pad": 1},
            needs=(),
            lacks={**NO_SEGMENTS, **NO_RESERVED},
            classifies=("classification",),
            words=Vocabulary(hub.BYTE_PAIRS, ("<s>", "</s>", "<pad>", "<mask>")),
        ),
        gguf_others.roberta(NO_RESERVED),
        _fairseq("fairseq_new", "fairseq (query, key, value apart)", FAIRSEQ_ROWS, write_fairseq),
        _fairseq("fairseq_old", "fairseq before 0.9 (fused in_proj)", FAIRSEQ_OLD_ROWS, write_fairseq_old),
    ),
)
