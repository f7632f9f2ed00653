"""A checkpoint of DeepSeek-V3's full shape, without its weights: 61 layers and one for multi-token prediction, 256 experts, FP8 with a
scale for every block of 128 x 128, 163 shards of sparse files, about 91,000 tensors. What `inspect`, and planning a conversion, cost there.

    python benchmarks/deepseek.py FOLDER         make it (seconds; 20 MB on disk) and measure
    python benchmarks/deepseek.py FOLDER --only-make

Bounds: `inspect` 1.5 s and 250 MB, a plan 6 s and 600 MB (each in a process of its own; the best of three).
Shapes: deepseek-ai/DeepSeek-V3 config.json and model.safetensors.index.json, weight_scale_inv of ceil(rows / 128) x ceil(columns / 128).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

HIDDEN, LAYERS, DENSE, EXPERTS, VOCAB, SHARDS, BLOCK = 7168, 61, 3, 256, 129280, 163, 128
HEADS, Q_RANK, KV_RANK, NOPE, ROPE, VALUE, WIDE, NARROW = 128, 1536, 512, 128, 64, 128, 18432, 2048
CONFIG: dict[str, object] = {
    "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "vocab_size": VOCAB, "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS, "num_nextn_predict_layers": 1, "num_attention_heads": HEADS, "num_key_value_heads": HEADS,
    "intermediate_size": WIDE, "moe_intermediate_size": NARROW, "n_routed_experts": EXPERTS, "n_shared_experts": 1,
    "num_experts_per_tok": 8, "n_group": 8, "topk_group": 4, "first_k_dense_replace": DENSE, "moe_layer_freq": 1,
    "q_lora_rank": Q_RANK, "kv_lora_rank": KV_RANK,
    "qk_nope_head_dim": NOPE, "qk_rope_head_dim": ROPE, "v_head_dim": VALUE, "hidden_act": "silu", "rms_norm_eps": 1e-6,
    "rope_theta": 10000, "rope_scaling": {
        "type": "yarn", "factor": 40, "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0,
        "original_max_position_embeddings": 4096,
    },
    "max_position_embeddings": 163840, "routed_scaling_factor": 2.5, "norm_topk_prob": True, "scoring_func": "sigmoid",
    "topk_method": "noaux_tc", "tie_word_embeddings": False, "attention_bias": False, "torch_dtype": "bfloat16",
    "quantization_config": {
        "quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [BLOCK, BLOCK],
    },
}  # fmt: skip
Tensor = tuple[str, str, tuple[int, ...]]
SIZES = {"F8_E4M3": 1, "BF16": 2, "F32": 4}


def scaled(name: str, rows: int, columns: int) -> Iterator[Tensor]:
    """A weight of FP8 and its scales."""
    yield f"{name}.weight", "F8_E4M3", (rows, columns)
    yield f"{name}.weight_scale_inv", "F32", (-(-rows // BLOCK), -(-columns // BLOCK))


def gated(at: str, width: int) -> Iterator[Tensor]:
    yield from scaled(f"{at}.gate_proj", width, HIDDEN)
    yield from scaled(f"{at}.up_proj", width, HIDDEN)
    yield from scaled(f"{at}.down_proj", HIDDEN, width)


def layer(i: int) -> Iterator[Tensor]:
    """The tensors of a layer; the last is for multi-token prediction."""
    at = f"model.layers.{i}"
    if i == LAYERS:
        yield f"{at}.embed_tokens.weight", "BF16", (VOCAB, HIDDEN)
        yield f"{at}.eh_proj.weight", "BF16", (HIDDEN, 2 * HIDDEN)
        yield f"{at}.shared_head.head.weight", "BF16", (VOCAB, HIDDEN)
        for name in ("enorm", "hnorm", "shared_head.norm"):
            yield f"{at}.{name}.weight", "BF16", (HIDDEN,)
    for name, width in (
        ("input_layernorm", HIDDEN), ("post_attention_layernorm", HIDDEN), ("self_attn.q_a_layernorm", Q_RANK),
        ("self_attn.kv_a_layernorm", KV_RANK),
    ):  # fmt: skip
        yield f"{at}.{name}.weight", "BF16", (width,)
    yield from scaled(f"{at}.self_attn.q_a_proj", Q_RANK, HIDDEN)
    yield from scaled(f"{at}.self_attn.q_b_proj", HEADS * (NOPE + ROPE), Q_RANK)
    yield from scaled(f"{at}.self_attn.kv_a_proj_with_mqa", KV_RANK + ROPE, HIDDEN)
    yield from scaled(f"{at}.self_attn.kv_b_proj", HEADS * (NOPE + VALUE), KV_RANK)
    yield from scaled(f"{at}.self_attn.o_proj", HIDDEN, HEADS * VALUE)
    if i < DENSE:
        yield from gated(f"{at}.mlp", WIDE)
        return
    yield f"{at}.mlp.gate.weight", "BF16", (EXPERTS, HIDDEN)
    yield f"{at}.mlp.gate.e_score_correction_bias", "F32", (EXPERTS,)
    yield from gated(f"{at}.mlp.shared_experts", NARROW)
    for e in range(EXPERTS):
        yield from gated(f"{at}.mlp.experts.{e}", NARROW)


def tensors() -> Iterator[Tensor]:
    yield "model.embed_tokens.weight", "BF16", (VOCAB, HIDDEN)
    for i in range(LAYERS + 1):
        yield from layer(i)
    yield "model.norm.weight", "BF16", (HIDDEN,)
    yield "lm_head.weight", "BF16", (VOCAB, HIDDEN)


def size_of(tensor: Tensor) -> int:
    n = SIZES[tensor[1]]
    for d in tensor[2]:
        n *= d
    return n


def make(folder: Path) -> int:
    """Write headers, and holes for the weights; how many tensors there are."""
    folder.mkdir(parents=True, exist_ok=True)
    every = list(tensors())
    total = sum(map(size_of, every))
    shards: list[list[Tensor]] = [[] for _ in range(SHARDS)]
    done = 0
    for tensor in every:
        shards[min(done * SHARDS // total, SHARDS - 1)].append(tensor)
        done += size_of(tensor)
    where: dict[str, str] = {}
    for n, held in enumerate(shards, 1):
        name = f"model-{n:05}-of-{SHARDS:06}.safetensors"
        header: dict[str, object] = {"__metadata__": {"format": "pt"}}
        at = 0
        for tensor in held:
            end = at + size_of(tensor)
            header[tensor[0]] = {"dtype": tensor[1], "shape": tensor[2], "data_offsets": [at, end]}
            where[tensor[0]] = name
            at = end
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        with open(folder / name, "wb") as f:
            f.write(len(text).to_bytes(8, "little") + text)
            f.truncate(8 + len(text) + at)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": where}))
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2))
    return len(every)


def measured(*command: str) -> tuple[float, float, float]:
    """(seconds, megabytes, seconds of a processor) of a command in a process of its own: the best of three, modules compiled before."""
    best = (1e9, 1e9, 1e9)
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    for _ in range(3):
        begun = time.perf_counter()
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=env)
        _, status, used = os.wait4(child.pid, 0)
        if status:
            raise SystemExit(f"{' '.join(command)}: exit {os.waitstatus_to_exitcode(status)}")
        best = min(best, (time.perf_counter() - begun, used.ru_maxrss / 1024, used.ru_utime + used.ru_stime))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only-make", action="store_true")
    asked = parser.parse_args()
    begun = time.perf_counter()
    n = make(asked.folder)
    print(f"made {n:,} tensors in {SHARDS} shards, {time.perf_counter() - begun:.1f} s")
    if asked.only_make:
        return
    start, _, _ = measured(sys.executable, "-c", "pass")
    print(f"python -c pass: {start:.3f} s")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    tool = (sys.executable, "-m", "ckptkit")
    path, target = str(asked.folder), str(asked.folder) + "-out"
    plan = (*tool, "convert", path, target, "--container", "safetensors", "--max-shard-size", "20GB", "--dry-run")
    for what, command, most in (
        ("inspect", (*tool, "inspect", path), (1.5, 250)),
        ("plan, the same packing", plan, (6, 600)),
        ("plan, dequantized", (*plan, "--dequantize"), (6, 600)),
    ):
        seconds, megabytes, processor = measured(*command)
        held = "held" if seconds <= most[0] and megabytes <= most[1] else "NOT HELD"
        print(f"{what}: {seconds:.2f} s of {most[0]} ({processor:.2f} s of a processor), {megabytes:.0f} MB of {most[1]}: {held}")


if __name__ == "__main__":
    main()
