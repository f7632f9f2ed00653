"""The keys of a GGUF file as a configuration, and a configuration as keys.

Sources: gguf-py `constants.py`, src/llama-arch.cpp and src/models of llama.cpp (what its runtime reads, and what it takes for granted). A
key is nested here by its dots ("llama.attention.head_count"); a float32 is the shortest decimal that it is. What a key says only together
with others lies under "derived", which is read and never written. What no key of llama.cpp's can hold is kept in one of our own, as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping

from ckptkit._typing import Any
from ckptkit.schema import ConfigForm, Key, Reader, Writer
from ckptkit.schema.dialect import Whole
from ckptkit.support.json_text import parse

ARCHITECTURE = "general.architecture"
MARK = "gguf_architecture"  # a key of its own, since marks are not nested
ROOM = "gguf"  # the object that holds the others, so that they are no other form's
DERIVED = "derived"
OWN = "ckptkit.block"  # our own block, as other forms have it in their configuration
FLOATS = (
    "freq_base", "freq_base_swa", "layer_norm_rms_epsilon", "layer_norm_epsilon", "scale", "factor", "attn_factor", "yarn_attn_factor",
    "yarn_beta_fast", "yarn_beta_slow", "yarn_log_multiplier", "logit_scale", "embedding_scale", "residual_scale", "temperature_scale",
    "attn_logit_softcapping", "final_logit_softcapping", "expert_weights_scale", "clamp_kqv", "max_alibi_bias", "alpha_n", "alpha_p",
    "beta", "eps", "group_norm_epsilon", "activation_sparsity_scale",
)  # fmt: skip
FLAGS = ("causal", "use_parallel_residual", "expert_weights_norm", "dt_b_c_rms", "sliding_window_pattern", "finetuned", "recurrent_layers")
# what llama.cpp calls an architecture -> (what it is here, transformers' class)
MODELS: Mapping[str, tuple[str, str]] = {
    "gpt2": ("gpt2", "GPT2LMHeadModel"),
    "t5": ("t5", "T5ForConditionalGeneration"),
    "bert": ("bert", "BertModel"),
    "modern-bert": ("modernbert", "ModernBertModel"),
    "eurobert": ("eurobert", "EuroBertModel"),
    "nomic-bert": ("nomic_bert", "NomicBertModel"),
    "llama": ("llama", "LlamaForCausalLM"),
    "kimi-linear": ("kimi_linear", "KimiLinearForCausalLM"),
    "qwen": ("qwen", "QWenLMHeadModel"),
    "baichuan": ("baichuan", "BaichuanForCausalLM"),
    "deepseek32": ("deepseek_v32", "DeepseekV32ForCausalLM"),
    "glm-dsa": ("glm_moe_dsa", "GlmMoeDsaForCausalLM"),
    "qwen2": ("qwen2", "Qwen2ForCausalLM"),
    "qwen3": ("qwen3", "Qwen3ForCausalLM"),
    "gemma": ("gemma", "GemmaForCausalLM"),
    "gemma2": ("gemma2", "Gemma2ForCausalLM"),
    "gemma3": ("gemma3", "Gemma3ForCausalLM"),
    "gemma3n": ("gemma3n", "Gemma3nForCausalLM"),
    "gemma4": ("gemma4", "Gemma4ForCausalLM"),
    "phi3": ("phi3", "Phi3ForCausalLM"),
    "qwen2moe": ("qwen2_moe", "Qwen2MoeForCausalLM"),
    "qwen3moe": ("qwen3_moe", "Qwen3MoeForCausalLM"),
    "olmo": ("olmo", "OlmoForCausalLM"),
    "olmo2": ("olmo2", "Olmo2ForCausalLM"),
    "olmoe": ("olmoe", "OlmoeForCausalLM"),
    "phi2": ("phi", "PhiForCausalLM"),
    "phimoe": ("phimoe", "PhimoeForCausalLM"),
    "starcoder": ("gpt_bigcode", "GPTBigCodeForCausalLM"),
    "starcoder2": ("starcoder2", "Starcoder2ForCausalLM"),
    "stablelm": ("stablelm", "StableLmForCausalLM"),
    "gptneox": ("gpt_neox", "GPTNeoXForCausalLM"),
    "falcon": ("falcon", "FalconForCausalLM"),
    "bloom": ("bloom", "BloomForCausalLM"),
    "mpt": ("mpt", "MptForCausalLM"),
    "command-r": ("cohere", "CohereForCausalLM"),
    "cohere2": ("cohere2", "Cohere2ForCausalLM"),
    "chatglm": ("glm", "GlmForCausalLM"),
    "glm4": ("glm4", "Glm4ForCausalLM"),
    "glm4moe": ("glm4_moe", "Glm4MoeForCausalLM"),
    "deepseek2": ("deepseek_v2", "DeepseekV2ForCausalLM"),
    "granite": ("granite", "GraniteForCausalLM"),
    "granitemoe": ("granitemoe", "GraniteMoeForCausalLM"),
    "nemotron": ("nemotron", "NemotronForCausalLM"),
    "exaone4": ("exaone4", "Exaone4ForCausalLM"),
    "ernie4_5": ("ernie4_5", "Ernie4_5ForCausalLM"),
    "ernie4_5-moe": ("ernie4_5_moe", "Ernie4_5_MoeForCausalLM"),
    "hunyuan-dense": ("hunyuan_v1_dense", "HunYuanDenseV1ForCausalLM"),
    "hunyuan-moe": ("hunyuan_v1_moe", "HunYuanMoEV1ForCausalLM"),
    "smollm3": ("smollm3", "SmolLM3ForCausalLM"),
    "seed_oss": ("seed_oss", "SeedOssForCausalLM"),
    "gpt-oss": ("gpt_oss", "GptOssForCausalLM"),
    "lfm2": ("lfm2", "Lfm2ForCausalLM"),
    "mamba": ("mamba", "MambaForCausalLM"),
    "mamba2": ("mamba2", "Mamba2ForCausalLM"),
    "granitehybrid": ("granitemoehybrid", "GraniteMoeHybridForCausalLM"),
    "falcon-h1": ("falcon_h1", "FalconH1ForCausalLM"),
    "apertus": ("apertus", "ApertusForCausalLM"),
    "arcee": ("arcee", "ArceeForCausalLM"),
    "minimax-m2": ("minimax_m2", "MiniMaxM2ForCausalLM"),
    "dots1": ("dots1", "Dots1ForCausalLM"),
    "llama4": ("llama4", "Llama4ForCausalLM"),
    "minicpm3": ("minicpm3", "MiniCPM3ForCausalLM"),
    "mistral3": ("ministral3", "Ministral3ForCausalLM"),
    "minicpm": ("minicpm", "MiniCPMForCausalLM"),
    "internlm2": ("internlm2", "InternLM2ForCausalLM"),
    "jamba": ("jamba", "JambaForCausalLM"),
    "nemotron_h": ("nemotron_h", "NemotronHForCausalLM"),
    "nemotron_h_moe": ("nemotron_h", "NemotronHForCausalLM"),
    "qwen3next": ("qwen3_next", "Qwen3NextForCausalLM"),
    "qwen35": ("qwen3_5", "Qwen3_5ForCausalLM"),
    "qwen35moe": ("qwen3_5_moe", "Qwen3_5MoeForCausalLM"),
}
# of how many layers the runtime takes one to see everything, where no key says which (llama_hparams::set_swa_pattern)
PERIODS: Mapping[str, int] = {"gemma2": 2, "gemma3": 6, "cohere2": 4, "olmo2": 4, "gpt-oss": 2, "exaone4": 4, "gemma3n": 5, "gemma4": 6}
BY_HEADS: Mapping[str, tuple[str, str]] = {
    "granitehybrid": ("attention", "mamba"), "kimi-linear": ("full_attention", "linear_attention"),
}  # what layers are that have heads of keys, and that do not
ONE_PART: Mapping[str, str] = {"nemotron_h": "mlp", "nemotron_h_moe": "moe"}  # what layers are that are as wide as a list says
DELTA = ("qwen3next", "qwen35", "qwen35moe")  # which have linear attention in the layers that a key lists
BY_ITSELF = ("mistral3",)  # whose key of YaRN's growth says it as it is
LARGEST: Mapping[str, int] = {"gemma2": 46, "gemma3": 62}  # layers of the model whose scores are divided by another number
SIGMOID = 2  # llama.cpp's number of the function that weights experts (expert_gating_func)


def read_keys(extras: Mapping[str, object]) -> dict[str, object] | None:
    """The keys of a GGUF file as nested settings, without the vocabulary; None where there are none."""
    kept = extras.get("gguf")
    if not isinstance(kept, Mapping):
        return None
    from ckptkit.arch._libraries.gguf_rope import derived_rope

    flat = {n: plain for n, v in kept.items() if isinstance(n, str) and (plain := _plain(n, v)) is not None}
    name = flat.get(ARCHITECTURE)
    if not flat:
        return None
    out: dict[str, object] = {}
    for key, value in flat.items():
        _put(out, key, value)
    whole: dict[str, object] = {ROOM: out}
    if isinstance(name, str):
        of = {k.removeprefix(f"{name}."): v for k, v in flat.items() if k.startswith(f"{name}.")}
        out[DERIVED] = {**_derived(name, of), **derived_rope(of, kept), **_of_gemma(name, of, kept)}
        whole[MARK] = name
        whole["ckptkit"] = _block(kept, name, of)
    return whole


def _of_gemma(name: str, of: Mapping[str, object], kept: Mapping[str, object]) -> dict[str, object]:
    """What Gemma 3n's and 4's keys say together."""
    if name not in ("gemma3n", "gemma4"):
        return {}
    from ckptkit.arch._libraries.gguf_gemma import derived
    from ckptkit.arch._libraries.gguf_rope import FREQS, table
    from ckptkit.containers.gguf import VALUED

    valued = getattr(kept.get(VALUED), "value", None)
    return derived(name, of, table(kept, FREQS), valued)


def _plain(name: str, value: object) -> object:
    """A value without its type; None of what is none of the configuration."""
    from ckptkit.arch._libraries.gguf_rope import shortest
    from ckptkit.containers.gguf.header import ARRAY, STRING, Value

    if not isinstance(value, Value) or name.startswith("tokenizer.") or name.endswith(".weight") or name == OWN:
        return None
    if value.type == ARRAY:
        if not isinstance(value.value, tuple) or value.item in (STRING, ARRAY):
            return None
        return [shortest(v) for v in value.value] if value.item == 6 else list(value.value)
    return shortest(value.value) if value.type == 6 else value.value


def _put(out: dict[str, object], key: str, value: object) -> None:
    *path, last = key.split(".")
    for step in path:
        inner = out.setdefault(step, {})
        if not isinstance(inner, dict):
            return
        out = inner
    out[last] = value


def _derived(name: str, of: Mapping[str, object]) -> dict[str, object]:
    """What keys say together: the positions, which layers slide."""
    out: dict[str, object] = {"max_positions": of.get("context_length")}
    layers, pattern = of.get("block_count"), of.get("attention.sliding_window_pattern", PERIODS.get(name))
    if isinstance(layers, int) and 0 < layers < 4096 and of.get("attention.sliding_window") and name in PERIODS:
        if isinstance(pattern, int) and not isinstance(pattern, bool):
            pattern = [not pattern or i % pattern < pattern - 1 for i in range(layers)]
        if isinstance(pattern, list) and len(pattern) >= layers:
            out["layer_types"] = ["sliding_attention" if s else "full_attention" for s in pattern[:layers]]
    hidden, heads, width = (of.get(k) for k in ("embedding_length", "attention.head_count", "attention.key_length"))
    if name in LARGEST and isinstance(hidden, int) and isinstance(heads, int) and heads > 0:
        out["query_pre_attn_scalar"] = hidden // heads if layers == LARGEST[name] or not isinstance(width, int) else width
    each = of.get("attention.head_count_kv")
    if isinstance(each, list) and each and name != "gemma4" and all(isinstance(n, int) for n in each):  # 0 where a layer has no attention
        out["kv_heads"] = max(each)
        attends, other = BY_HEADS.get(name, ("full_attention", "conv"))
        out["layer_types"] = [attends if n else other for n in each]
    wide = of.get("feed_forward_length")
    if name in ONE_PART and isinstance(each, list) and isinstance(wide, list) and all(isinstance(n, int) for n in wide):
        out["intermediate"] = max(wide, default=0) or None
        out["layer_types"] = [
            "full_attention" if k else ONE_PART[name] if f else "linear_attention" for k, f in zip(each, wide, strict=False)
        ]
    if isinstance(log := of.get("rope.scaling.yarn_log_multiplier"), float) and log:
        every = float(f"{log if name in BY_ITSELF else log * 10:.6g}")  # a tenth of it, for reasons of the past
        out |= {"rope_mscale": 1.0 if name in BY_ITSELF else every, "rope_mscale_all_dim": every}
    if name == "ernie4_5-moe" and isinstance(dense := of.get("leading_dense_block_count"), int) and isinstance(layers, int):
        out |= {"moe_layer_start_index": dense, "moe_layer_end_index": layers - 1}
    rope, key, value = (of.get(k) for k in ("rope.dimension_count", "attention.key_length_mla", "attention.value_length_mla"))
    key = width if name == "minicpm3" else key
    if isinstance(rope, int) and isinstance(key, int) and rope < key:  # low-rank attention
        out |= {"rope": rope, "nope": key - rope, "value_dim": value}
    if name == "modern-bert" and isinstance(layers, int) and 0 < layers < 4096:
        step = of.get("attention.sliding_window_pattern", 3)
        if isinstance(step, int) and step > 0:
            out["layer_types"] = ["sliding_attention" if i % step else "full_attention" for i in range(layers)]
    if name == "llama4" and isinstance(layers, int) and 0 < layers < 4096 and of.get("attention.sliding_window") != 0:
        out["layer_types"] = ["chunked_attention" if (i + 1) % 4 else "full_attention" for i in range(layers)]
    if name == "minicpm" and isinstance(layers, int) and layers > 0:
        out |= _scales(of, layers, hidden)
    if name == "jamba" and isinstance(each, list):
        having = [i for i, n in enumerate(each) if n]
        if having:
            out |= {"attn_layer_offset": having[0], "attn_layer_period": having[1] - having[0] if having[1:] else len(each)}
    linear, step = of.get("attention.recurrent_layers"), of.get("full_attention_interval", 4)
    if name in DELTA and isinstance(layers, int) and 0 < layers < 4096 and isinstance(step, int) and step > 0:
        kinds = linear if isinstance(linear, list) and len(linear) >= layers else [(i + 1) % step != 0 for i in range(layers)]
        inner, many = of.get("ssm.inner_size"), of.get("ssm.time_step_rank")
        out["state_dim"] = inner // many if isinstance(inner, int) and isinstance(many, int) and many > 0 else None
        out["layer_types"] = ["linear_attention" if k else "full_attention" for k in kinds[:layers]]
    if name == "granitehybrid":
        out["position_embedding_type"] = "nope" if of.get("rope.scaling.finetuned") is False else "rope"
        if isinstance(each, list):
            out["attn_layer_indices"] = [i for i, n in enumerate(each) if n]
        turned, wide = of.get("rope.dimension_count"), width
        if width is None and isinstance(hidden, int) and isinstance(heads, int) and heads > 0:
            wide = hidden // heads
        if turned is not None and turned == wide:  # which Bamba's configuration does not mean by saying nothing
            out["rope_part"] = 1.0
    indexed = of.get("attention.indexer.types")
    if name == "glm-dsa" and isinstance(indexed, list) and isinstance(layers, int):
        out["indexer_types"] = ["full" if t else "shared" for t in indexed[:layers]]
    if name == "kimi-linear" and isinstance(heads, int):
        out["linear_heads"] = heads
    if name == "baichuan":  # which its runtime tells by the layers, and the head by nothing
        out |= {"alibi": layers == 40, "normed_head": False}
    return {k: v for k, v in out.items() if v is not None}


def _scales(of: Mapping[str, object], layers: int, hidden: object) -> dict[str, object]:
    """MiniCPM's scales, which a file has as what they come to; those that its runtime takes where it says none."""
    out: dict[str, object] = {"scale_emb": 12, "scale_depth": 1.4, "dim_model_base": 256}
    if isinstance(said := of.get("embedding_scale"), float):
        out["scale_emb"] = round(said) if said == round(said) else said
    if isinstance(said := of.get("residual_scale"), float):
        out["scale_depth"] = float(f"{said * layers**0.5:.6g}")
    if isinstance(said := of.get("logit_scale"), float) and said and isinstance(hidden, int):
        base = hidden / said
        out["dim_model_base"] = round(base) if abs(base - round(base)) < 1e-4 * base else base
    return out


