"""ckptkit: inspect, validate, convert and verify model checkpoints.

    import ckptkit

    with ckptkit.open("bert_model.ckpt") as checkpoint:        # headers only; weights when asked for
        print(checkpoint.tensors["bert/embeddings/word_embeddings"].spec)
    print(ckptkit.inspect("model.safetensors").architecture)
    report = ckptkit.validate("roberta-large/", expect={"layers": "24"})
    ckptkit.convert("bert_model.ckpt", "bert-hf/", to="hf")
    model = ckptkit.build_transformer_model("bert_config.json", "bert_model.ckpt", with_mlm=True)   # a torch.nn.Module
    ckptkit.verify("bert_model.ckpt", "bert-hf/")
    print([change.name for change in ckptkit.diff("base/", "fine-tuned/").different])
    assert ckptkit.digest("bert_model.ckpt").whole == ckptkit.digest("bert-hf/").whole
    Path("bert.lock.json").write_text(ckptkit.lock("bert-hf/"))
    ckptkit.fix("broken/", "mended/")
    ckptkit.merge("llama/", "lora/", "merged/")

Everything is loaded when first used: importing ckptkit imports no numpy and no framework. All errors are
`CheckpointError`s, whose kinds are in `ckptkit.errors`.
"""

from __future__ import annotations

from ._typing import TYPE_CHECKING
from ._version import __version__ as __version__

__all__ = [
    "Checkpoint", "CheckpointError", "Finding", "build_transformer_model", "convert", "diff", "digest", "examine", "export", "fix",
    "inspect", "lock", "measure", "merge", "open", "split", "validate", "verify",
]  # fmt: skip

if TYPE_CHECKING:
    from .containers import Checkpoint
    from .containers import open_checkpoint as open
    from .errors import CheckpointError
    from .findings import Finding
    from .graph.examine import examine
    from .runtime.build import build_transformer_model
    from .runtime.export import export
    from .verbs.convert import convert
    from .verbs.diff import diff
    from .verbs.digest import digest
    from .verbs.fix import fix
    from .verbs.inspect import inspect
    from .verbs.lock import lock
    from .verbs.measure import measure
    from .verbs.merge import merge
    from .verbs.split import split
    from .verbs.validate import validate
    from .verbs.verify import verify

_WHERE = {
    "Checkpoint": ("containers", "Checkpoint"),
    "CheckpointError": ("errors", "CheckpointError"),
    "Finding": ("findings", "Finding"),
    "build_transformer_model": ("runtime.build", "build_transformer_model"),
    "convert": ("verbs.convert", "convert"),
    "diff": ("verbs.diff", "diff"),
    "digest": ("verbs.digest", "digest"),
    "examine": ("graph.examine", "examine"),
    "export": ("runtime.export", "export"),
    "fix": ("verbs.fix", "fix"),
    "inspect": ("verbs.inspect", "inspect"),
    "lock": ("verbs.lock", "lock"),
    "measure": ("verbs.measure", "measure"),
    "merge": ("verbs.merge", "merge"),
    "split": ("verbs.split", "split"),
    "open": ("containers", "open_checkpoint"),
    "validate": ("verbs.validate", "validate"),
    "verify": ("verbs.verify", "verify"),
}


def __dir__() -> list[str]:
    return [*__all__, "__version__", "__doc__", "__name__", "__path__", "__file__"]


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module 'ckptkit' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _WHERE[name]
    value = getattr(import_module(f".{module}", __name__), attribute)
    globals()[name] = value
    return value
