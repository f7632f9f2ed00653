"""Blenderbot's small model: norms after each part and after the embeddings, learned positions; in its decoder, positions are added to
words that are normed already.

Source: transformers models/blenderbot_small.
"""

from ckptkit.arch._libraries import bart

D = "decoder_embeddings."
MODULES = {k.replace(D + "norm", D + "word_norm"): m for k, m in bart.modules(tables=True, normed=True).items()}
HF = bart.hf("blenderbot-small", MODULES, bart.classes("BlenderbotSmall"), defaults={"pad": 0})
HF = HF._replace(rows={**HF.rows, "~decoder.layernorm_embedding": D + "word_norm"})

ARCHITECTURE = bart.architecture(
    "blenderbot_small", "Blenderbot small", MODULES,
    (HF,), positions="learned", norm="after", names=("blenderbot-small",),
    variants={"blenderbot_small-90M": {"layers": 8, "decoder_layers": 8, "hidden": 512, "heads": 16}},
)  # fmt: skip
