"""What today's decoders share: modules under canonical names, the names that transformers gives them on disk, its configuration's keys.

A family's file says which modules it has and where its names or keys differ from these; a family of Llama's kind is a page.
Sources: transformers 4.30 to 5.23, models/*/modeling_*.py and configuration_*.py, core_model_loading.py and conversion_mapping.py
(the form in memory), modeling_rope_utils.py (rope_parameters, which 4.x wrote as rope_theta and rope_scaling).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ckptkit.arch._libraries.decoder_words import D as D
from ckptkit.arch._libraries.decoder_words import E as E
from ckptkit.arch._libraries.decoder_words import may as may
from ckptkit.arch._libraries.layer_kinds import Values as Values
from ckptkit.arch._libraries.layer_kinds import dense_or_experts as dense_or_experts
from ckptkit.arch._libraries.layer_kinds import first_dense as first_dense
from ckptkit.arch._libraries.layer_kinds import in_layers as in_layers
from ckptkit.arch._libraries.layer_kinds import of_types as of_types
from ckptkit.arch._libraries.layer_kinds import sparse_or_first_dense as sparse_or_first_dense
from ckptkit.arch._libraries.mlx import mlx
from ckptkit.arch._libraries.transformers import HF_ACTIVATIONS
from ckptkit.schema import (
    TORCH,
    Architecture,
    Besides,
    Class,
    ConfigForm,
    Derived,
    Dialect,
    Files,
    Key,
    Module,
    Reader,
    embedding,
    linear,
    norm,
    param,
)

Rows = Mapping[str, str | tuple[str, ...]]
Unfold = Callable[[Values], "dict[str, object] | None"]

H = "~layers.{layer}."

# --- modules -------------------------------------------------------------------------------------------------------

WORDS = {"embeddings.word": embedding("vocab hidden")}


def last(*, bias: bool | str = False, head_bias: bool | str = False) -> dict[str, Module]:
    """The norm after the last layer, and the heads: of words (which may be the embeddings), of classes."""
    return {
        "decoder.norm": norm("hidden", bias=bias),
        "lm_head": linear("vocab", "hidden", bias=head_bias, group="lm", tied={"weight": "embeddings.word.weight"}),
        "score": linear("labels", "hidden", bias=False, group="score"),
    }


def attention(
    *, bias: bool | str = False, out_bias: bool | str = False, norms: Sequence[str] = ("norm",), norm_bias: bool | str = False,
    qk_norm: str = "", pairs: bool = False, kv: str = "kv_heads",
) -> dict[str, Module]:  # fmt: skip
    """Grouped queries. `qk_norm`: the axes of a norm of queries and keys, "head_dim", or "all" for the whole projection; `pairs`: rotary
    pairs are told apart, which some namings keep side by side."""
    wide = "two half" if pairs else "head_dim"
    out = {D + f"attention.{n}": norm("hidden", bias=norm_bias) for n in norms}
    out |= {
        D + "attention.query": linear(f"heads {wide}", "hidden", bias=bias),
        D + "attention.key": linear(f"{kv} {wide}", "hidden", bias=bias),
        D + "attention.value": linear(f"{kv} head_dim", "hidden", bias=bias),
        D + "attention.output": linear("hidden", "heads head_dim", bias=out_bias),
    }
    if qk_norm:
        whole = qk_norm == "all"
        out[D + "attention.query_norm"] = norm("(heads head_dim)" if whole else qk_norm, bias=False)
        out[D + "attention.key_norm"] = norm(f"({kv} head_dim)" if whole else qk_norm, bias=False)
    return out


def gated(
    *, bias: bool | str = False, norms: Sequence[str] = ("norm",), norm_bias: bool | str = False, width: str = "intermediate"
) -> dict[str, Module]:
    """A feed-forward whose gate multiplies it."""
    return {
        **{D + f"ffn.{n}": norm("hidden", bias=norm_bias) for n in norms},
        D + "ffn.gate": linear(width, "hidden", bias=bias),
        D + "ffn.up": linear(width, "hidden", bias=bias),
        D + "ffn.output": linear("hidden", width, bias=bias),
    }


def plain(*, bias: bool | str = True, norms: Sequence[str] = ("norm",), norm_bias: bool | str = True) -> dict[str, Module]:
    """A feed-forward of two layers."""
    return {
        **{D + f"ffn.{n}": norm("hidden", bias=norm_bias) for n in norms},
        D + "ffn.intermediate": linear("intermediate", "hidden", bias=bias),
        D + "ffn.output": linear("hidden", "intermediate", bias=bias),
    }


def experts(width: str = "moe_intermediate", *, correction: str = "", router_bias: bool = False, bias: bool = False) -> dict[str, Module]:
    """A router and its experts. `correction`: the layout of the router's learned correction, by which it chooses."""
    out = {
        D + "moe.router": linear("experts", "hidden", bias=router_bias),
        E + "gate": linear(width, "hidden", bias=bias),
        E + "up": linear(width, "hidden", bias=bias),
        E + "output": linear("hidden", width, bias=bias),
    }
    return out | ({D + "moe.correction": param(correction)} if correction else {})


