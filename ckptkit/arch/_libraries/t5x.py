"""How T5X (JAX) names a T5, in its own checkpoints and Orbax: its `t5x` dialects.

Sources: t5x examples/t5/{network,layers}.py (kernels are (in, out), heads and columns in one axis; one table of relative positions a
stack), examples/scalable_t5/network.py (layers scanned along axis 1, heads and columns apart, a table in every layer: UMT5's form);
transformers' convert_t5x_checkpoint_to_pytorch.py for the same names.
"""

from __future__ import annotations

from collections.abc import Iterator

from ckptkit.schema import TORCH, Besides, Dialect, Files

Rows = dict[str, str | tuple[str, ...]]

_HOLDERS = {"encoder": "{layer}", "decoder": "{decoder_layer}"}
# (part, its name, its norm's) in each stack
_PARTS = {
    "encoder": (("attention", "attention", "pre_attention_layer_norm"), ("ffn", "mlp", "pre_mlp_layer_norm")),
    "decoder": (
        ("attention", "self_attention", "pre_self_attention_layer_norm"),
        ("cross_attention", "encoder_decoder_attention", "pre_cross_attention_layer_norm"),
        ("ffn", "mlp", "pre_mlp_layer_norm"),
    ),
}
_FFN = (("intermediate", "wi", False), ("gate", "wi_0", False), ("up", "wi_1", False), ("output", "wo", True))


def _stack(stack: str, scanned: bool) -> Iterator[tuple[str, tuple[str, ...]]]:
    holder = _HOLDERS[stack]
    at, star = (f"{stack}.{stack}.", f" *{holder}") if scanned else (f"{stack}.layers_{holder}.", "")
    heads = "heads head_dim" if scanned else "(heads head_dim)"
    for part, name, norm in _PARTS[stack]:
        ours = f"{stack}.layers.{holder}.{part}"
        yield f"{at}{norm}.scale", (f"{ours}.norm.weight", f"hidden{star}")
        if part == "ffn":
            for module, called, back in _FFN:
                yield f"{at}{name}.{called}.kernel", (
                    f"{ours}.{module}.weight", f"intermediate{star} hidden" if back else f"hidden{star} intermediate"
                )  # fmt: skip
            continue
        for module in ("query", "key", "value"):
            yield f"{at}{name}.{module}.kernel", (f"{ours}.{module}.weight", f"hidden{star} {heads}")
        out = f"heads{star} head_dim hidden" if scanned else f"{heads} hidden"
        yield f"{at}{name}.out.kernel", (f"{ours}.output.weight", out)
    if scanned:
        yield f"{at}relpos_bias.rel_embedding", (f"{stack}.layers.{holder}.attention.position_bias.weight", f"heads{star} buckets")
    else:
        yield f"{stack}.relpos_bias.rel_embedding", (f"{stack}.position_bias.weight", "heads buckets")
    yield f"{stack}.{stack}_norm.scale", (f"{stack}.norm.weight", "hidden")


def t5x(disk: Dialect, *, scanned: bool = False) -> Dialect:
    """The dialect of a family whose names in transformers are `disk`'s."""
    rows: Rows = {"token_embedder.embedding": ("embeddings.word.weight", "vocab hidden")}
    for stack in _PARTS:
        rows |= dict(_stack(stack, scanned))
    rows["decoder.logits_dense.kernel"] = ("lm_head.weight", "hidden vocab")
    return disk._replace(
        name="t5x", title=f"T5X (Orbax{', layers scanned' if scanned else ''})", style=TORCH, rows=rows, prefixes=("",), container="orbax",
        classes=tuple(c for c in disk.classes if not c.groups & {"qa", "classification", "classifier"}),
        files=Files(wrapper="target", ties=False), besides=Besides(),
    )  # fmt: skip
