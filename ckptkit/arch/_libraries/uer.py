"""UER-py: one set of names for every encoder, its parts by their kind and number; norms with gamma and beta.

Its segments are 0 for padding, then 1 and 2; its BERT pools in the target that tells sentence pairs apart, or in the classifier. A GPT-2
is its transformer with the norms first. Its norms divide by the standard deviation of a sample (one less than the width) and add epsilon
to that: its own conversion scripts, and these rows, take no account of it.

Source: dbiir/UER-py uer/embeddings, uer/encoders/transformer_encoder.py, uer/layers, uer/targets, finetune/run_classifier.py,
models/*/config.json; the older names (before 2022) from its scripts/convert_bert_from_uer_to_huggingface.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from ckptkit.schema import TORCH, ConfigForm, Dialect, Key, Style

Rows = dict[str, str | tuple[str, ...]]

STYLE: Style = {**TORCH, "norm": {"weight": ("canonical", ".gamma"), "bias": ("canonical", ".beta")}}
U = "encoder.transformer.{layer}."
ACTIVATIONS = {"gelu": "gelu", "gelu_fast": "gelu_tanh", "relu": "relu", "silu": "silu", "linear": "linear"}
WORDS = "embedding.word.embedding | embedding.word_embedding"
PLACES = "embedding.pos.embedding | embedding.position_embedding"
SEGMENTS = "embedding.seg.embedding.weight | embedding.segment_embedding.weight"


def layers(at: str) -> Rows:
    """The rows of a layer whose canonical modules lie at `at`."""
    return {
        U + "self_attn.linear_layers.0": at + "attention.query",
        U + "self_attn.linear_layers.1": at + "attention.key",
        U + "self_attn.linear_layers.2": at + "attention.value",
        U + "self_attn.final_linear": at + "attention.output",
        U + "layer_norm_1": at + "attention.norm",
        U + "feed_forward.linear_1": at + "ffn.intermediate",
        U + "feed_forward.linear_2": at + "ffn.output",
        U + "layer_norm_2": at + "ffn.norm",
    }


def _form(defaults: Mapping[str, object], mask: str, also: Mapping[str, object]) -> ConfigForm:
    return ConfigForm(
        filename="config.json",
        keys={
            "emb_size": "hidden",
            "hidden_size": "hidden",
            "feedforward_size": "intermediate",
            "heads_num": "heads",
            "layers_num": "layers",
            "max_seq_length": "positions",
            "dropout": Key("dropout", more=("attention_dropout",)),
            "hidden_act": Key("activation", words=ACTIVATIONS),
            "tie_weights": "tied",
        },
        marks={"encoder": "transformer", "mask": mask},
        implied={"norm_eps": 1e-6},
        defaults={**defaults, "tied": False},
        also=also,
        usual=dict.fromkeys(("data_processor", "embedding", "target"), ...),  # the tensors say which embeddings and targets there are
    )


# uer/layers/layer_norm.py: x.std(-1) is the sample's, with n - 1, and epsilon is added to it, not to the variance
NORMS = "its norms divide by the standard deviation of a sample (n - 1) with 1e-6 added, not by the root of the variance with it"


def bert(at: str, defaults: Mapping[str, object]) -> Dialect:
    """BERT, with layers at `at`."""
    return Dialect(
        name="uer",
        title="UER-py (PyTorch)",
        style=STYLE,
        computes=NORMS,
        container="torch",
        filename="pytorch_model.bin",
        rows={
            WORDS: "embeddings.word",
            PLACES: "embeddings.position",
            SEGMENTS: ("embeddings.segment_of_padding.weight", "embeddings.segment.weight", "*(padding_segments segments) hidden"),
            "embedding.layer_norm": "embeddings.norm",
            **layers(at),
            "target.mlm.linear_1 | target.mlm_linear_1": "mlm.transform",
            "target.mlm.layer_norm | target.layer_norm": "mlm.norm",
            "target.mlm.linear_2 | target.mlm_linear_2": "mlm.decoder",
            "target.sp.linear_1 | target.sp_linear_1 | target.nsp_linear_1 | output_layer_1": "pooler",
            "target.sp.linear_2 | target.sp_linear_2 | target.nsp_linear_2": "nsp",
            "output_layer_2": "classifier",
        },
        config=_form(defaults, "fully_visible", {"embedding": ["word", "pos", "seg"], "data_processor": "bert", "target": ["mlm", "sp"]}),
    )


def gpt2(at: str, defaults: Mapping[str, object]) -> Dialect:
    """GPT-2, with layers at `at`."""
    form = _form(defaults, "causal", {"embedding": ["word", "pos"], "data_processor": "lm", "target": ["lm"]})
    return Dialect(
        name="uer",
        title="UER-py (PyTorch)",
        style=STYLE,
        computes=NORMS,
        container="torch",
        filename="pytorch_model.bin",
        rows={
            WORDS: "embeddings.word",
            PLACES: "embeddings.position",
            **layers(at),
            "encoder.layer_norm": "decoder.norm",
            "target.lm.output_layer.weight | target.output_layer.weight": "lm_head.weight",
        },
        config=form._replace(
            implied={**form.implied, "scaled": True, "scaled_by_layer": False},
            also={**form.also, "remove_embedding_layernorm": True, "layernorm_positioning": "pre"},
        ),
    )