def shared(width: str, *, gate: bool = False, bias: bool | str = False, switch: str = "") -> dict[str, Module]:
    """A feed-forward that every token passes beside the experts. `switch`: what it hangs on, in a family that may have none."""
    out = {
        D + "moe.shared.gate": linear(width, "hidden", bias=bias),
        D + "moe.shared.up": linear(width, "hidden", bias=bias),
        D + "moe.shared.output": linear("hidden", width, bias=bias),
    }
    if switch:
        out = {k: m._replace(switches={**m.switches, "weight": switch}) for k, m in out.items()}
    return out | ({D + "moe.shared_gate": linear("1", "hidden", bias=False)} if gate else {})


# --- names ---------------------------------------------------------------------------------------------------------

NAMES: Mapping[str, str] = {
    "embeddings.word": "~embed_tokens",
    D + "attention.norm": H + "input_layernorm",
    D + "attention.query": H + "self_attn.q_proj",
    D + "attention.key": H + "self_attn.k_proj",
    D + "attention.value": H + "self_attn.v_proj",
    D + "attention.output": H + "self_attn.o_proj",
    D + "attention.query_norm": H + "self_attn.q_norm",
    D + "attention.key_norm": H + "self_attn.k_norm",
    D + "attention.post_norm": H + "post_attention_layernorm",
    D + "ffn.norm": H + "post_attention_layernorm",
    D + "ffn.post_norm": H + "post_feedforward_layernorm",
    D + "ffn.gate": H + "mlp.gate_proj",
    D + "ffn.up": H + "mlp.up_proj",
    D + "ffn.output": H + "mlp.down_proj",
    D + "moe.router": H + "mlp.gate",
    D + "moe.correction": H + "mlp.gate.e_score_correction_bias",
    E + "gate": H + "mlp.experts.{expert}.gate_proj",
    E + "up": H + "mlp.experts.{expert}.up_proj",
    E + "output": H + "mlp.experts.{expert}.down_proj",
    D + "moe.shared.gate": H + "mlp.shared_experts.gate_proj",
    D + "moe.shared.up": H + "mlp.shared_experts.up_proj",
    D + "moe.shared.output": H + "mlp.shared_experts.down_proj",
    "decoder.norm": "~norm",
    "lm_head": "lm_head | language_model.lm_head",
    "score": "score",
}
UP_DOWN = {D + "ffn.intermediate": H + "mlp.up_proj"}  # a feed-forward of two layers under the names of a gated one
SANDWICH = {D + "ffn.norm": H + "pre_feedforward_layernorm"}  # Gemma 2's: a norm before and one after each part
QWEN_SHARED = {
    D + "moe.shared.gate": H + "mlp.shared_expert.gate_proj",
    D + "moe.shared.up": H + "mlp.shared_expert.up_proj",
    D + "moe.shared.output": H + "mlp.shared_expert.down_proj",
    D + "moe.shared_gate": H + "mlp.shared_expert_gate",
}
MIXTRAL = {
    D + "moe.router": H + "block_sparse_moe.gate",
    E + "gate": H + "block_sparse_moe.experts.{expert}.w1",
    E + "up": H + "block_sparse_moe.experts.{expert}.w3",
    E + "output": H + "block_sparse_moe.experts.{expert}.w2",
}
PREFIXES = ("model.", "", "model.language_model.", "language_model.model.")  # the later ones of models with further senses
FREQUENCIES = {n: Derived("inv_freq", "rotary") for n in (H + "self_attn.rotary_emb.inv_freq", "~rotary_emb.inv_freq")}  # of older files


def stacked(width: str = "moe_intermediate", at: str = H + "mlp.experts.") -> dict[str, str | tuple[str, ...]]:
    """The rows of a layer's experts as transformers 5 has them in memory: one tensor for gate and up, one for what comes out."""
    return {
        at + "gate_up_proj": (E + "gate.weight", E + "up.weight", f"*{{expert}} *({width}) hidden"),
        at + "down_proj": (E + "output.weight", f"*{{expert}} hidden {width}"),
    }


