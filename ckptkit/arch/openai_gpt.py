"""GPT, the first of them: norms after each half of a layer, none at the end, the output tied to the word embeddings.

Sources: openai/finetune-transformer-lm train.py (names, the one table of tokens, special tokens and positions, the flat arrays
whose names are their order: containers/openai_npy.py); transformers models/openai and its conversion script; bert4keras
models.py, class GPT. `gelu` is the tanh approximation in the first two, also where transformers says "gelu".
"""

from __future__ import annotations

from ckptkit.arch import gpt2
from ckptkit.arch._libraries import bert4keras as b4k
from ckptkit.arch._libraries.transformers import of_bert4torch, tf
from ckptkit.arch.bert import DEFAULTS
from ckptkit.arch.gpt2 import D
from ckptkit.schema import (
    CONV1D,
    GOOGLE,
    Architecture,
    Besides,
    Class,
    ConfigForm,
    Derived,
    Dialect,
    Files,
    Key,
    Library,
    Reader,
    embedding,
)

MODULES = {
    "embeddings.word": embedding("vocab hidden"),
    "embeddings.segment": embedding("segments hidden", optional=True),
    "embeddings.position": embedding("positions hidden"),
    **gpt2.BLOCK,
    **gpt2.HEADS,
}
AFN = {"gelu": "gelu_tanh", "gelu_new": "gelu_tanh", "relu": "relu", "swish": "silu", "silu": "silu"}
VOCABULARY = {"bpe vocabulary": "encoder_bpe_40000.json", "bpe merges": "vocab_40000.bpe"}
B = "gpt/transformer/layer_{layer}/"

TRAITS = {
    "decoder": D[:-1],
    "mask": "causal",
    "heads": {"lm": "lm", "multiple_choice": "last", "score": "last"},
    "init": {"*": "normal"},
}

HF_KEYS: dict[str, str | Key] = {
    "vocab_size": Key("vocab", plus="n_special"), **gpt2.HF_SIZES, "afn": Key("activation", words=AFN),
}  # fmt: skip
HF = Dialect(
    name="hf",
    title="transformers (PyTorch)",
    style=CONV1D,
    prefixes=("transformer.", ""),
    rows={
        "~tokens_embed": "embeddings.word",
        "~positions_embed": "embeddings.position",
        **gpt2.HF_BLOCK,
        **gpt2.HF_HEADS,
    },
    besides=Besides(derived={"~position_ids": Derived("arange", "positions"), **gpt2.HF_MASKS}, strays=gpt2.HF_STRAYS),
    files=Files(sidecars={"bpe vocabulary": "vocab.json", "bpe merges": "merges.txt"}, metadata={"format": "pt"}),
    library=Library(exact=True),
    classes=(
        Class("OpenAIGPTLMHeadModel", frozenset({"lm"})),
        Class("OpenAIGPTModel", frozenset()),
        Class("OpenAIGPTDoubleHeadsModel", frozenset({"lm", "multiple_choice"})),
        Class("OpenAIGPTForSequenceClassification", frozenset({"score"})),
    ),
    config=ConfigForm(
        filename="config.json",
        keys=HF_KEYS,
        implied={"intermediate": "=4 hidden"},
        reader=Reader(unfold=of_bert4torch(HF_KEYS, "gpt")),
        labels=True,
        marks={"model_type": "openai-gpt"},
        usual=gpt2.HF_USUAL,
        defaults=gpt2.HF_DEFAULTS,
    ),
)

TRUNK = HF._replace(rows={k: v for k, v in HF.rows.items() if k.startswith("~") and "c_attn" not in k})

B4K_FORM = ConfigForm(
    filename="gpt_config.json",
    keys=gpt2.B4K_KEYS,
    implied={"norm_eps": 1e-12, "tied": True},
    defaults=DEFAULTS,
    also={"type_vocab_size": 0},
)

ARCHITECTURE = Architecture(
    name="openai-gpt",
    title="GPT",
    names=("gpt",),
    modules=MODULES,
    traits=TRAITS,
    relations=("hidden = heads head_dim",),
    derivations={"causal": gpt2.causal},
    variants={"openai-gpt": {"layers": 12, "hidden": 768, "heads": 12}},
    dialects=(
        Dialect(
            name="openai",
            title="openai/finetune-transformer-lm (published arrays)",
            style=gpt2.OPENAI,
            container="openai-npy",
            rows={
                "model/pos": "embeddings.position",
                "model/emb": "embeddings.word",
                **gpt2.OPENAI_BLOCK,
            },
            files=Files(sidecars=VOCABULARY),
            config=ConfigForm(
                filename="hparams.json",
                keys={**gpt2.HPARAMS, "afn": Key("activation", words=AFN)},
                implied=gpt2.OPENAI_IMPLIED,
                defaults={"activation": "gelu_tanh"},
            ),
        ),
        Dialect(
            name="openai_finetuned",
            title="openai/finetune-transformer-lm (fine-tuned)",
            style=gpt2.OPENAI,
            container="tf",
            filename="model.ckpt",
            rows={
                # tokens, then special tokens (part of the vocabulary here), then positions
                "model/we": ("embeddings.word.weight", "embeddings.position.weight", "*(vocab positions) hidden"),
                **gpt2.OPENAI_BLOCK,
                "model/clf/w": ("multiple_choice.weight", "hidden choices"),
                "model/clf/b": "multiple_choice.bias",
            },
            files=Files(sidecars=VOCABULARY),
            config=ConfigForm(
                filename="hparams.json",
                keys={**gpt2.HPARAMS, "n_vocab": Key("vocab", plus="n_special"), "afn": Key("activation", words=AFN)},
                implied=gpt2.OPENAI_IMPLIED,
                defaults={"activation": "gelu_tanh"},
            ),
        ),
        HF,
        tf(MODULES, TRUNK, "transformer/", style=gpt2.TF_CONV1D, rows={**gpt2.TF_BLOCK, **gpt2.TF_HEADS}),
        Dialect(
            name="bert4keras",
            title="bert4keras (TensorFlow)",
            style=GOOGLE,
            container="tf",
            filename="gpt_model.ckpt",
            rows={
                "gpt/embeddings/word_embeddings": "embeddings.word",
                "gpt/embeddings/token_type_embeddings": "embeddings.segment",
                "gpt/embeddings/position_embeddings": "embeddings.position",
                B + "attention/self/query": D + "attention.query",
                B + "attention/self/key": D + "attention.key",
                B + "attention/self/value": D + "attention.value",
                B + "attention/output/dense": D + "attention.output",
                B + "attention/output/LayerNorm": D + "attention.norm",
                B + "intermediate/dense": D + "ffn.intermediate",
                B + "output/dense": D + "ffn.output",
                B + "output/LayerNorm": D + "ffn.norm",
            },
            config=B4K_FORM,
        ),
        b4k.weights(
            {
                "Embedding-Token": "embeddings.word",
                "Embedding-Segment": "embeddings.segment",
                "Embedding-Position": "embeddings.position",
                **b4k.after("Transformer-{layer}-", D),
            },
            B4K_FORM,
        ),
    ),
)
