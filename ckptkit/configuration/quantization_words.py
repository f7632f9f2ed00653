"""Which words of a configuration say how weights are packed, which say what is done besides when the model runs, and which nobody knows.

Policy: a word of the weights is read by the packing, or the tensors show what it says. A word of run time (activations that are
quantised as they come, a cache of keys in 8 bits) says nothing of the weights: two checkpoints are compared on their decoded weights, and
it is said. What is neither may change the model: a rotation, a bit width for some modules. It stays unexplained.

Sources: transformers `utils/quantization_config.py`, compressed-tensors `quant_config.py`, `quant_args.py` and `quant_scheme.py`,
AutoGPTQ's and GPTQModel's `quantize_config.json`, AutoAWQ `_config.py`, AutoRound `export`, ModelOpt `hf_quant_config.json`, mlx-lm
`utils.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .._typing import Any

# what packings read, and what the tensors' names, types and shapes say once more
_WEIGHTS = frozenset((
    "quant_method", "bits", "w_bit", "wbits", "nbits", "num_bits", "group_size", "q_group_size", "mode", "sym", "desc_act", "static_groups",
    "zero_point", "version", "format", "checkpoint_format", "packing_format", "backend", "lm_head", "weight_block_size", "fmt", "scale_fmt",
    "expert_dtype", "load_in_8bit", "load_in_4bit", "_load_in_8bit", "_load_in_4bit", "bnb_4bit_quant_type", "bnb_4bit_use_double_quant",
    "bnb_4bit_quant_storage", "axis", "view_as_float", "quant_config", "weight_quant_params", "scale_quant_params", "zero_quant_params",
    "quant_zero", "quant_scale", "channel_wise", "optimize", "round_zero", "offload_meta", "quant_type", "include_input_output_embeddings",
    "untie_embedding_weights", "quant_algo", "config_groups", "quantization_status", "data_type", "pack_dtype", "is_marlin_format",
    "modules_to_not_convert", "ignore", "llm_int8_skip_modules", "exclude_modules", "ignored_layers", "skip_modules", "modules_to_convert",
    "block_name_to_quantize", "modules_in_block_to_quantize", "module_name_preceding_first_block", "to_quant_block_names", "quantization",
    "dequantize", "has_zero_point", "quantize_embeddings",
))  # fmt: skip
# how, and by whom, it was packed; how a program computes with it
_MADE = frozenset((
    "tokenizer", "dataset", "damp_percent", "damp_auto_increment", "true_sequential", "act_group_aware", "meta", "model_seqlen",
    "batch_size", "pad_token_id", "max_input_length", "cache_block_outputs", "model_name_or_path", "model_file_base_name", "use_exllama",
    "disable_exllama", "exllama_config", "use_cuda_fp16", "max_batch_size", "mse", "quantizer", "uri", "producer", "name", "provider",
    "quant_library", "global_compression_ratio", "run_compressed", "use_optimized_inference", "do_fuse", "modules_to_fuse",
    "fuse_max_seq_len", "autoround_version", "iters", "nsamples", "seqlen", "enable_minmax_tuning", "enable_quanted_input",
    "enable_norm_bias_tuning", "gradient_accumulate_steps", "low_gpu_mem_usage", "lr", "minmax_lr", "scale_dtype", "amp", "super_bits",
    "super_group_size", "bnb_4bit_compute_dtype", "compute_dtype", "llm_int8_enable_fp32_cpu_offload", "llm_int8_has_fp16_weight",
    "calibration", "n_samples", "calib_data", "apply_clip", "duo_scaling", "max_seq_len", "offload_state",
))  # fmt: skip
_GROUP = frozenset(("format", "targets", "weights"))  # of config_groups
_EMPTY: tuple[object, ...] = (None, False, {}, [], "", "none", "None")
_RUN = {
    "activation_scheme": "activations are quantised ({})",
    "input_activations": "activations are quantised ({})",
    "output_activations": "what its layers give is quantised ({})",
    "activation_scale_ub": "activations are quantised, up to {}",
    "act_bits": "activations are quantised to {} bits",
    "act_data_type": "activations are quantised as {}",
    "act_dynamic": "", "act_group_size": "", "act_sym": "",
    "kv_cache_scheme": "its cache of keys and values is quantised ({})",
    "kv_cache_quant_algo": "its cache of keys and values is quantised ({})",
    "llm_int8_threshold": "activations are quantised but for those from {} on",
}  # fmt: skip
ALGORITHMS = ("FP8", "FP8_PER_CHANNEL_PER_TOKEN", "FP8_PB_REAL", "NVFP4", "W4A8_AWQ", "W8A8_SQ_PER_CHANNEL", "MXFP8")  # of ModelOpt


def unknown_words(words: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """The words that no packing reads and that may change the model, below the object's own name ("transform_config"), with what they
    say. Overrules of single modules, false or an object under a module's name, are read."""
    for key, value in words.items():
        if key in _WEIGHTS or key in _MADE or key in _RUN or any(value == v and type(value) is type(v) for v in _EMPTY):
            if key == "config_groups" and isinstance(value, Mapping):
                yield from _unknown_groups(value)
            continue
        if isinstance(value, Mapping) and ("." in key or {"bits", "group_size", "mode"} & value.keys()):
            continue
        if key == "sparsity_config" and isinstance(value, Mapping) and value.get("format") == "dense":
            continue
        if key == "transform_config" and isinstance(value, Mapping) and not value.get("config_groups"):
            continue
        yield key, value


def _unknown_groups(groups: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    for name, group in groups.items():
        for key, value in group.items() if isinstance(group, Mapping) else ():
            if key not in _GROUP and key not in _RUN and value not in _EMPTY:
                yield f"config_groups.{name}.{key}", value


def at_run_time(words: Mapping[str, Any]) -> tuple[str, ...]:
    """What is quantised besides the weights when such a model runs, in words: "activations are quantised (dynamic)"."""
    inner = words.get("quantization")
    if isinstance(inner, Mapping) and "quant_method" not in words:
        words = inner
    out = []
    groups = words.get("config_groups")
    every = [words, *(g for g in groups.values() if isinstance(g, Mapping))] if isinstance(groups, Mapping) else [words]
    for said in every:
        for key, sentence in _RUN.items():
            value = said.get(key)
            if sentence and value not in _EMPTY and (key != "llm_int8_threshold" or words.get("load_in_8bit")) and _narrow(key, value):
                out.append(sentence.format(_shown(value)))
    algorithm = words.get("quant_algo")
    if algorithm in ALGORITHMS and not any(o.startswith("activations") for o in out):
        out.append(f"activations are quantised ({algorithm})")
    return tuple(dict.fromkeys(out))


def _narrow(key: str, value: object) -> bool:
    """Whether so many bits are fewer than activations have."""
    return key not in ("act_bits",) or (isinstance(value, int) and value < 16)


def _shown(value: object) -> str:
    """A word, or what counts of a scheme: "8-bit float by token, dynamic"."""
    if not isinstance(value, Mapping):
        return str(value)
    bits, kind, by = value.get("num_bits"), value.get("type"), value.get("strategy")
    text = f"{f'{bits}-bit ' if bits else ''}{kind or ''}{f' by {by}' if by else ''}".strip()
    return f"{text}, {'dynamic' if value.get('dynamic') else 'static'}".removeprefix(", ")
