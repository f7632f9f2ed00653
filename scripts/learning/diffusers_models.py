"""The models of diffusers as types of one class each: what the learner asks of a configuration and a class, answered by the arguments
that diffusers writes to config.json."""

from __future__ import annotations

import inspect
import json
import random
import re
from functools import cache
from typing import Any, ClassVar

import diffusers
import torch

from . import observe

# what some classes need, and the default arguments do not say
NEEDED: dict[str, dict[str, Any]] = {
    "AutoencoderKL": {
        "down_block_types": ["DownEncoderBlock2D"] * 3, "up_block_types": ["UpDecoderBlock2D"] * 3, "block_out_channels": [32, 64, 96],
    },
    "AsymmetricAutoencoderKL": {
        "down_block_types": ["DownEncoderBlock2D"] * 3, "up_block_types": ["UpDecoderBlock2D"] * 3,
        "down_block_out_channels": [32, 64, 96], "up_block_out_channels": [32, 96, 128],
    },
    "AutoencoderKLTemporalDecoder": {"down_block_types": ["DownEncoderBlock2D"] * 3, "block_out_channels": [32, 64, 96]},
    "VQModel": {
        "down_block_types": ["DownEncoderBlock2D"] * 3, "up_block_types": ["UpDecoderBlock2D"] * 3, "block_out_channels": [32, 64, 96],
    },
    "HunyuanDiT2DModel": {"in_channels": 4, "patch_size": 2},
    "HunyuanDiT2DControlNetModel": {"in_channels": 4, "patch_size": 2},
    "HiDreamImageTransformer2DModel": {"patch_size": 2, "caption_channels": [4096, 4096], "llama_layers": [0, 1, 2, 3]},
    "LuminaNextDiT2DModel": {"num_kv_heads": 8},
    "LatteTransformer3DModel": {
        "in_channels": 4, "patch_size": 2, "norm_type": "ada_norm_single", "caption_channels": 64, "num_embeds_ada_norm": 1000,
    },
    "OmniGenTransformer2DModel": {"rope_scaling": {"long_factor": [1.0], "short_factor": [1.0], "type": "su"}},
    "Transformer2DModel": {"in_channels": 32, "num_attention_heads": 4, "attention_head_dim": 8},
    "TransformerTemporalModel": {"in_channels": 32, "num_attention_heads": 4, "attention_head_dim": 8},
}  # fmt: skip
# keys that the library spreads over the blocks where they are one number: key -> the list of blocks
LISTS = ("UNet2DConditionModel", "UNetMotionModel", "UNetSpatioTemporalConditionModel")  # whose keys may be lists
SPREAD = dict.fromkeys(
    ("layers_per_block", "transformer_layers_per_block", "cross_attention_dim", "attention_head_dim"), "down_block_types"
)

# keys that only old research models set: left as they are, and where a configuration says another value its schema is not used
FIXED = (
    "only_cross_attention", "dual_cross_attention", "class_embeddings_concat", "attention_type", "time_embedding_type",
    "time_embedding_dim", "mid_block_only_cross_attention", "cross_attention_norm", "reverse_transformer_layers_per_block",
    "resnet_time_scale_shift", "resnet_skip_time_act", "class_embed_type", "encoder_hid_dim_type", "encoder_hid_dim",
    "downsample_type", "upsample_type", "timestep_post_act", "time_embedding_act_fn", "conv_in_kernel", "conv_out_kernel",
    "attn_norm_num_groups", "mid_block_type", "mid_block_add_attention", "add_attention", "use_motion_mid_block",
)  # fmt: skip

# words that modules deeper in the library know
WORDS = {
    "qk_norm": ("rms_norm", "layer_norm", "rms_norm_across_heads"),
    "activation_fn": ("gelu-approximate", "geglu", "gelu", "silu", "linear-silu"),
    "act_fn": ("silu", "swish", "gelu", "relu", "mish"),
    "norm_type": ("ada_norm_single", "ada_norm_zero", "ada_norm", "layer_norm"),
}
BLOCKS = ("DownBlock2D", "CrossAttnDownBlock2D", "AttnDownBlock2D")


def up(block: str) -> str:
    """The block of a decoder that goes a block of an encoder's way back."""
    return block.replace("Down", "Up").replace("Encoder", "Decoder")


TRIED = {
    "layers_per_block": [1, 2, 3], "transformer_layers_per_block": [1, 2, 3], "cross_attention_dim": [64, 96, 160, 224],
    "attention_head_dim": [4, 8, 16],
}  # fmt: skip
BESIDES = (
    "in_channels", "out_channels", "latent_channels", "num_class_embeds", "time_cond_proj_dim", "use_linear_projection", "use_quant_conv",
    "use_post_quant_conv",
)  # fmt: skip


class Arguments:
    """The arguments of a class, as its configuration: those given, else the defaults."""

    model_type: ClassVar[str]
    of: ClassVar[type]
    SPREAD: ClassVar[dict[str, str]] = SPREAD
    FIXED: ClassVar[tuple[str, ...]] = ()

    def __init__(self, **given: Any) -> None:
        said = {
            k: p.default
            for k, p in inspect.signature(self.of.__init__).parameters.items()
            if k != "self" and p.kind is not p.VAR_KEYWORD and p.default is not p.empty
        }
        said |= {k: v for k, v in given.items() if k != "num_labels"}
        for key, value in said.items():
            setattr(self, key, list(value) if isinstance(value, tuple) else value)

    def to_json_string(self, use_diff: bool = False) -> str:
        return json.dumps({"_class_name": self.model_type, **vars(self)}, default=str)


