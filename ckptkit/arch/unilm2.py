"""UniLM v2: BERT with query, key and value in one matrix, no bias of the key, and perhaps a bias of bucketed relative positions.

Source: microsoft/unilm s2s-ft/s2s_ft/convert_state_dict.py (`unilm_to_hf_bert`: the fused names, which bias is missing,
where `rel_pos_bias` lies in both forms), modeling.py (what s2s-ft saves of a fine-tuned model), config.py,
configuration_unilm.py.
"""

from __future__ import annotations

from ckptkit.arch.bert import ARCHITECTURE as BERT
from ckptkit.arch.bert import DEFAULTS, HF_ACTIVATIONS, MODULES, SIZES
from ckptkit.arch.unilm import TRAINING
from ckptkit.schema import Architecture, ConfigForm, Dialect, Key, Lack, linear

L = "encoder.layers.{layer}.attention."
S = "~encoder.layer.{layer}.attention.self."
HF = BERT.dialects["hf"]._replace(lacks={})

KEYS: dict[str, str | Key] = {
    **SIZES,
    "hidden_act": Key("activation", words=HF_ACTIVATIONS),
    "layer_norm_eps": "norm_eps",
    "rel_pos_bins": Key("buckets", required=False),
    "max_rel_pos": Key("farthest", required=False),
}
CONFIG = ConfigForm(
    filename="config.json",
    keys=KEYS,
    defaults={**DEFAULTS, "norm_eps": 1e-12, "activation": "gelu"},
    also={"source_type_id": 0, "target_type_id": 1},
)

FAST_ROWS: dict[str, str | tuple[str, ...]] = {
    **{name: module for name, module in HF.rows.items() if not name.startswith(S)},
    "~encoder.rel_pos_bias | rel_pos_bias": "encoder.relative",
    S + "qkv_linear.weight": (L + "query.weight", L + "key.weight", L + "value.weight", "*(heads head_dim) hidden"),
    S + "q_bias": (L + "query.bias", "1 1 (heads head_dim)"),
    S + "v_bias": (L + "value.bias", "1 1 (heads head_dim)"),
}
TUNED_ROWS: dict[str, str | tuple[str, ...]] = {
    **{name: module for name, module in HF.rows.items() if module != "mlm.decoder.weight"},
    "cls.predictions.decoder_weight | cls.predictions.decoder.weight": "mlm.decoder.weight",
    "~rel_pos_bias | encoder.rel_pos_bias": "encoder.relative",
}


def _dialect(name: str, title: str, rows: dict[str, str | tuple[str, ...]], lacks: dict[str, Lack]) -> Dialect:
    return HF._replace(
        name=name,
        title=title,
        rows=rows,
        lacks=lacks,
        container="torch",
        filename="pytorch_model.bin",
        besides=HF.besides._replace(strays=TRAINING),
        config=CONFIG,
        classes=(),
    )


ARCHITECTURE = Architecture(
    name="unilm2",
    extends="bert",
    title="UniLM v2",
    traits={**BERT.traits, "bucket_distance": "=farthest"},
    names=("unilm",),
    modules={**MODULES, "encoder.relative": linear("heads", "buckets", bias=False, optional=True)},
    relations=("hidden = heads head_dim", "pooled = hidden", "transformed = hidden"),
    fixed=BERT.fixed,
    rank=3,
    variants={
        "unilm2-base": {"layers": 12, "hidden": 768, "heads": 12},
        "unilm2-large": {"layers": 24, "hidden": 1024, "heads": 16},
        "unilm2-base-uncased": {"layers": 12, "hidden": 768, "heads": 12, "vocab": 30522},
        "unilm2-large-uncased": {"layers": 24, "hidden": 1024, "heads": 16, "vocab": 30522},
        "unilm2-large-cased": {"layers": 24, "hidden": 1024, "heads": 16, "vocab": 28996},
    },
    dialects=(
        _dialect(
            "unilm", "UniLM v2 (fused query, key and value)", FAST_ROWS,
            {L + "key.bias": Lack(0.0,
                harmless="a bias of the key adds one number to all scores of a query, which the softmax takes away")},
        ),
        _dialect("s2s", "s2s-ft (fine-tuned UniLM)", TUNED_ROWS, {}),
        HF._replace(
            title="transformers (PyTorch), as BERT",
            config=HF.config._replace(keys={**HF.config.keys, "rel_pos_bins": KEYS["rel_pos_bins"], "max_rel_pos": KEYS["max_rel_pos"]}),
        ),
    ),
)  # fmt: skip
