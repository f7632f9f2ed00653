"""NLLB with experts: M2M-100 among whose layers some have experts, of which each token passes the two best.

Source: transformers models/nllb_moe (names, classes, which layers are sparse); fairseq's moe_layer and top2gate. In evaluation an expert
gives less by what training leaves out of it (`moe_token_dropout`), and has room for every token (a fraction of 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ckptkit.arch._libraries import bart
from ckptkit.arch._libraries.decoder_words import may
from ckptkit.schema import Module, linear, norm, when

M2M = bart.modules(last=True, biased=False)
# (layer, switch, stored layer, width of its feed-forwards)
STACKS = (
    (bart.E, "moe@layer", "~encoder.layers.{layer}.", "intermediate"),
    (bart.D, "moe@decoder_layer", "~decoder.layers.{decoder_layer}.", "decoder_intermediate"),
)


def _modules() -> dict[str, Module]:
    out = {k: m for k, m in M2M.items() if ".ffn." not in k and k.partition(".")[0] not in ("classification", "qa")}
    for at, switch, _, width in STACKS:
        out[at + "ffn.norm"] = norm("hidden")
        out[at + "ffn.intermediate"] = when(f"not {switch}", linear(width, "hidden"))
        out[at + "ffn.output"] = when(f"not {switch}", linear("hidden", width))
        out[at + "moe.router"] = when(switch, linear("experts", "hidden", bias="router_bias"))
        out[at + "moe.experts.{expert}.up"] = when(switch, linear(width, "hidden"))
        out[at + "moe.experts.{expert}.output"] = when(switch, linear("hidden", width))
    return out


def _rows() -> dict[str, str | tuple[str, ...]]:
    rows = {k: v for k, v in bart.rows(M2M).items() if ".ffn." not in str(v) and not str(v).startswith(("classification", "qa"))}
    rows = {k.replace("encoder_attn", "cross_attention"): v for k, v in rows.items()}
    for at, _, stored, _ in STACKS:
        rows |= {stored + "ff_layer_norm": at + "ffn.norm", stored + "ffn.router.classifier": at + "moe.router"}
        for name, dense, expert in (("fc1", "intermediate", "up"), ("fc2", "output", "output")):
            rows[f"{stored}ffn.{name}"] = f"{at}ffn.{dense}"
            rows[f"{stored}ffn.experts.expert_{{expert}}.{name}"] = f"{at}moe.experts.{{expert}}.{expert}"
    return rows


def sparse(stack: str, layers: str) -> object:
    """Which layers of a stack have experts: every so many-th."""

    def of(values: Mapping[str, object]) -> Sequence[bool] | None:
        count, step = values.get(layers), values.get(f"{stack}_sparse_step")
        if not isinstance(count, int) or not isinstance(step, int):
            return None
        return [step > 0 and (i + 1) % step == 0 for i in range(count)]

    return of


MODULES = _modules()
BART = bart.hf(
    "nllb-moe", M2M, bart.classes("NllbMoe"),
    keys={
        "max_position_embeddings": may("max_positions"), "num_experts": "experts", "router_bias": may("router_bias"),
        "encoder_sparse_step": may("encoder_sparse_step"), "decoder_sparse_step": may("decoder_sparse_step"),
        "moe_token_dropout": may("left_out"), "moe_eval_capacity_token_fraction": may("expert_room"),
        "second_expert_policy": may("second_expert"),
    },
    defaults={
        "activation": "relu", "scale_embedding": True, "attention_dropout": 0.1, "router_bias": False, "encoder_sparse_step": 4,
        "decoder_sparse_step": 4, "left_out": 0.2, "expert_room": 1.0, "second_expert": "all",
    },
)  # fmt: skip
HF = BART._replace(
    rows=_rows(),
    config=BART.config._replace(
        usual={
            **BART.config.usual, "router_dtype": "float32", "router_ignore_padding_tokens": ..., "expert_capacity": ...,
            "router_z_loss_coef": ..., "router_aux_loss_coef": ..., "batch_prioritized_routing": ..., "output_router_logits": ...,
            "normalize_router_prob_before_dropping": ..., "activation_dropout": ...,
        }
    ),
)  # fmt: skip

ARCHITECTURE = bart.architecture(
    "nllb_moe", "NLLB-MoE", MODULES, (HF,), positions="", norm="", names=("nllb-moe",), fixed={},
    relations=("hidden = heads head_dim", "hidden = decoder_heads decoder_head_dim"),
    kinds={"moe@layer": sparse("encoder", "layers"), "moe@decoder_layer": sparse("decoder", "decoder_layers")},
    traits={
        **bart.traits("counted_sinusoids", "before"), "heads": {"lm": "lm"}, "router": "softmax", "per_token": 2, "normalised": True,
        "expert_loss": "=left_out", "runs_with": {"expert_room": (1.0, 1), "second_expert": ("all",)},
    },
    variants={"nllb-moe-54b": {"layers": 24, "decoder_layers": 24, "hidden": 2048, "heads": 16, "vocab": 256206, "experts": 128}},
)  # fmt: skip
