"""EuroBERT: an encoder made as Llama is, every position seeing all.

Source: transformers models/eurobert.
"""

from ckptkit.arch._libraries.decoders import NAMES, WORDS, attention, decoder, gated, hf, last, may
from ckptkit.arch._libraries.encoders import L
from ckptkit.arch._libraries.forward import WHOLE
from ckptkit.arch._libraries.gguf import NAMES as GGML
from ckptkit.arch._libraries.gguf import gguf
from ckptkit.schema import Class, linear


def encoders(name: str) -> str:
    """A canonical name of a decoder's as an encoder has it."""
    return name.replace("decoder.", "encoder.", 1) if name.startswith("decoder.") else name


BLOCK = {**attention(bias="attention_bias", out_bias="attention_bias"), **gated(bias="mlp_bias"), "decoder.norm": last()["decoder.norm"]}
MODULES = {
    **WORDS,
    **{encoders(k): m for k, m in BLOCK.items()},
    "mlm": linear("vocab", "hidden", group="mlm", bias="mlp_bias", tied={"weight": "embeddings.word.weight"}),
    "stem.transform": linear("hidden", "hidden_in", group="stem"),
    "classifier": linear("labels", "hidden", group="classifier"),
}
GROUPS = frozenset({"stem", "classifier"})
HF = hf(
    "eurobert",
    "EuroBert",
    MODULES,
    names={**{encoders(k): v for k, v in NAMES.items()}, "mlm": "lm_head", "stem.transform": "dense", "classifier": "classifier"},
    keys={"attention_bias": may("attention_bias"), "mlp_bias": may("mlp_bias"), "classifier_pooling": may("pooling")},
    defaults={"activation": "silu", "norm_eps": 1e-5, "attention_bias": False, "mlp_bias": False, "pooling": "late"},
    prefixes=("model.", ""),
)
HF = HF._replace(config=HF.config._replace(usual={"mask_token_id": ...}), classes=(
    Class("EuroBertModel", frozenset()),
    Class("EuroBertForMaskedLM", frozenset({"mlm"})),
    Class("EuroBertForSequenceClassification", GROUPS),
    Class("EuroBertForTokenClassification", frozenset({"classifier"}), kinds={"classifier": "tokens"}),
))  # fmt: skip

GGUF = gguf(
    "eurobert", MODULES, names={encoders(k): v for k, v in GGML.items()}, without=("mlm", "stem.transform", "classifier"),
    implied={"activation": "silu", "attention_bias": False, "mlp_bias": False}, defaults={"pooling": "late"},
    also={"attention.causal": False}, free={"pooling": ...},
)  # fmt: skip

ARCHITECTURE = decoder(
    "eurobert", "EuroBERT", MODULES, HF, GGUF,
    rank=4,  # its core is named as Llama's, which comes first where nothing says which
    relations=("hidden_in = hidden",),
    traits={
        "encoder": L[:-1],
        "norm": "before",
        "norm_kind": "rms",
        "positions": "rotary",
        "rotary": {"all": "rope"},
        "dropout": 0.0,
        "attention_dropout": "=attention_dropout",
        "pooling": "=pooling",
        "own": {"stem": {"activation": "gelu"}},
        "heads": {"mlm": "lm", "stem": "stem", "classifier": "classed"},
        "runs_with": WHOLE,
    },
    variants={
        "EuroBERT-210m": {"layers": 12, "hidden": 768, "heads": 12, "vocab": 128256},
        "EuroBERT-610m": {"layers": 26, "hidden": 1152, "heads": 18, "vocab": 128256},
        "EuroBERT-2.1B": {"layers": 32, "hidden": 2304, "heads": 18, "vocab": 128256},
    },
)  # fmt: skip
