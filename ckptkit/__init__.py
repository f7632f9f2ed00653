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

Everything is loaded when first used: importing ckptkit imports no numpy and no framework. All errors are
`CheckpointError`s, whose kinds are in `ckptkit.errors`.
"""

from __future__ import annotations

from ._typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = [
    "Checkpoint", "CheckpointError", "Finding", "build_transformer_model", "convert", "diff", "digest", "examine", "export", "fix", "inspect", "lock", "open", "validate", "verify",
]  # fmt: skip

if TYPE_CHECKING:
    from .compare import diff
    from .containers import Checkpoint
    from .containers import open_checkpoint as open
    from .conversion import convert
    from .digests import digest
    from .errors import CheckpointError
    from .findings import Finding
    from .inspection import inspect
    from .locking import lock
    from .repair import fix
    from .runtime.build import build_transformer_model
    from .runtime.export import export
    from .subject import examine
    from .validation import validate
    from .verification import verify

_WHERE = {
    "Checkpoint": ("containers", "Checkpoint"),
    "CheckpointError": ("errors", "CheckpointError"),
    "Finding": ("findings", "Finding"),
    "build_transformer_model": ("runtime.build", "build_transformer_model"),
    "convert": ("conversion", "convert"),
    "diff": ("compare", "diff"),
    "digest": ("digests", "digest"),
    "examine": ("subject", "examine"),
    "export": ("runtime.export", "export"),
    "fix": ("repair", "fix"),
    "inspect": ("inspection", "inspect"),
    "lock": ("locking", "lock"),
    "open": ("containers", "open_checkpoint"),
    "validate": ("validation", "validate"),
    "verify": ("verification", "verify"),
}


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module 'ckptkit' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _WHERE[name]
    value = getattr(import_module(f".{module}", __name__), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
