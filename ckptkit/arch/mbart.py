"""mBART, also of 50 languages: BART whose norms stand before each part, and once more after each stack.

Source: transformers models/mbart.
"""

from ckptkit.arch._libraries import bart

MODULES = bart.modules(tables=True, reserved=True, normed=True, last=True)

ARCHITECTURE = bart.architecture(
    "mbart", "mBART", MODULES, (bart.hf("mbart", MODULES, bart.classes("MBart", heads=True)),), positions="learned", norm="before",
    variants={"mbart-large": {"layers": 12, "decoder_layers": 12, "hidden": 1024, "heads": 16}},
)  # fmt: skip
