"""ERNIE as transformers has it: BERT's layers, and one more table that says which task a token is of, where `use_task_id` says so.

Baidu's own first models have no task ids: they are BERT, with its names or with this prefix.

Source: transformers models/ernie (names, classes; task ids are 0 where none are given).
"""

from ckptkit.arch._libraries import bert4torch as b4t
from ckptkit.arch._libraries.bert4torch_memory import memory
from ckptkit.arch._libraries.paddle import paddle
from ckptkit.arch._libraries.transformers import HF_KEYS
from ckptkit.arch.bert import ARCHITECTURE as BERT
from ckptkit.arch.bert import DEFAULTS, MODULES, SIZES
from ckptkit.schema import Architecture, ConfigForm, Key, Lack, embedding, linear, when

NO_TASKS = {"embeddings.task.weight": Lack(0.0, {"tasks": 1}, why="BERT has no table of tasks, which is added to every token")}

HF = BERT.dialects["hf"]

OF_UIE: dict[str, str | tuple[str, ...]] = {"linear_start": "uie.start", "linear_end": "uie.end"}
OWN_ROWS = {
    "~embeddings.task_type_embeddings": "embeddings.task",
    **OF_UIE,
}
OWN = HF._replace(
    prefixes=("ernie.", ""),
    rows={**HF.rows, **OWN_ROWS},
    lacks={},
    classes=tuple(c._replace(name=c.name.replace("Bert", "Ernie")) for c in HF.classes if c.name != "BertLMHeadModel"),
    config=ConfigForm(
        filename="config.json",
        keys={
            **SIZES,
            "task_type_vocab_size": Key("tasks", required=False),
            "use_task_id": Key("with_tasks", required=False),
            **HF_KEYS,
        },
        labels=True,
        marks={"model_type": "ernie"},
        defaults={**DEFAULTS, "norm_eps": 1e-12, "activation": "gelu", "tied": True, "pad": 0, "with_tasks": False},
    ),
)

TASKS: dict[str, str | Key] = {k: OWN.config.keys[k] for k in ("task_type_vocab_size", "use_task_id")}

ARCHITECTURE = Architecture(
    name="ernie",
    extends="bert",
    title="ERNIE",
    called=("uie",),
    modules={
        **MODULES,
        "embeddings.task": when("with_tasks", embedding("tasks hidden")),
        "uie.start": linear("one", "hidden", group="uie"),
        "uie.end": linear("one", "hidden", group="uie"),
    },
    traits={**BERT.traits, "heads": {**BERT.traits["heads"], "uie": "spans"}},  # type: ignore[dict-item]
    relations=("hidden = heads head_dim", "pooled = hidden", "transformed = hidden"),
    fixed={"nsp_labels": 2, "qa_labels": 2, "one": 1},
    rank=4,
    variants={
        "ernie-1.0-base-zh": {"layers": 12, "hidden": 768, "heads": 12, "vocab": 18000},
        "ernie-3.0-base-zh": {"layers": 12, "hidden": 768, "heads": 12, "vocab": 40000},
        "ernie-3.0-nano-zh": {"layers": 4, "hidden": 312, "heads": 12, "vocab": 40000},
    },
    dialects=(
        OWN,
        paddle(OWN, "ernie.", OWN_ROWS),
        memory(OWN, {**MODULES, "embeddings.task": ..., "uie.start": ..., "uie.end": ...}),
        b4t.of_hf(OWN, b4t.form("ernie", keys=TASKS))._replace(style=b4t.GAMMA_BETA),
        # written as BERT's, so that nothing of that naming is taken for ERNIE
        HF._replace(
            name="hf_bert", title="transformers (PyTorch), as BERT", lacks=NO_TASKS, prefixes=("bert.",), prefixed=True,
            rows={**HF.rows, **OF_UIE},
        ),
        BERT.dialects["google"]._replace(
            title="google-research/bert (TensorFlow)",
            lacks=NO_TASKS,
            config=BERT.dialects["google"].config._replace(marks={"model_type": "bert"}),
        ),
    ),
)