G = "~h.{layer}."  # GPT-2's kind of names
GPT = {
    "embeddings.word": "~wte",
    "embeddings.position": "~wpe",
    D + "attention.norm": G + "ln_1",
    D + "ffn.norm": G + "ln_2",
    D + "ffn.intermediate": G + "mlp.c_fc",
    D + "ffn.output": G + "mlp.c_proj",
    "decoder.norm": "~ln_f",
}
BLOOM = {
    "embeddings.word": "~word_embeddings",
    D + "attention.norm": G + "input_layernorm",
    D + "attention.output": G + "self_attention.dense",
    D + "ffn.norm": G + "post_attention_layernorm",
    D + "ffn.intermediate": G + "mlp.dense_h_to_4h",
    D + "ffn.output": G + "mlp.dense_4h_to_h",
    "decoder.norm": "~ln_f",
}
FAIRSEQ = {
    D + "attention.norm": H + "self_attn_layer_norm",
    D + "attention.output": H + "self_attn.out_proj",
    D + "ffn.norm": H + "final_layer_norm",
    D + "ffn.intermediate": H + "fc1",
    D + "ffn.output": H + "fc2",
    "decoder.norm": "~layer_norm",
}


def fused(name: str, layout: str, inside: str = "hidden", *, bias: bool = True, order: str = "query key value") -> Rows:
    """The rows of query, key and value in one linear layer; `layout`: of its rows, "(heads *(head_dim))"."""
    return joined(name, layout, inside, [D + f"attention.{part}" for part in order.split()], bias=bias)


def joined(name: str, layout: str, inside: str, parts: Sequence[str], *, bias: bool = False) -> Rows:
    """The rows of several linear layers in one: `parts` are canonical modules, `layout` is of the rows, "*(kv_rank rope)"."""
    rows: dict[str, tuple[str, ...]] = {f"{name}.weight": (*(f"{p}.weight" for p in parts), f"{layout} {inside}")}
    return rows | ({f"{name}.bias": (*(f"{p}.bias" for p in parts), layout)} if bias else {})


def masks(at: str) -> Besides:
    """The masks that older versions keep in every layer's attention."""
    return Besides(
        derived={f"{at}.bias": Derived("causal", "1 1 queries keys"), f"{at}.rotary_emb.inv_freq": Derived("inv_freq", "rotary")},
        strays={f"{at}.masked_bias": "the number that older versions put where the mask hides a score"},
    )


# --- low-rank attention --------------------------------------------------------------------------------------------

A = D + "attention."


PREDICTION = "a layer for multi-token prediction, numbered after the model's last: transformers leaves it out"
BESIDE = {  # what only such layers of DeepSeek's and GLM's published files have
    H + f"{name}.weight": PREDICTION for name in ("eh_proj", "enorm", "hnorm", "embed_tokens", "shared_head.norm", "shared_head.head")
}

# --- configuration -------------------------------------------------------------------------------------------------


ACTIVATIONS = {**HF_ACTIVATIONS, "relu2": "relu2", "quick_gelu": "quick_gelu", "gelu_10": "gelu_10", "xielu": "xielu"}
SIZES: Mapping[str, str | Key] = {
    "vocab_size": "vocab",
    "hidden_size": "hidden",
    "intermediate_size": "intermediate",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "num_key_value_heads": may("kv_heads"),
    "head_dim": may("head_dim"),
    "max_position_embeddings": may("max_positions"),
    "tie_word_embeddings": "tied",
    "initializer_range": may("initializer_range"),
    "attention_dropout": may("attention_dropout"),
}


def rope(name: str = "rope", kind: str = "", theta: str = "rope_theta", part: str = "partial_rotary_factor") -> dict[str, str | Key]:
    """The keys of rotary positions, of all layers or of a `kind` of them; `theta` and `part` are how 4.x called their base and the part of
    a head that they turn."""
    places: tuple[str, ...] = (f"rope_parameters.{kind}",) if kind else ()
    shared = name == "rope"  # what stands for all layers where nothing is said of a kind
    places += ("rope_parameters", "rope_scaling") if shared else ()
    single = {"rope_theta": f" | {theta}", "partial_rotary_factor": f" | {part}" * shared}
    single["rope_type"] = " | rope_scaling.type" * shared
    single["original_max_position_embeddings"] = " | original_max_position_embeddings" * shared
    canonical = {"rope_theta": "theta", "rope_type": "type", "partial_rotary_factor": "part"}
    return {
        " | ".join(f"{p}.{k}" for p in places) + single.get(k, ""): may(f"{name}_{canonical.get(k, k)}")
        for k in (
            "rope_theta", "rope_type", "partial_rotary_factor", "factor", "attention_factor", "beta_fast", "beta_slow", "short_factor",
            "long_factor", "low_freq_factor", "high_freq_factor", "mscale", "mscale_all_dim", "mrope_section", "truncate",
            "llama_4_scaling_beta", "original_max_position_embeddings", "alpha",
        )
    }  # fmt: skip


