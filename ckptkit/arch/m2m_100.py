"""M2M-100 and NLLB: norms before each part and after each stack, fairseq's sines and cosines of positions counted after the padding.

Source: transformers models/m2m_100.
"""

from ckptkit.arch._libraries import bart
from ckptkit.arch._libraries.decoder_words import may
from ckptkit.arch._libraries.fairseq import fairseq

KEYS = {"max_position_embeddings": may("max_positions")}  # no tensor binds them
DEFAULTS = {"activation": "relu", "scale_embedding": True, "attention_dropout": 0.1}
MODULES = bart.modules(last=True, biased=False)

HF = bart.hf("m2m_100", MODULES, bart.classes("M2M100"), defaults=DEFAULTS, keys=KEYS)
FAIRSEQ = fairseq(
    HF, "transformer_wmt_en_de_big", "translation_multi_simple_epoch", tables=False, biased=False, defaults={},
    means={"encoder_normalize_before": True, "decoder_normalize_before": True},
)  # fmt: skip

ARCHITECTURE = bart.architecture(
    "m2m_100", "M2M-100", MODULES, (HF, FAIRSEQ),
    positions="counted_sinusoids", norm="before",
    variants={
        "m2m100_418M": {"layers": 12, "decoder_layers": 12, "hidden": 1024, "heads": 16, "vocab": 128112},
        "m2m100_1.2B": {"layers": 24, "decoder_layers": 24, "hidden": 1024, "heads": 16, "vocab": 128112},
        "nllb-200-distilled-600M": {"layers": 12, "decoder_layers": 12, "hidden": 1024, "heads": 16, "vocab": 256206},
        "nllb-200-1.3B": {"layers": 24, "decoder_layers": 24, "hidden": 1024, "heads": 16, "vocab": 256206},
        "nllb-200-3.3B": {"layers": 24, "decoder_layers": 24, "hidden": 2048, "heads": 16, "vocab": 256206},
    },
)  # fmt: skip
