"""How MaxText (JAX) names a decoder in Orbax: its `maxtext` dialects, with all layers of a kind in one array or each layer by itself.

Sources: maxtext layers/attentions.py and embeddings.py (kernels keep heads and columns apart; a query's kernel is divided by the root of
the head's width, which the scores are then not; Gemma's embeddings are multiplied by the root of theirs), layers/decoders.py
(scan_layers, param_scan_axis 1: the second axis counts the layers), checkpoint_conversion/utils/param_mapping.py and
standalone_scripts/llama_or_mistral_ckpt.py, convert_gemma_chkpt.py. Rotary pairs lie apart as in transformers, and side by side where the
positions are scaled as Llama 3.1's are.
"""

from __future__ import annotations

from collections.abc import Mapping

from ckptkit.arch._libraries.decoder_words import D
from ckptkit.schema import TORCH, Adjust, Besides, Dialect, Files, Module

LLAMA_31 = "llama3"  # the kind of scaling, in transformers' words
NORMS = {D + "attention.norm": "pre_self_attention_layer_norm", D + "ffn.norm": "post_self_attention_layer_norm"}
GEMMA_NORMS = {D + "attention.norm": "pre_self_attention_norm", D + "ffn.norm": "pre_ffw_norm"}
ROOTED = {D + "attention.query.weight": Adjust(axis="head_dim", power=0.5)}
GEMMA_ROOTED = {**ROOTED, "embeddings.word.weight": Adjust(axis="hidden", power=-0.5)}


def _rows(heads: str, pair: str, norms: Mapping[str, str], at: str, star: str) -> dict[str, str | tuple[str, ...]]:
    """`at`: what a layer's names begin with; `star`: the axis that counts the layers, "" where the names do."""
    kernels = {
        "self_attention.query": (D + "attention.query.weight", f"hidden{star} ({heads}) {pair}"),
        "self_attention.key": (D + "attention.key.weight", f"hidden{star} kv_heads {pair}"),
        "self_attention.value": (D + "attention.value.weight", f"hidden{star} kv_heads head_dim"),
        "self_attention.out": (D + "attention.output.weight", f"({heads}){star} head_dim hidden"),
        "mlp.wi_0": (D + "ffn.gate.weight", f"hidden{star} intermediate"),
        "mlp.wi_1": (D + "ffn.up.weight", f"hidden{star} intermediate"),
        "mlp.wo": (D + "ffn.output.weight", f"intermediate{star} hidden"),
    }
    return {
        "token_embedder.embedding": ("embeddings.word.weight", "vocab hidden"),
        **{f"{at}.{name}.kernel": row for name, row in kernels.items()},
        **{f"{at}.{name}.scale": (f"{module}.weight", f"hidden{star}") for module, name in norms.items()},
        "decoder.decoder_norm.scale": ("decoder.norm.weight", "hidden"),
        "decoder.logits_dense.kernel": ("lm_head.weight", "hidden vocab"),
    }


def maxtext(
    disk: Dialect, modules: Mapping[str, Module], *, norms: Mapping[str, str] = NORMS, rooted: Mapping[str, Adjust] = ROOTED,
    scaled: bool = False,
) -> tuple[Dialect, ...]:  # fmt: skip
    """The dialects of a decoder whose names in transformers are `disk`'s. `norms`: what it calls those of a layer; `scaled`: the family has
    models with Llama 3.1's positions."""
    layouts = {a for _, text in modules[D + "attention.query"].params for a in text.replace("(", " ").replace(")", " ").split()}
    heads = "kv_heads per_group" if "per_group" in layouts else "heads"
    apart, beside = ("(two half)", "(half two)") if "half" in layouts else ("head_dim", "")
    out = []
    for suffix, at, star in (("", "decoder.layers", " *{layer}"), ("_unscanned", "decoder.layers_{layer}", "")):
        for kind, pair in (("", apart), *([("_llama31", beside)] if scaled else [])):
            needs = {"rope_type": LLAMA_31} if kind else {}
            what = ", Llama 3.1's positions" if kind else ""
            out.append(disk._replace(
                name=f"maxtext{suffix}{kind}",
                title=f"MaxText (Orbax{', a layer an array' if suffix else ''}{what})",
                alias="maxtext", style=TORCH, rows=_rows(heads, pair, norms, at, star), prefixes=("",), container="orbax",
                files=Files(wrapper="params.params", ties=False), besides=Besides(), adjust=dict(rooted), pads="vocab",
                config=disk.config._replace(needs=needs) if needs else disk.config,
            ))  # fmt: skip
    return tuple(out)
