"""BART: norms after each part and after the embeddings, learned positions that begin after two rows.

Source: transformers models/bart; fairseq models/bart.
"""

from ckptkit.arch._libraries import bart
from ckptkit.arch._libraries.fairseq import fairseq

MODULES = bart.modules(tables=True, reserved=True, normed=True)

HF = bart.hf("bart", MODULES, bart.classes("Bart", heads=True))
FAIRSEQ = fairseq(
    HF, "bart_large", "denoising", tables=True, defaults={"activation": "gelu", "scale_embedding": False},
    means={"encoder_normalize_before": False, "layernorm_embedding": True},
)  # fmt: skip

ARCHITECTURE = bart.architecture(
    "bart", "BART", MODULES, (HF, FAIRSEQ), positions="learned", norm="after",
    variants={
        "bart-base": {"layers": 6, "decoder_layers": 6, "hidden": 768, "heads": 12},
        "bart-large": {"layers": 12, "decoder_layers": 12, "hidden": 1024, "heads": 16},
    },
)  # fmt: skip