ROPE = rope()
GPT_SIZES: Mapping[str, str | Key] = {
    "vocab_size": "vocab",
    "n_embd": "hidden",
    "n_layer": "layers",
    "n_head": "heads",
    "n_inner": may("intermediate"),
    "n_positions": may("max_positions"),
    "tie_word_embeddings": "tied",
    "initializer_range": may("initializer_range"),
    "attn_pdrop": may("attention_dropout"),
    "resid_pdrop": may("dropout"),
    "embd_pdrop": may("embedding_dropout"),
}
PLAIN: tuple[str, ...] = ()  # what is never assumed besides, where no positions are rotary
KINDS = {**rope(kind="full_attention"), "layer_types": may("layer_types"), "sliding_window": may("window")}  # rotary bases by kind of layer


def of_experts(count: str = "num_experts | num_local_experts") -> dict[str, str | Key]:
    """The keys of experts; `count`: the one that counts them, with its alternatives."""
    return {count: "experts", "num_experts_per_tok": may("experts_per_token"), "norm_topk_prob": may("normalise_experts")}


LOW_RANK_KEYS: Mapping[str, str | Key] = {
    "q_lora_rank": may("q_rank"), "kv_lora_rank": "kv_rank", "qk_nope_head_dim": "nope", "qk_rope_head_dim": "rope",
    "v_head_dim": "value_dim",
}  # fmt: skip
DEEPSEEK: Mapping[str, str | Key] = {
    **of_experts("n_routed_experts | num_local_experts"), "moe_intermediate_size": "moe_intermediate",
    "first_k_dense_replace": may("first_dense"), "n_shared_experts": may("shared_experts"), "mlp_layer_types": may("mlp_layer_types"),
    "n_group": may("expert_groups"), "topk_group": may("groups_per_token"), "routed_scaling_factor": may("routed_scale"),
    "topk_method": may("topk_method"),
}  # fmt: skip


def flags(*words: str) -> dict[str, str | Key]:
    """Keys that are called as they are here."""
    return {w: may(w) for w in words}


DEFAULTS: Mapping[str, object] = {"kv_heads": "=heads", "head_dim": "=hidden / heads", "tied": False, "rope_theta": 10000.0}


def classes(stem: str, *, score: bool = True) -> tuple[Class, ...]:
    """transformers' classes of a family: "Llama" -> LlamaForCausalLM, LlamaModel, LlamaForSequenceClassification."""
    of_words = (Class(f"{stem}ForCausalLM", frozenset({"lm"})), Class(f"{stem}Model", frozenset()))
    return (*of_words, Class(f"{stem}ForSequenceClassification", frozenset({"score"}))) if score else of_words


def unfolding(keys: Mapping[str, str | Key], model_type: str, pairs: str, own: Unfold | None) -> Unfold:
    """What makes a form's own settings of bert4torch's, which say `model`; upon them, and upon those of others, `own` is applied."""

    def unfold(raw: Values) -> dict[str, object] | None:
        if not isinstance(raw.get("model"), str):
            return own(raw) if own is not None else None
        from ckptkit.arch._libraries.bert4torch_keys import in_form

        said = in_form(raw, keys, model_type, pairs)
        said = (own(said) if own is not None else None) or said
        return {k: v for k, v in said.items() if k != "model"}

    return unfold


