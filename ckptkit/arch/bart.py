"""BART: norms after each part and after the embeddings, learned positions that begin after two rows.

Source: transformers models/bart; fairseq models/bart.
"""

from ckptkit.arch._libraries import bart
from ckptkit.arch._libraries import bert4torch as b4t
from ckptkit.arch._libraries.bert4torch_memory import of_two_stacks
from ckptkit.arch._libraries.decoder_words import may
from ckptkit.arch._libraries.fairseq import fairseq
from ckptkit.schema import Besides, Key, Lack, Repeat

MODULES = bart.modules(tables=True, reserved=True, normed=True)

HF = bart.hf("bart", MODULES, bart.classes("Bart", heads=True))
FAIRSEQ = fairseq(
    HF, "bart_large", "denoising", tables=True, defaults={"activation": "gelu", "scale_embedding": False},
    means={"encoder_normalize_before": False, "layernorm_embedding": True},
)  # fmt: skip

BOTH = {"num_hidden_layers": "layers", "num_attention_heads": "heads", "intermediate_size": "intermediate"}
BERT4TORCH = b4t.of_hf(
    HF,
    b4t.form(
        "bart",
        keys={
            **{k: Key(v, more=(f"decoder_{v}",)) for k, v in {**BOTH, "max_position_embeddings": "positions"}.items()},
            "max_position": Key("max_positions", required=False), "pad_token_id": may("pad"), "eos_token_id": Key("eos", required=False),
        },
        without=("segments", "max_positions"), implied={"norm_eps": 1e-5, "scale_embedding": False}, defaults={"pad": 1, "eos": 2},
        also={"segment_vocab_size": 0, "with_lm": True},
    ),
)._replace(
    twin="", prefixes=("",),
    rows={
        "encoder.embed_tokens": "embeddings.word",
        **{k.replace("lm_head", "decoder.lm_head"): v for k, v in HF.rows.items() if k not in ("~shared", "final_logits_bias")},
    },
    lacks={"lm_head.bias": Lack(0.0, why="bert4torch's head has no bias")},
    besides=Besides(repeats={"decoder.embed_tokens.weight": Repeat("embeddings.word.weight")}),
)  # fmt: skip

ARCHITECTURE = bart.architecture(
    "bart", "BART", MODULES, (HF, BERT4TORCH, of_two_stacks(HF, MODULES, biased=True), FAIRSEQ), positions="learned", norm="after",
    variants={
        "bart-base": {"layers": 6, "decoder_layers": 6, "hidden": 768, "heads": 12},
        "bart-large": {"layers": 12, "decoder_layers": 12, "hidden": 1024, "heads": 16},
    },
)  # fmt: skip
