"""UniLM v1: BERT's names with a segment for every role a token has in four tasks, and two switches for tables that each task has its
own of.

Source: microsoft/unilm unilm-v1/src/pytorch_pretrained_bert/modeling.py (names, LayerNorm's 1e-5, erf, `new_pos_ids`,
`relax_projection`), biunilm/run_seq2seq.py (how the published files are used: with BERT's configuration and
`--new_segment_ids`). Six segments tell it from BERT, whose names it has; the file decides their number.
"""

from ckptkit.arch.bert import ARCHITECTURE as BERT
from ckptkit.arch.bert import DEFAULTS, MODULES, SIZES
from ckptkit.schema import TORCH, Architecture, Besides, ConfigForm, Dialect, Key, embedding, linear, norm

ACTIVATIONS = {"gelu": "gelu", "relu": "relu", "swish": "silu"}
TRAINING = {"crit_mask_lm_smoothed.one_hot": "the target distribution of label smoothing, used in training only"}

ONE_TASK = "BERT has one table for all; UniLM v1 with {} has one for each of its four tasks"
LIMITS = {"tasks": (1, ONE_TASK.format("new_pos_ids")), "projections": (1, ONE_TASK.format("relax_projection"))}

ARCHITECTURE = Architecture(
    name="unilm",
    title="UniLM v1",
    traits={**BERT.traits, "only": {"tasks": 1, "projections": 1}},
    modules={
        **MODULES,
        "embeddings.position": embedding("positions (tasks hidden)"),
        "mlm.transform": linear("projections transformed", "hidden", group="mlm"),
        "mlm.norm": norm("(projections transformed)", group="mlm"),
    },
    relations=("hidden = heads head_dim", "pooled = hidden", "transformed = hidden"),
    fixed=BERT.fixed,
    rank=2,
    signature=(("embeddings.segment.weight", 0, 6),),
    variants={
        "unilm-base": {"layers": 12, "hidden": 768, "heads": 12},
        "unilm-large": {"layers": 24, "hidden": 1024, "heads": 16},
        "unilm1-base-cased": {"layers": 12, "hidden": 768, "heads": 12, "vocab": 28996},
        "unilm1-large-cased": {"layers": 24, "hidden": 1024, "heads": 16, "vocab": 28996},
    },
    dialects=(
        Dialect(
            name="unilm",
            title="unilm-v1 (pytorch_pretrained_bert)",
            style=TORCH,
            prefixes=("bert.", ""),
            container="torch",
            filename="pytorch_model.bin",
            rows=BERT.dialects["hf"].rows,
            besides=Besides(
                strays={**TRAINING, "~encoder.layer.{layer}.attention.self.debug_attention_probs": "attention kept for debugging"}
            ),
            config=ConfigForm(
                filename="bert_config.json",
                keys={
                    **SIZES,
                    "hidden_act": Key("activation", words=ACTIVATIONS),
                    "new_pos_ids": Key("tasks", words={False: 1, True: 4}, required=False),
                    "relax_projection": Key("projections", words={0: 1}, required=False),
                },
                implied={"norm_eps": 1e-5},
                defaults={**DEFAULTS, "tasks": 1, "projections": 1},
                also={"ffn_type": 0, "num_qkv": 0, "seg_emb": False, "task_idx": None, "fp32_embedding": False, "label_smoothing": None},
                overruled={
                    "segments": "the published files come with BERT's configuration; unilm's loader is told the number (--new_segment_ids)"
                },
            ),
        ),
        BERT.dialects["hf"]._replace(lacks={}, title="transformers (PyTorch), as BERT", limits=LIMITS),
        BERT.dialects["google"]._replace(lacks={}, title="google-research/bert (TensorFlow)", limits=LIMITS),
    ),
)
