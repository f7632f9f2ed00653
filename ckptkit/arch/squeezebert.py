"""SqueezeBERT: BERT whose linear layers are convolutions of one position in groups, each of which sees its share of the columns.

Source: transformers models/squeezebert (names, classes; the norms of its layers have an epsilon of their own).
"""

from ckptkit.arch._libraries.encoders import (
    BERT_CLASSES,
    BERT_HEAD_ROWS,
    BERT_HEADS,
    RELATIONS,
    L,
    classes,
    form,
    hf,
    traits,
)
from ckptkit.arch._libraries.transformers import EMBEDDINGS
from ckptkit.arch.bert import MODULES as BERT
from ckptkit.schema import Architecture, Key, linear

H = "~encoder.layers.{layer}."
HEADS = "(heads head_dim)"
GROUPED = {  # canonical module -> its name, its rows, what a group of it sees, the key that counts its groups
    L + "attention.query": (H + "attention.query", HEADS, "query_in", "q_groups"),
    L + "attention.key": (H + "attention.key", HEADS, "key_in", "k_groups"),
    L + "attention.value": (H + "attention.value", HEADS, "value_in", "v_groups"),
    L + "attention.output": (H + "post_attention.conv1d", "hidden", "context_in", "post_attention_groups"),
    L + "ffn.intermediate": (H + "intermediate.conv1d", "intermediate", "hidden_in", "intermediate_groups"),
    L + "ffn.output": (H + "output.conv1d", "hidden", "intermediate_in", "output_groups"),
}
OF = {"intermediate_in": "intermediate"}  # what the groups share, where it is not the hidden states
MODULES = {
    **{k: m for k, m in BERT.items() if k != "nsp"},
    **{k: linear(rows.strip("()"), seen) for k, (_, rows, seen, _) in GROUPED.items()},
}
SKIPPED = ("ForPreTraining", "ForNextSentencePrediction", "ForCausalLM")
POOLED = tuple((name, groups | {"pooler"}) for name, groups in BERT_CLASSES)  # its classes have the pooler all

ARCHITECTURE = Architecture(
    name="squeezebert",
    title="SqueezeBERT",
    modules=MODULES,
    traits=traits(grouped=True, block_eps=1e-12, heads={k: v for k, v in BERT_HEADS.items() if k != "nsp"}),
    relations=(
        *RELATIONS,
        "embedding = hidden",
        *(f"{OF.get(seen, 'hidden')} = {groups} {seen}" for _, _, seen, groups in GROUPED.values()),
    ),
    fixed={"qa_labels": 2},
    variants={"squeezebert-uncased": {"layers": 12, "hidden": 768, "heads": 12, "vocab": 30528}},
    dialects=(
        hf(
            {
                **EMBEDDINGS,
                **{f"{name}.weight": (f"{k}.weight", f"{rows} {seen} 1") for k, (name, rows, seen, _) in GROUPED.items()},
                **{f"{name}.bias": f"{k}.bias" for k, (name, _, _, _) in GROUPED.items()},
                H + "post_attention.layernorm": L + "attention.norm",
                H + "output.layernorm": L + "ffn.norm",
                **{k: v for k, v in BERT_HEAD_ROWS.items() if v != "nsp"},
            },
            form(
                "squeezebert",
                keys={
                    "embedding_size": Key("embedding", required=False),
                    **{groups: Key(groups, required=False) for _, _, _, groups in GROUPED.values()},
                },
                defaults={
                    "embedding": "=hidden", "q_groups": 4, "k_groups": 4, "v_groups": 4, "post_attention_groups": 1,
                    "intermediate_groups": 4, "output_groups": 4,
                },
            ),
            classes("SqueezeBert", POOLED, SKIPPED),
            prefixes=("transformer.", ""),
        ),
    ),
)  # fmt: skip