def hf(
    model_type: str, stem: str, modules: Mapping[str, Module], *, names: Mapping[str, str] = {},
    rows: Mapping[str, str | tuple[str, ...]] = {}, keys: Mapping[str, str | Key] = {}, without: Sequence[str] = (),
    defaults: Mapping[str, object] = {}, implied: Mapping[str, object] = {}, also: Mapping[str, object] = {},
    sizes: Mapping[str, str | Key] = SIZES, positions: Mapping[str, str | Key] = ROPE, eps: str = "rms_norm_eps", act: str = "hidden_act",
    prefixes: tuple[str, ...] = PREFIXES, besides: Besides | None = None, usual: Mapping[str, object] = {}, unfold: Unfold | None = None,
    pairs: str = "half", unread: Mapping[str, str] = {}, **more: object,
) -> Dialect:  # fmt: skip
    """A family's disk form in transformers. `names`: of modules whose name is not the usual; `rows`: what holds other than one module,
    instead of the rows of those; `keys`: further ones, and `without` those (canonical) that it does not have; `sizes`, `positions`: other
    keys than the usual; `eps`, `act`: the keys of the norms' epsilon and of the activation ("": none); `usual`, `unread`: see `ConfigForm`;
    `unfold`: what the family's code makes of its settings; `pairs`: how it turns a head's columns."""
    own = {**NAMES, **names}
    held = {p.rpartition(".")[0] if p not in modules else p for v in rows.values() for p in (v[:-1] if isinstance(v, tuple) else (v,))}
    form: dict[str, str | Key] = {
        "pad_token_id": may("pad"),
        **sizes,
        **positions,
        **({act: Key("activation", words=ACTIVATIONS)} if act else {}),
    }
    form |= {**({eps: "norm_eps"} if eps else {}), **keys}
    read = {k: v for k, v in form.items() if (v if isinstance(v, str) else v.canonical) not in without and k not in unread}
    return Dialect(
        name="hf",
        title="transformers (PyTorch)",
        style=TORCH,
        prefixes=prefixes,
        rows={**{own[m]: m for m in modules if m not in held}, **rows},
        classes=classes(stem),
        besides=besides or Besides(derived=FREQUENCIES),
        files=Files(metadata={"format": "pt"}),
        config=ConfigForm(
            filename="config.json",
            keys=read,
            reader=Reader(unfold=unfolding(read, model_type, pairs, unfold)),
            labels=True,
            marks={"model_type": model_type},
            defaults={k: v for k, v in {**DEFAULTS, **defaults}.items() if k not in without},
            implied=implied,
            also=also,
            usual=usual,
            unread=unread,
        ),
        **more,  # type: ignore[arg-type]
    )


def in_memory(disk: Dialect, modules: Mapping[str, Module], *, rows: Rows, names: Mapping[str, str] = {}) -> Dialect:
    """The names that transformers 5 has in memory (`state_dict()`), which `save_pretrained` turns into those on disk: `rows` instead of
    what they hold there, `names` of modules called otherwise."""
    held = {p.rpartition(".")[0] for v in rows.values() for p in v[:-1]}
    other = {k for k, v in disk.rows.items() if isinstance(v, tuple) and any(p.rpartition(".")[0] in held for p in v[:-1])}
    kept = {k: v for k, v in disk.rows.items() if k not in other and v not in held and v not in names}
    return disk._replace(name="hf_memory", title="transformers 5 (in memory)", rows={**kept, **{n: m for m, n in names.items()}, **rows})


# decoders of whose models bert4torch's modules have one matrix each
OF_BERT4TORCH = ("llama", "baichuan", "internlm", "internlm2", "qwen", "qwen2", "qwen3", "minicpm", "ernie4_5")


def decoder(name: str, title: str, modules: Mapping[str, Module], *dialects: Dialect, **more: object) -> Architecture:
    """An architecture of one stack with rotary positions."""
    axes = {a for m in modules.values() for _, text in m.params for a in text.replace("(", " ").split()}
    pairs, groups = "two" in axes, "per_group" in axes
    counted = any(k == "shared_experts" for d in dialects for k in map(_canonical, d.config.keys.values()))
    said: dict[str, object] = {
        "heads": ("heads", "kv_heads"),
        "required": ("rope_theta",),
        "relations": (
            *(("head_dim = two half",) if pairs else ()),
            *(("heads = kv_heads per_group",) if groups else ()),
            *(("shared_intermediate = shared_experts moe_intermediate",) if counted else ()),
        ),
        "fixed": {"two": 2} if pairs else {},
    }
    said["relations"] = (*said["relations"], *more.pop("relations", ()))  # type: ignore[misc]
    dialects = (*dialects, *mlx(name, dialects))
    if name in OF_BERT4TORCH:
        from ckptkit.arch._libraries.bert4torch_memory import memory

        dialects = (*dialects, memory(dialects[0], modules))
    if any(d.container == "gguf" for d in dialects):
        from ckptkit.arch._libraries.gguf_rope import DERIVATIONS

        said["derivations"] = DERIVATIONS
    return Architecture(name=name, title=title, modules=modules, dialects=dialects, **{**said, **more})  # type: ignore[arg-type]


def _canonical(spec: str | Key) -> str:
    return spec if isinstance(spec, str) else spec.canonical
