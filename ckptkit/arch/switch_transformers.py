"""Switch Transformers: T5 1.0 among whose layers some have experts, of which each token passes the best one, as far as that has room.

Source: transformers models/switch_transformers (names, classes, which layers are sparse, `expert_capacity`); arXiv 2101.03961.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ckptkit.arch._libraries.decoder_words import may
from ckptkit.arch._libraries.transformers import PIECES
from ckptkit.arch.t5 import ALSO, DEFAULTS, HF_ROWS, KEYS, MODULES, TRAITS, D, E
from ckptkit.schema import TORCH, Architecture, Besides, Class, ConfigForm, Dialect, Files, Repeat, linear, when

FEWER = ("qa", "classification.dense", "classification.output", "classifier")
# (layer, switch, stored layer)
STACKS = (
    (E, "moe@layer", "~encoder.block.{layer}.layer.1."),
    (D, "moe@decoder_layer", "~decoder.block.{decoder_layer}.layer.2."),
)


def _modules() -> dict[str, object]:
    out: dict[str, object] = {k: m for k, m in MODULES.items() if k not in FEWER and ".ffn." not in k}
    for at, switch, _ in STACKS:
        out[at + "ffn.norm"] = MODULES[at + "ffn.norm"]
        group = "core" if at == E else "decoder"
        out[at + "ffn.intermediate"] = when(f"not {switch}", linear("intermediate", "hidden", bias=False, group=group))
        out[at + "ffn.output"] = when(f"not {switch}", linear("hidden", "intermediate", bias=False, group=group))
        router = linear("experts", "hidden", bias="router_bias", group=group)
        out[at + "moe.router"] = when(switch, router)
        out[at + "moe.experts.{expert}.up"] = when(switch, linear("intermediate", "hidden", bias=False, group=group))
        out[at + "moe.experts.{expert}.output"] = when(switch, linear("hidden", "intermediate", bias=False, group=group))
    return out


def _rows() -> dict[str, str | tuple[str, ...]]:
    rows = {f"~{k}": v for k, v in HF_ROWS.items() if v not in FEWER and ".ffn." not in str(v)}
    for at, _, stored in STACKS:
        rows[stored + "layer_norm"] = at + "ffn.norm"
        rows |= {stored + "mlp.wi": at + "ffn.intermediate", stored + "mlp.wo": at + "ffn.output"}
        rows[stored + "mlp.router.classifier"] = at + "moe.router"
        for name, ours in (("wi", "up"), ("wo", "output")):
            rows[f"{stored}mlp.experts.expert_{{expert}}.{name}"] = f"{at}moe.experts.{{expert}}.{ours}"
    return rows


def sparse(stack: str, layers: str) -> object:
    """Which layers of a stack have experts, by its step: said, or a layer of so many that there are experts in that number of them."""

    def of(values: Mapping[str, object]) -> Sequence[bool] | None:
        count, step, some = (values.get(k) for k in (layers, f"{stack}_sparse_step", f"sparse_{layers}"))
        if not isinstance(count, int):
            return None
        if not isinstance(step, int):
            if not isinstance(some, int):
                return None
            step = count // some if some > 0 else count
        return [step == 1 or (step > 0 and i % step == 1) for i in range(count)]

    return of


ARCHITECTURE = Architecture(
    name="switch_transformers",
    title="Switch Transformers",
    modules=_modules(),  # type: ignore[arg-type]
    kinds={"moe@layer": sparse("encoder", "layers"), "moe@decoder_layer": sparse("decoder", "decoder_layers")},  # type: ignore[dict-item]
    traits={
        **TRAITS, "heads": {"decoder": "part", "lm": "lm at lm_head"}, "router": "softmax", "per_token": 1, "normalised": False,
        "expert_capacity": "=expert_capacity",
    },
    variants={
        "switch-base-8": {"layers": 12, "hidden": 768, "heads": 12, "experts": 8},
        "switch-base-128": {"layers": 12, "hidden": 768, "heads": 12, "experts": 128},
        "switch-large-128": {"layers": 24, "hidden": 1024, "heads": 16, "experts": 128},
    },
    dialects=(
        Dialect(
            name="hf",
            title="transformers (PyTorch)",
            style=TORCH,
            rows=_rows(),
            besides=Besides(
                repeats={
                    "~encoder.embed_tokens.weight": "embeddings.word.weight",
                    "~decoder.embed_tokens.weight": Repeat("embeddings.word.weight", "decoder"),
                }
            ),
            classes=(
                Class("SwitchTransformersForConditionalGeneration", frozenset({"decoder"})),
                Class("SwitchTransformersModel", frozenset({"decoder"}), without=frozenset({"lm_head.weight"})),
                Class("SwitchTransformersEncoderModel", frozenset()),
            ),
            files=Files(metadata={"format": "pt"}, sidecars=PIECES),
            config=ConfigForm(
                filename="config.json",
                keys={
                    **{k: v for k, v in KEYS.items() if k not in ("feed_forward_proj", "is_gated_act", "scale_decoder_outputs")},
                    "num_experts": "experts", "expert_capacity": "expert_capacity", "router_bias": may("router_bias"),
                    "encoder_sparse_step": may("encoder_sparse_step"), "decoder_sparse_step": may("decoder_sparse_step"),
                    "num_sparse_encoder_layers": may("sparse_layers"), "num_sparse_decoder_layers": may("sparse_decoder_layers"),
                },
                labels=True,
                marks={"model_type": "switch_transformers"},
                defaults={
                    **DEFAULTS, "activation": "relu", "experts": 8, "expert_capacity": 64, "router_bias": False, "sparse_layers": 3,
                    "sparse_decoder_layers": 3,
                },
                also=ALSO,
                usual={
                    "router_jitter_noise": ..., "router_dtype": "float32", "router_ignore_padding_tokens": ..., "router_z_loss_coef": ...,
                    "router_aux_loss_coef": ..., "add_router_probs": ..., "n_positions": ...,
                },
            ),
        ),
    ),
)  # fmt: skip
