"""Families whose models run by code that their authors publish beside the weights: transformers loads them with `trust_remote_code`, and
has no class of its own for them. Their dialect is called hf all the same, as what they save is a transformers folder; one that computes
what a class of transformers computes has a second dialect, called after that class, and only models that it computes are written so.
"""

from __future__ import annotations

from collections.abc import Mapping

from ckptkit.arch._libraries.decoders import PREFIXES, classes, hf, may
from ckptkit.schema import Class, Dialect, Key, Module

Values = Mapping[str, object]
MARKS: Mapping[str, str | Key] = {"bos_token_id": may("bos"), "eos_token_id": may("eos")}  # which a class of transformers has others of
OWN_CODE = "its authors' code for transformers (PyTorch)"
# keys of their configurations that change no output of what is loaded here: how it is stored, trained, asked
USUAL: Mapping[str, object] = {
    "attn_implementation": ..., "bf16": ..., "fp16": ..., "fp32": ..., "onnx_safe": ..., "use_flash_attn": ..., "softmax_in_fp32": ...,
    "use_cache_quantization": ..., "use_cache_kernel": ..., "quantization_bit": 0, "pre_seq_len": None, "prefix_projection": ...,
    "z_loss_weight": ..., "auto_map": ..., "model_max_length": ..., "seq_length": ..., "kv_channels": ...,
}  # fmt: skip


def own_code(dialect: Dialect, holds: tuple[Class, ...], usual: Mapping[str, object] = {}) -> Dialect:
    """A dialect of `hf` as that of the authors' own classes."""
    return dialect._replace(title=OWN_CODE, classes=holds, config=dialect.config._replace(usual={**USUAL, **usual}))


def written_as(
    model_type: str, stem: str, modules: Mapping[str, Module], *, needs: Mapping[str, object] = {}, **differs: object
) -> Dialect:
    """A family's models as those of a class of transformers that computes the same: "llama", "Llama". `needs`: what must hold for that."""
    made = hf(model_type, stem, modules, prefixes=PREFIXES[:1], implied=needs, **differs)  # type: ignore[arg-type]
    return made._replace(
        name=model_type, title=f"transformers (PyTorch), as {stem}", classes=classes(stem), config=made.config._replace(needs=needs),
        prefixed=True,
    )  # fmt: skip
