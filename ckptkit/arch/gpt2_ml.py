"""GPT2-ML: a decoder whose words and positions are normed, nothing before attention, and a norm on either side of the feed-forward.

bert4keras has its names, and in its configuration segments that the model has not. There "gelu" is whichever form the program chose
(set_gelu), which no file says: as with GPT-2 it is read as the form by tanh, and written by name. The original computes the exact one.

Source: imcaspar/gpt2-ml train/modeling.py, train/utils.py, configs/*.json; bert4keras 0.11.5 models.py, class GPT2_ML.
"""

from ckptkit.arch._libraries import bert4keras as b4k
from ckptkit.arch._libraries import bert4torch as b4t
from ckptkit.arch.bert import DEFAULTS, SIZES
from ckptkit.arch.gpt2 import B4K_KEYS
from ckptkit.arch.roformer import ACTIVATIONS
from ckptkit.schema import CONV1D, GOOGLE, Architecture, ConfigForm, Dialect, Key, embedding, linear, norm

D = "decoder.layers.{layer}."
G = "newslm/layer{layer:02}/"
H = "h.{layer}."
QKV = ("query", "key", "value")

MODULES = {
    "embeddings.word": embedding("vocab hidden"),
    "embeddings.position": embedding("positions hidden"),
    "embeddings.norm": norm("hidden"),
    D + "attention.query": linear("heads head_dim", "hidden"),
    D + "attention.key": linear("heads head_dim", "hidden"),
    D + "attention.value": linear("heads head_dim", "hidden"),
    D + "attention.output": linear("hidden", "heads head_dim"),
    D + "ffn.norm": norm("hidden"),
    D + "ffn.intermediate": linear("intermediate", "hidden"),
    D + "ffn.output": linear("hidden", "intermediate"),
    D + "ffn.sum_norm": norm("hidden"),
    "lm_head": linear("vocab", "hidden", group="lm", bias=False, tied={"weight": "embeddings.word.weight"}),
}
IMPLIED = {"norm_eps": 1e-5, "tied": True}
FORM = ConfigForm(
    filename="bert_config.json",
    keys={**{k: v for k, v in SIZES.items() if v != "segments"}, "hidden_act": Key("activation", words=ACTIVATIONS)},
    implied=IMPLIED,
    defaults=DEFAULTS,
)
B4K_FORM = ConfigForm(
    filename="bert_config.json",
    keys={**B4K_KEYS, "type_vocab_size": Key("unused_segments", required=False)},
    implied=IMPLIED,
    defaults=DEFAULTS,
    also={"type_vocab_size": 2},
)
FFN = "Transformer-{layer}-FeedForward"

ORIGINAL = Dialect(
    name="original",
    title="imcaspar/gpt2-ml (TensorFlow)",
    style=GOOGLE,
    container="tf",
    filename="model.ckpt",
    rows={
        "newslm/embeddings/word_embed": "embeddings.word",
        "newslm/embeddings/pos_embed": "embeddings.position",
        "newslm/embeddings/LayerNorm_embed_norm": "embeddings.norm",
        G + "query_layer": D + "attention.query",
        G + "key_layer": D + "attention.key",
        G + "value_layer": D + "attention.value",
        G + "context_projection_layer": D + "attention.output",
        G + "LayerNorm_mlp_ln0": D + "ffn.norm",
        G + "intermediate": D + "ffn.intermediate",
        G + "output": D + "ffn.output",
        G + "LayerNorm_mlp_ln1": D + "ffn.sum_norm",
    },
    config=FORM,
)

ARCHITECTURE = Architecture(
    name="gpt2_ml",
    title="GPT2-ML",
    modules=MODULES,
    traits={"decoder": D[:-1], "norm": "before", "mask": "causal", "heads": {"lm": "lm"}},
    relations=("hidden = heads head_dim",),
    variants={"gpt2-ml-mega": {"layers": 48, "hidden": 1536, "heads": 24}},
    dialects=(
        ORIGINAL,
        ORIGINAL._replace(name="bert4keras", title="bert4keras (TensorFlow)", alias="", filename="bert_model.ckpt", config=B4K_FORM),
        b4k.weights(
            {
                "Embedding-Token": "embeddings.word",
                "Embedding-Position": "embeddings.position",
                "Embedding-Norm": "embeddings.norm",
                **b4k.attention("Transformer-{layer}-MultiHeadSelfAttention", D + "attention"),
                FFN + "-Norm-0": D + "ffn.norm",
                FFN + "/1of2": D + "ffn.intermediate",
                FFN + "/last": D + "ffn.output",
                FFN + "-Norm-1": D + "ffn.sum_norm",
            },
            B4K_FORM,
        ),
        Dialect(
            name="bert4torch",
            title="bert4torch (PyTorch)",
            style=CONV1D,
            container="torch",
            filename="pytorch_model.bin",
            rows={
                "wte": "embeddings.word",
                "wpe": "embeddings.position",
                "emb_norm": "embeddings.norm",
                H + "attn.c_attn.weight": (*(f"{D}attention.{p}.weight" for p in QKV), "hidden *(heads head_dim)"),
                H + "attn.c_attn.bias": (*(f"{D}attention.{p}.bias" for p in QKV), "*(heads head_dim)"),
                H + "attn.c_proj": D + "attention.output",
                H + "ln_1": D + "ffn.norm",
                H + "mlp.c_fc": D + "ffn.intermediate",
                H + "mlp.c_proj": D + "ffn.output",
                H + "ln_2": D + "ffn.sum_norm",
                "lm_head.weight": ("lm_head.weight", "vocab hidden"),
            },
            config=b4t.form(
                "gpt2_ml", without=("segments",), implied={"tied": True},
                also={"layer_type": "Gpt2MlLayer", "segment_vocab_size": 0, "tie_word_embeddings": True},
            ),
        ),
    ),
)
