"""How Megatron-core names the tensors of a decoder: its `megatron` dialects.

Sources: megatron/core/models/gpt/gpt_model.py and gpt_layer_specs.py, transformer/attention.py (the rows of query, key and value of each
group follow one another), transformer/mlp.py (gate, then up), transformer/moe/experts.py; training/arguments.py (the settings of a run,
which its checkpoints keep). With TransformerEngine a norm is part of the layer that follows it (`linear_qkv.layer_norm_weight`); the local
layers keep it apart, and both are read. Rotary pairs lie apart, as in transformers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from ckptkit.arch._libraries.decoder_words import D, E, may
from ckptkit.schema import TORCH, ConfigForm, Dialect, Files, Key, Module, Reader, Split, Writer
from ckptkit.support.strict_json import loads

L = "decoder.layers.{layer}."
A = L + "self_attention."
GROUPS = "(kv_heads *per_group head_dim)"
PAIRED = "(kv_heads *per_group two half head_dim)"
MARK = "megatron_core"  # a key of our own, which says whose settings these are
FULL = "full_attention"  # another: whether every word sees all before it, which tells Llama from Mistral
SPLIT = Split(("kv_heads", "heads", "intermediate", "vocab"), {}, "megatron", whole="dcp")
TIED = "tie_embeddings_and_output_weights"  # what Megatron says the other way round
UNTIED = "untie_embeddings_and_output_weights"

KEYS: Mapping[str, str | Key] = {
    "num_layers": "layers",
    "hidden_size": "hidden",
    "num_attention_heads": "heads",
    "num_query_groups": may("kv_heads"),
    "kv_channels": may("head_dim"),
    "ffn_hidden_size": may("intermediate"),
    "max_position_embeddings": may("max_positions"),
    "norm_epsilon | layernorm_epsilon": may("norm_eps"),
    "rotary_base": may("rope_theta"),
    "vocab_size": may("vocab"),
    TIED: may("tied"),
}
WINDOW: Mapping[str, str | Key] = {"window_size": Key("window", shift=1, required=False)}
EXPERTS: Mapping[str, str | Key] = {"num_experts": "experts", "moe_router_topk": may("experts_per_token")}
# settings that would change what the model computes, and the values under which they change nothing
USUAL: Mapping[str, object] = {
    "rotary_percent": 1.0, "rotary_interleaved": False, "apply_layernorm_1p": False, "use_rope_scaling": False, "window_size": None,
    "rotary_seq_len_interpolation_factor": None, "apply_residual_connection_post_layernorm": False, "multi_latent_attention": False,
    "qk_layernorm": ..., "normalization": ..., "swiglu": ..., "add_qkv_bias": ..., "add_bias_linear": ...,
    "group_query_attention": ..., FULL: ...,
}  # fmt: skip
_KNOWN = {n for k in (*KEYS, *EXPERTS) for n in k.split(" | ")} | USUAL.keys()


def grouped(modules: Mapping[str, Module]) -> dict[str, Module]:
    """Attention whose query heads are told apart by the key that they share, which some namings keep beside them."""

    def told(m: Module) -> Module:
        return m._replace(params=tuple((suffix, re.sub(r"\bheads\b", "kv_heads per_group", text)) for suffix, text in m.params))

    return {n: told(m) if n in (D + "attention.query", D + "attention.output") else m for n, m in modules.items()}


def read_args(extras: Mapping[str, object]) -> dict[str, object] | None:
    """Of the settings of the run that a checkpoint keeps, those of the model."""
    args = extras.get("args")
    if not isinstance(args, Mapping) or "num_layers" not in args or "hidden_size" not in args:
        return None
    out: dict[str, object] = {k: v for k, v in args.items() if k in _KNOWN and v is not None}
    if args.get("group_query_attention") is False:
        out.pop("num_query_groups", None)
    if isinstance(args.get(UNTIED), bool):
        out[TIED] = not args[UNTIED]
    match args.get("window_size"):
        case [int(left), 0] if left >= 0:  # the words before one's own that it sees
            out["window_size"] = left
    if isinstance(block := args.get("ckptkit"), str):
        out["ckptkit"] = loads(block.encode(), what="args.ckptkit", path=None)
    return {MARK: True, FULL: not args.get("window_size"), **out}


def write_args(raw: dict[str, object]) -> dict[str, object]:
    """Settings as a run's own."""
    out = {k: v for k, v in raw.items() if k not in (MARK, FULL, TIED)}
    if (left := raw.get("window_size")) is not None:
        out["window_size"] = (left, 0)
    if "ckptkit" in raw:
        out["ckptkit"] = json.dumps(raw["ckptkit"], sort_keys=True)
    out[UNTIED] = not raw.get(TIED, False)
    out["group_query_attention"] = raw.get("num_query_groups") not in (None, raw.get("num_attention_heads"))
    return {"args": out}


