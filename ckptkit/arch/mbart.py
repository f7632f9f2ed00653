"""mBART, also of 50 languages: BART whose norms stand before each part, and once more after each stack.

Source: transformers models/mbart.
"""

from ckptkit.arch._libraries import bart
from ckptkit.arch._libraries.fairseq import fairseq

MODULES = bart.modules(tables=True, reserved=True, normed=True, last=True)

HF = bart.hf("mbart", MODULES, bart.classes("MBart", heads=True))
FAIRSEQ = fairseq(
    HF, "mbart_large", "translation_from_pretrained_bart", tables=True, defaults={},
    means={"encoder_normalize_before": True, "decoder_normalize_before": True, "layernorm_embedding": True},
)  # fmt: skip

ARCHITECTURE = bart.architecture(
    "mbart", "mBART", MODULES, (HF, FAIRSEQ), positions="learned", norm="before",
    variants={"mbart-large": {"layers": 12, "decoder_layers": 12, "hidden": 1024, "heads": 16}},
)  # fmt: skip
