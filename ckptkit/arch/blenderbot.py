"""Blenderbot: norms before each part and after each stack, learned positions.

Source: transformers models/blenderbot.
"""

from ckptkit.arch._libraries import bart

MODULES = bart.modules(tables=True, last=True)

ARCHITECTURE = bart.architecture(
    "blenderbot", "Blenderbot", MODULES, (bart.hf("blenderbot", MODULES, bart.classes("Blenderbot"), defaults={"pad": 0}),),
    positions="learned", norm="before",
    variants={
        "blenderbot-400M": {"layers": 2, "decoder_layers": 12, "hidden": 1280, "heads": 32},
        "blenderbot-3B": {"layers": 2, "decoder_layers": 24, "hidden": 2560, "heads": 32},
    },
)  # fmt: skip
