"""How llama.cpp names the tensors of a GGUF file, and the keys that say the rest: its `gguf` dialects of today's decoders and of others.

Sources: gguf-py `constants.py` and `tensor_mapping.py`, convert_hf_to_gguf.py of llama.cpp. Dimensions are row-major here. Experts
are stacked. Llama's queries and keys have their rotary pairs side by side, those of the others lie apart as in transformers: the
architecture's key decides it. Gemma's norms are stored as they are used. A key is nested here by its dots
("llama.attention.head_count"); a float32 is the shortest decimal that it is.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from ckptkit.arch._libraries.decoder_words import D, E, may
from ckptkit.schema import TORCH, ConfigForm, Dialect, Files, Key, Module, Reader, Writer

B = "blk.{layer}."
NAMES: Mapping[str, str] = {
    "embeddings.word": "token_embd",
    D + "attention.norm": B + "attn_norm",
    D + "attention.query": B + "attn_q",
    D + "attention.key": B + "attn_k",
    D + "attention.value": B + "attn_v",
    D + "attention.output": B + "attn_output",
    D + "attention.query_norm": B + "attn_q_norm",
    D + "attention.key_norm": B + "attn_k_norm",
    D + "attention.post_norm": B + "post_attention_norm",
    D + "ffn.norm": B + "ffn_norm",
    D + "ffn.post_norm": B + "post_ffw_norm",
    D + "ffn.gate": B + "ffn_gate",
    D + "ffn.up": B + "ffn_up",
    D + "ffn.output": B + "ffn_down",
    D + "moe.router": B + "ffn_gate_inp",
    D + "moe.shared.gate": B + "ffn_gate_shexp",
    D + "moe.shared.up": B + "ffn_up_shexp",
    D + "moe.shared.output": B + "ffn_down_shexp",
    D + "moe.shared_gate": B + "ffn_gate_inp_shexp",
    "decoder.norm": "output_norm",
    "lm_head": "output",
}
DENSE = (D + "ffn.gate", D + "ffn.up", D + "ffn.output")  # which families that have experts in every layer have no place for
PAIRED = {D + "attention.query": "heads", D + "attention.key": "kv_heads"}
FLOATS = ("freq_base", "layer_norm_rms_epsilon", "layer_norm_epsilon", "scale", "factor", "logit_softcapping", "expert_weights_scale")
ARCHITECTURE = "general.architecture"
MARK = "gguf_architecture"  # a key of its own, since marks are not nested
ROOM = "gguf"  # the object that holds the others, so that they are no other form's
CLASSES = {
    "gpt2": "GPT2LMHeadModel",
    "t5": "T5ForConditionalGeneration",
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "gemma": "GemmaForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gemma3": "Gemma3ForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "qwen2moe": "Qwen2MoeForCausalLM",
    "qwen3moe": "Qwen3MoeForCausalLM",
}  # what llama.cpp runs them as, whichever groups are stored


def shortest(value: float) -> float:
    """The shortest decimal that is this float32: 1e-06 for 9.999999974752427e-07."""
    try:
        raw = struct.pack("<f", value)
    except OverflowError:
        return value
    for digits in range(1, 9):
        near = float(f"{value:.{digits}g}")
        if struct.pack("<f", near) == raw:
            return near
    return value


def read_keys(extras: Mapping[str, object]) -> dict[str, object] | None:
    """The keys of a GGUF file as nested settings, without the vocabulary; None where there are none."""
    kept = extras.get("gguf")
    if not isinstance(kept, Mapping):
        return None
    from ckptkit.containers.gguf.header import ARRAY, STRING, Value

    out: dict[str, object] = {}
    for name, value in kept.items():
        if not isinstance(value, Value) or name.startswith("tokenizer.") or not isinstance(name, str):
            continue
        plain = value.value
        if value.type == ARRAY:
            if not isinstance(plain, tuple) or value.item in (STRING, ARRAY):
                continue
            plain = [shortest(v) for v in plain] if value.item == 6 else list(plain)
        elif value.type == 6:
            plain = shortest(plain)
        at = out
        *path, last = name.split(".")
        for step in path:
            inner = at.setdefault(step, {})
            if not isinstance(inner, dict):
                break
            at = inner
        else:
            at[last] = plain
    if not out:
        return None
    whole: dict[str, object] = {ROOM: out}
    declared = kept.get(ARCHITECTURE)
    if isinstance(declared, Value) and isinstance(declared.value, str):
        whole[MARK] = declared.value
        if declared.value in CLASSES:
            whole["ckptkit"] = {"rest": {"hf": {"architectures": [CLASSES[declared.value]]}}}
    return whole


def write_keys(raw: dict[str, object]) -> dict[str, object]:
    """Settings as the keys of a GGUF file, with their types."""
    from ckptkit.containers.gguf.header import ARRAY, STRING, Value

    out: dict[str, Value] = {ARCHITECTURE: Value(STRING, str(raw.get(MARK, "unknown")))}

    def walk(prefix: str, value: object) -> None:
        if isinstance(value, Mapping):
            for k, v in value.items():
                walk(f"{prefix}.{k}" if prefix else str(k), v)
        elif isinstance(value, bool):
            out[prefix] = Value(7, value)
        elif isinstance(value, str):
            out[prefix] = Value(STRING, value)
        elif isinstance(value, (int, float)):
            real = prefix.rpartition(".")[2] in FLOATS or isinstance(value, float)
            out[prefix] = Value(6, float(value)) if real else Value(4 if 0 <= value < 1 << 32 else 11, value)
        elif isinstance(value, list) and value and all(isinstance(v, int) for v in value):
            out[prefix] = Value(ARRAY, tuple(value), 7 if all(isinstance(v, bool) for v in value) else 5)

    walk("", raw.get(ROOM))
    for key, value in raw.items():
        if key.startswith(ROOM + "."):
            walk(key.removeprefix(ROOM + "."), value)
    return {"gguf": out}


def keys_of(name: str, eps: str = "layer_norm_rms_epsilon") -> dict[str, str | Key]:
    """The keys that every decoder of llama.cpp has."""
    return {
        f"{name}.block_count": "layers",
        f"{name}.context_length": may("max_positions"),
        f"{name}.embedding_length": "hidden",
        f"{name}.feed_forward_length": "intermediate",
        f"{name}.attention.head_count": "heads",
        f"{name}.attention.head_count_kv": may("kv_heads"),
        f"{name}.attention.key_length": may("head_dim"),
        f"{name}.attention.value_length": may("head_dim"),
        f"{name}.attention.{eps}": "norm_eps",
        f"{name}.vocab_size": may("vocab"),
    }


def with_experts(name: str) -> dict[str, str | Key]:
    """The keys of experts."""
    return {f"{name}.expert_count": "experts", f"{name}.expert_used_count": may("experts_per_token")}


def rotary(name: str) -> dict[str, str | Key]:
    """The keys of rotary positions."""
    return {
        f"{name}.rope.freq_base": may("rope_theta"),
        f"{name}.rope.scaling.type": Key("rope_type", words={"none": "default", "linear": "linear", "yarn": "yarn"}, required=False),
        f"{name}.rope.scaling.factor": may("rope_factor"),
        f"{name}.rope.scaling.original_context_length": may("rope_original_max_position_embeddings"),
    }


def stacked_experts(width: str) -> dict[str, tuple[str, ...]]:
    """The experts of a layer: one tensor for each of their three matrices."""
    return {
        B + "ffn_gate_exps.weight": (E + "gate.weight", f"*{{expert}} {width} hidden"),
        B + "ffn_up_exps.weight": (E + "up.weight", f"*{{expert}} {width} hidden"),
        B + "ffn_down_exps.weight": (E + "output.weight", f"*{{expert}} hidden {width}"),
    }


def form(name: str, keys: Mapping[str, str | Key], **said: Mapping[str, object]) -> ConfigForm:
    """A configuration that is the file's own keys."""
    return ConfigForm(
        filename="", keys={f"{ROOM}.{k}": c for k, c in keys.items()}, marks={MARK: name}, reader=Reader(extras=read_keys),
        writer=Writer(extras=write_keys), **{**said, "also": {f"{ROOM}.{k}": v for k,
            v in said.get("also", {}).items()}},  # type: ignore[arg-type]
    )  # fmt: skip