def megatron(
    modules: Mapping[str, Module], *, heads: str = GROUPS, keys: Mapping[str, str | Key] = {},
    implied: Mapping[str, object] = {}, defaults: Mapping[str, object] = {}, without: Sequence[str] = (),
    full: bool = False,
) -> tuple[Dialect, Dialect]:  # fmt: skip
    """The dialects of a decoder, with TransformerEngine's layers and with the local ones. `heads`: the layout of the rows of query, key
    and value; `without`: canonical values that it lacks; `full`: its attention never sees a window only, which tells it from another
    family."""
    rows: dict[str, str | tuple[str, ...]] = {"embedding.word_embeddings": "embeddings.word"}
    if "embeddings.position" in modules:
        rows["embedding.position_embeddings"] = "embeddings.position"
    parts = [D + f"attention.{p}" for p in ("query", "key", "value")]
    rows |= _norm(modules, D + "attention.norm", A + "linear_qkv", L + "input_layernorm")
    rows |= _joined(modules, A + "linear_qkv", parts, heads)
    rows[A + "linear_proj"] = D + "attention.output"
    for ours, theirs in ((D + "attention.query_norm", A + "q_layernorm"), (D + "attention.key_norm", A + "k_layernorm")):
        if ours in modules:
            rows[theirs] = ours
    if D + "moe.router" in modules:
        # apart with TransformerEngine; the local layers' torch_dist calls it as if it were part of what follows
        rows |= {
            f"{L}pre_mlp_layernorm.{s} | {L}mlp.linear_fc1.layer_norm_{s}": (f"{D}ffn.norm.{s}", "hidden")
            for s, _ in modules[D + "ffn.norm"].params
        }
        rows[L + "mlp.router"] = D + "moe.router"
        rows |= _joined(modules, L + "mlp.experts.local_experts.{expert}.linear_fc1", [E + "gate", E + "up"], "*(intermediate)")
        rows[L + "mlp.experts.local_experts.{expert}.linear_fc2"] = E + "output"
    else:
        rows |= _norm(modules, D + "ffn.norm", L + "mlp.linear_fc1", L + "pre_mlp_layernorm")
        if D + "ffn.gate" in modules:
            rows |= _joined(modules, L + "mlp.linear_fc1", [D + "ffn.gate", D + "ffn.up"], "*(intermediate)")
        else:
            rows[L + "mlp.linear_fc1"] = D + "ffn.intermediate"
        rows[L + "mlp.linear_fc2"] = D + "ffn.output"
    rows["decoder.final_layernorm"] = "decoder.norm"
    rows["output_layer"] = "lm_head"
    every = {**KEYS, **(EXPERTS if D + "moe.router" in modules else {}), **keys}
    every = {k: v for k, v in every.items() if (v if isinstance(v, str) else v.canonical) not in without}
    usual = {"kv_heads": "=heads", "head_dim": "=hidden / heads", "tied": True, "norm_eps": 1e-5, **defaults}
    engine = Dialect(
        name="megatron", title="Megatron-core", style=TORCH, rows=rows, container="megatron",
        config=ConfigForm(
            filename="", keys=every, marks={MARK: True, FULL: True} if full else {MARK: True}, usual=USUAL,
            reader=Reader(extras=read_args), writer=Writer(extras=write_args),
            implied=implied, also=_kinds(modules),
            defaults={k: v for k, v in usual.items() if k not in without},
        ),
        split=SPLIT, pads="vocab", files=Files(ties=False),
    )  # fmt: skip
    swapped = {" | ".join(reversed(n.split(" | "))) if ".layer_norm_" in n.split(" | ")[0] else n: row for n, row in rows.items()}
    return engine, engine._replace(name="megatron_local", title="Megatron-core, local layers", rows=swapped, split=SPLIT._replace(whole=""))


def _kinds(modules: Mapping[str, Module]) -> dict[str, object]:
    """What the settings of a run say of the kinds of its layers."""

    def biased(name: str) -> bool:
        module = modules.get(D + name)
        return module is not None and "bias" not in module.switches and any(suffix == "bias" for suffix, _ in module.params)

    return {
        "swiglu": D + "ffn.gate" in modules or E + "gate" in modules,
        "normalization": "LayerNorm" if biased("ffn.norm") else "RMSNorm",
        "position_embedding_type": "learned_absolute" if "embeddings.position" in modules else "rope",
        "add_bias_linear": biased("ffn.output"),
        "add_qkv_bias": biased("attention.query") and not biased("ffn.output"),
        "qk_layernorm": D + "attention.query_norm" in modules,
    }


def _norm(modules: Mapping[str, Module], norm: str, inside: str, apart: str) -> dict[str, str | tuple[str, ...]]:
    """A norm as TransformerEngine keeps it, in the layer that follows it, or apart."""
    kinds = [suffix for suffix, _ in modules[norm].params]
    return {
        f"{inside}.layer_norm_{suffix} | {apart}.{suffix}": (f"{norm}.{suffix}", "hidden") for suffix in kinds
    }  # fmt: skip


def _joined(modules: Mapping[str, Module], name: str, parts: Sequence[str], layout: str) -> dict[str, str | tuple[str, ...]]:
    rows: dict[str, str | tuple[str, ...]] = {f"{name}.weight": (*(f"{p}.weight" for p in parts), f"{layout} hidden")}
    if any(suffix == "bias" for suffix, _ in modules[parts[0]].params):
        rows[f"{name}.bias"] = (*(f"{p}.bias" for p in parts), layout)
    return rows
