"""Pegasus: norms before each part and after each stack, positions in sines and cosines, which files keep.

Source: transformers models/pegasus.
"""

from ckptkit.arch._libraries import bart

MODULES = bart.modules(last=True)
STORED = {name: derived._replace(made=True) for name, derived in bart.WAVES.items()}

ARCHITECTURE = bart.architecture(
    "pegasus", "Pegasus", MODULES,
    (bart.hf("pegasus", MODULES, bart.classes("Pegasus"), defaults={"pad": 0, "eos": 1}, derived=STORED),),
    positions="waves", norm="before", derivations={"waves": bart.waves},
    variants={"pegasus-large": {"layers": 16, "decoder_layers": 16, "hidden": 1024, "heads": 16}},
)  # fmt: skip
