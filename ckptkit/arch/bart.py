"""BART: norms after each part and after the embeddings, learned positions that begin after two rows.

Source: transformers models/bart; fairseq models/bart.
"""

from ckptkit.arch._libraries import bart

MODULES = bart.modules(tables=True, reserved=True, normed=True)

ARCHITECTURE = bart.architecture(
    "bart", "BART", MODULES, (bart.hf("bart", MODULES, bart.classes("Bart", heads=True)),), positions="learned", norm="after",
    variants={
        "bart-base": {"layers": 6, "decoder_layers": 6, "hidden": 768, "heads": 12},
        "bart-large": {"layers": 12, "decoder_layers": 12, "hidden": 1024, "heads": 16},
    },
)  # fmt: skip