def _block(kept: Mapping[str, object], name: str, of: Mapping[str, object]) -> dict[str, object]:
    """Our own block, as the file has it, else which model it is."""
    from ckptkit.containers.gguf import SEGMENTS
    from ckptkit.containers.gguf.header import Value

    held = kept.get(OWN)
    if isinstance(held, Value) and isinstance(held.value, str):
        try:
            block = parse(held.value)
        except (ValueError, RecursionError):
            block = None
        if isinstance(block, dict) and isinstance(block.get("model_type"), str):
            return block
    if name not in MODELS:
        return {}
    model, cls = MODELS[name]
    if name == "llama" and of.get("expert_count"):
        model, cls = "mixtral", "MixtralForCausalLM"
    elif name == "granitehybrid" and of.get("rope.scaling.finetuned") is True:  # Granite's own do not turn
        model, cls = "bamba", "BambaForCausalLM"
    elif name == "bert" and SEGMENTS not in kept:
        model, cls = "distilbert", "DistilBertModel"
    elif name == "mamba" and of.get("ssm.dt_b_c_rms"):
        model, cls = "falcon_mamba", "FalconMambaForCausalLM"
    elif name == "olmo2" and of.get("attention.sliding_window"):
        model, cls = "olmo3", "Olmo3ForCausalLM"
    elif name == "deepseek2" and of.get("expert_gating_func") == SIGMOID:
        model, cls = "deepseek_v3", "DeepseekV3ForCausalLM"
    return {"model_type": model, "rest": {"hf": {"architectures": [cls]}}}