class Builder:
    """What makes a model of its arguments, with the names that the learner asks of a class."""

    base_model_prefix = ""
    library = f"diffusers {diffusers.__version__}"

    def __init__(self, cls: type, arguments: type[Arguments]) -> None:
        self.__name__, self.__module__, self.config_class, self.of = cls.__name__, cls.__module__, arguments, cls
        said = vars(arguments(**NEEDED.get(cls.__name__, {})))
        self.lists: set[str] = set()
        worded = [key for key, value in said.items() if isinstance(value, (str, list, type(None)))]
        self.words = {key: [*words(cls.__module__, key), *WORDS.get(key, ())] for key in worded}
        every = inspect.signature(cls.__init__).parameters.items()
        self.words["*optional"] = [k for k, p in every if "None" in str(p.annotation) or "Optional" in str(p.annotation)]
        if isinstance(said.get("down_block_types"), list):
            n = len(said["down_block_types"])
            self.lists = {k for k, v in said.items() if isinstance(v, list) and len(v) == n and k.endswith(("_types", "_out_channels"))}
            kinds = [k for k in BLOCKS if not re.search("Encoder|Motion|Spatio|3D", said["down_block_types"][0])]
            self.words["down_block_types"] = list(dict.fromkeys([*said["down_block_types"], *kinds]))
            self.words["up_block_types"] = [up(k) for k in self.words["down_block_types"]]

    def spread(self) -> dict[str, str]:
        """The keys of the class that are spread over its blocks, where they are one number."""
        said = vars(self.config_class())
        return {k: items for k, items in SPREAD.items() if k in said and items in said}

    def structured(self, rng: random.Random) -> dict[str, Any] | None:
        """Arguments of another number of blocks, of kinds and widths of their own; None of a class that has no list of blocks."""
        said = vars(self.config_class(**NEEDED.get(self.__name__, {})))
        down = said.get("down_block_types")
        if not isinstance(down, list):
            return None
        kinds = self.words["down_block_types"]
        n = rng.randint(1 + (rng.random() < 0.9), 5)
        out: dict[str, Any] = {"down_block_types": [rng.choice(kinds) for _ in range(n)]}
        ups = said.get("up_block_types")
        if isinstance(ups, list):
            out["up_block_types"] = [up(k) for k in reversed(out["down_block_types"])]
        for key, value in said.items():
            if key.endswith("out_channels") and isinstance(value, list) and len(value) == len(down):
                out[key] = [32 * rng.randint(1, 9) for _ in range(n)]
        for key, spread in TRIED.items():
            if key in said:
                several = rng.random() < 0.4 and key in SPREAD and self.__name__ in LISTS
                out[key] = [rng.choice(spread) for _ in range(n)] if several else rng.choice(spread)
        if "addition_embed_type" in said and rng.random() < 0.3:
            out |= {"addition_embed_type": "text_time", "addition_time_embed_dim": rng.choice([32, 64, 256])}
            out["projection_class_embeddings_input_dim"] = rng.choice([640, 768, 2816])
        if rng.random() < 0.6:
            return out
        for key in BESIDES:
            if key in said and rng.random() < 0.3:
                out[key] = rng.choice([True, False]) if isinstance(said[key], bool) else rng.choice([5, 6, 8, 9, 12])
        return out

    def __call__(self, config: Arguments) -> torch.nn.Module:
        """The model. Lists of blocks of several lengths, which the library passes over in silence, are refused."""
        lists = {len(v) for k, v in vars(config).items() if k in self.lists and isinstance(v, list)}
        if len(lists) > 1:
            raise ValueError("the lists of blocks have several lengths")
        said = vars(config)
        try:
            model: torch.nn.Module = self.of(**said)  # lists, as config.json has them
        except TypeError:
            model = self.of(**{k: tuple(v) if isinstance(v, list) else v for k, v in said.items()})
        return model


@cache
def models() -> dict[str, type]:
    """Every model class of the library by its name."""
    found = {}
    for name in sorted(dir(diffusers)):
        try:
            cls = getattr(diffusers, name)
        except Exception:  # what needs a library that is not there
            continue
        base = diffusers.ModelMixin
        if isinstance(cls, type) and issubclass(cls, base) and cls is not base and hasattr(cls, "load_config"):
            found[name] = cls
    return found


@cache
def configuration(name: str) -> type[Arguments]:
    """The configuration of a class, as a type."""
    cls = models()[name]
    blocks = "down_block_types" in inspect.signature(cls.__init__).parameters
    said = {"model_type": name, "of": cls, "__module__": cls.__module__, "FIXED": FIXED if blocks else ()}
    return type(f"{name}Arguments", (Arguments,), said)


@cache
def builder(name: str) -> Builder:
    return Builder(models()[name], configuration(name))


def words(module: str, key: str) -> list[str]:
    """The words that are tried for a key: blocks by their names in the library, else what a module compares the argument with."""
    text = inspect.getsource(__import__(module, fromlist=["x"]))
    found = re.findall(rf"\b{key}\s*(?:==|!=)\s*[\"']([\w. -]+)[\"']", text)
    return list(dict.fromkeys(found))


def register() -> None:
    """Let the learner know every model of the library."""
    observe.NEEDED.update(NEEDED)
    observe.FURTHER.update({name: (configuration(name), builder(name)) for name in models()})