def gguf(
    name: str, modules: Mapping[str, Module], *, names: Mapping[str, str] = {}, rows: Mapping[str, str | tuple[str, ...]] = {},
    keys: Mapping[str, str | Key] = {}, pairs: bool = False, implied: Mapping[str, object] = {}, defaults: Mapping[str, object] = {},
    without: Sequence[str] = (), experts: str = "", **more: object,
) -> Dialect:  # fmt: skip
    """The dialect of a decoder: `name` is what llama.cpp calls the architecture; `pairs`: rotary pairs lie side by side; `experts`: the
    axis of the experts' width; `without`: modules it has no place for."""
    called = {**NAMES, **names}
    held = {p.rpartition(".")[0] for v in rows.values() if isinstance(v, tuple) for p in v[:-1]}
    out: dict[str, str | tuple[str, ...]] = dict(rows)
    for module, m in modules.items():
        if module in held or module in without or module not in called or (experts and module.startswith(E)):
            continue
        if pairs and module in PAIRED:
            heads = "kv_heads per_group" if "per_group" in m.params[0][1].split() and module.endswith("query") else PAIRED[module]
            out[called[module] + ".weight"] = (f"{module}.weight", f"({heads} half two) hidden")
            if any(suffix == "bias" for suffix, _ in m.params):
                out[called[module] + ".bias"] = (f"{module}.bias", f"({heads} half two)")
        else:
            out[called[module]] = module
    if experts:
        out |= stacked_experts(experts)
    every = {**keys_of(name), **rotary(name), **(with_experts(name) if experts else {}), **{f"{name}.{k}": v for k, v in keys.items()}}
    if pairs:
        every[f"{name}.rope.dimension_count"] = may("head_dim")
    usual = {"kv_heads": "=heads", "head_dim": "=hidden / heads", "tied": False}
    return Dialect(
        name="gguf", title="llama.cpp (GGUF)", style=TORCH, rows=out, container="gguf",
        config=form(name, every, implied=implied, defaults={**usual, **defaults}), files=Files(ties=False),
        **more,  # type: ignore[arg-type]
    )  # fmt: skip