def write_keys(raw: dict[str, object]) -> dict[str, object]:
    """Settings as the keys of a GGUF file, with their types."""
    from ckptkit.containers.gguf.header import STRING, Value

    out: dict[str, Value] = {ARCHITECTURE: Value(STRING, str(raw.get(MARK, "unknown"))), "general.type": Value(STRING, "model")}

    def walk(prefix: str, value: object) -> None:
        if isinstance(value, Mapping):
            for k, v in value.items():
                walk(f"{prefix}.{k}" if prefix else str(k), v)
        elif prefix.partition(".")[0] != DERIVED and (typed := _typed(prefix.rpartition(".")[2], value)) is not None:
            out[prefix] = typed

    walk("", raw.get(ROOM))
    for key, value in raw.items():
        if key.startswith(ROOM + "."):
            walk(key.removeprefix(ROOM + "."), value)
    block = raw.get("ckptkit")
    if isinstance(block, Mapping) and block:
        import json

        out[OWN] = Value(STRING, json.dumps(block, sort_keys=True, ensure_ascii=False))
    return {"gguf": out}


def _typed(last: str, value: object) -> Any:
    """A value with the type that llama.cpp has for a key that ends in `last`; None for what is none."""
    from ckptkit.containers.gguf.header import ARRAY, STRING, Value

    if isinstance(value, bool):
        return Value(7, value)
    if isinstance(value, str):
        return Value(STRING, value)
    if isinstance(value, (int, float)):
        real = last in FLOATS or isinstance(value, float)
        return Value(6, float(value)) if real else Value(4 if 0 <= value < 1 << 32 else 11, value)
    if isinstance(value, (list, tuple)) and value:
        if all(isinstance(v, bool) for v in value):
            return Value(ARRAY, tuple(value), 7)
        if all(isinstance(v, int) for v in value) and last not in FLOATS:
            return Value(ARRAY, tuple(value), 5)
        if all(isinstance(v, (int, float)) for v in value):
            return Value(ARRAY, tuple(map(float, value)), 6)
    return None


# canonical values with which nothing is computed, in any architecture
FREE = dict.fromkeys(("initializer_range", "attention_dropout", "dropout", "embedding_dropout", "pad", "tied", "labels"), ...)

# of whom a file is, how it was made and cut; what is derived here of other keys
ABOUT = {f"{ROOM}.{part}.*": ... for part in ("general", "split", "quantize", "imatrix", "training", DERIVED)}


def form(name: str, keys: Mapping[str, str | Key], *, whole: Whole | None = None, **said: Mapping[str, object]) -> ConfigForm:
    """A configuration that is the file's own keys."""
    also = {f"{ROOM}.{k}": v for k, v in said.pop("also", {}).items()}
    return ConfigForm(
        filename="", keys={f"{ROOM}.{k}": c for k, c in keys.items()}, marks={MARK: name}, reader=Reader(extras=read_keys), usual=ABOUT,
        writer=Writer(extras=write_keys), also=also, whole=whole, **said,  # type: ignore[arg-type]
    )  # fmt: skip
