"""llama.cpp's own runtime loads the GGUF files that are written, and its outputs are those of transformers.

Its environment (a wheel that carries llama.cpp) is built where CKPTKIT_ORACLE_ENVS=1 asks for it.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest

import ckptkit

torch = pytest.importorskip("torch")
pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")

VOCAB = 288
# after these each of the models goes on with a piece that is text by itself: the server says nothing of others
IDS = [66, 70, 75, 81, 90, 44, 39, 50]
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "decoder_sparse_step": 1, "norm_topk_prob": True}
LATENT: dict[str, Any] = {
    "num_key_value_heads": 4, "q_lora_rank": 32, "kv_lora_rank": 32, "qk_nope_head_dim": 16, "qk_rope_head_dim": 16, "v_head_dim": 16,
    "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "n_group": 1, "topk_group": 1, "n_shared_experts": 1,
    "first_k_dense_replace": 1, "routed_scaling_factor": 1.5, "norm_topk_prob": True,
}  # fmt: skip
GEMMA = {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 32}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": None},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
    "qwen2": {},
    "qwen2_moe": {**EXPERTS, "norm_topk_prob": False, "shared_expert_intermediate_size": 48, "mlp_only_layers": []},
    "qwen3": {"head_dim": 16},
    "qwen3_moe": {**EXPERTS, "head_dim": 16, "mlp_only_layers": []},
    "gemma": {"head_dim": 16},
    "gemma2": GEMMA,
    "gemma3_text": {**GEMMA, "sliding_window_pattern": 2},
    "gemma4_text": {
        **GEMMA, "global_head_dim": 32, "num_hidden_layers": 6, "num_kv_shared_layers": 3, "use_double_wide_mlp": True,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2, "hidden_size_per_layer_input": 16,
        "vocab_size_per_layer_input": VOCAB, "final_logit_softcapping": 30.0,
    },
    "gemma4_experts": {
        **GEMMA, "global_head_dim": 32, "num_global_key_value_heads": 1, "attention_k_eq_v": True, "enable_moe_block": True,
        "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 32, "hidden_size_per_layer_input": 0,
    },
    "phi3": {},
    "apertus": {"hidden_act": "xielu", "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
    "bamba": {
        "mamba_n_heads": 8, "mamba_d_head": 16, "mamba_n_groups": 1, "mamba_d_state": 16, "attn_layer_indices": [1],
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 1.0},
    },
    "deepseek_v32": {**LATENT, "index_n_heads": 2, "index_head_dim": 64, "index_topk": 64},
    "glm_moe_dsa": {**LATENT, "index_n_heads": 2, "index_head_dim": 64, "index_topk": 64, "indexer_types": ["full", "shared"]},
    "kimi_linear": {
        **{k: v for k, v in LATENT.items() if k not in ("n_routed_experts", "num_experts_per_tok", "n_group", "n_shared_experts")},
        "q_lora_rank": None, "layer_types": ["linear_attention", "full_attention"], "mlp_layer_types": ["dense", "sparse"],
        "linear_head_dim": 16, "linear_num_heads": 4, "num_experts": 4, "num_experts_per_token": 2, "num_shared_experts": 1,
    },
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64},
}
# ggml takes gelu from a table in float16, of 11 bits
ALLOWED = dict.fromkeys(("gemma", "gemma2", "gemma3_text", "gemma4_text", "gemma4_experts", "gpt2"), 1e-2)
ADDED = ("gemma", "gemma2", "gemma3_text")  # whose norms are stored less one
RUN = """
import json, sys
import xllamacpp as x
p = x.CommonParams()
p.model.path, p.n_ctx, p.n_parallel, p.warmup, p.cpuparams.n_threads = sys.argv[1], 64, 1, False, 1
p.cache_type_k = p.cache_type_v = x.ggml_type.GGML_TYPE_F32
p.flash_attn_type = x.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
ids = json.loads(sys.argv[2])
asked = {"prompt": ids, "n_predict": 1, "n_probs": int(sys.argv[3]), "temperature": -1.0, "cache_prompt": False, "ignore_eos": True}
told = x.Server(p).handle_completions(asked)
assert told["usage"]["prompt_tokens"] == len(ids), told["usage"]
top = told["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
open(sys.argv[4], "w").write(json.dumps([(t["id"], t["logprob"]) for t in top]))
"""


def model(family: str, folder: Path, **more: Any) -> Any:
    """A tiny model of transformers with a tokenizer, saved."""
    sizes = {
        "vocab_size": VOCAB, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    }  # fmt: skip
    torch.manual_seed(1)
    config = transformers.AutoConfig.for_model(family.replace("_experts", "_text"), **{**sizes, **FAMILIES[family], **more})
    made = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, p in made.named_parameters():
            norm = p.dim() == 1 and not name.endswith("bias")
            p.copy_(torch.randn_like(p) * 0.25 + (1.0 if norm and family not in ADDED else 0.0))
    made.save_pretrained(folder)
    tokenizer(folder)
    return made


def tokenizer(folder: Path) -> None:
    """Byte-level pieces, one for each row of words."""
    import tokenizers as t

    letters = sorted(t.pre_tokenizers.ByteLevel.alphabet())
    special = ["<pad>", "<s>", "</s>", "<unk>"]
    words = {w: i for i, w in enumerate(special + letters)}
    merges = []
    for a, b in pairwise(letters[100:]):
        if len(words) < VOCAB:
            words[a + b] = len(words)
            merges.append((a, b))
    made = t.Tokenizer(t.models.BPE(vocab=words, merges=merges))
    made.pre_tokenizer, made.decoder = t.pre_tokenizers.ByteLevel(add_prefix_space=False), t.decoders.ByteLevel()
    made.add_special_tokens([t.AddedToken(w, special=True) for w in special])
    assert made.get_vocab_size() == VOCAB
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}))


def by_llama_cpp(file: Path, work: Path) -> np.ndarray[Any, Any]:
    """The logarithms of the probabilities of what follows IDS, (VOCAB,)."""
    python = oracles.environment("llama-cpp", "xllamacpp==2026.10.11549")
    oracles.run_in(python, RUN, file, json.dumps(IDS), str(VOCAB), work / "told.json")
    out = np.full(VOCAB, np.nan)
    for i, value in json.loads((work / "told.json").read_text()):
        out[i] = value
    assert not np.isnan(out).any()
    return out


def by_transformers(made: Any) -> np.ndarray[Any, Any]:
    with torch.no_grad():
        out: np.ndarray[Any, Any] = made(torch.tensor([IDS])).logits[0, -1].double().log_softmax(-1).numpy()
    return out


@pytest.mark.parametrize("family", FAMILIES)
def test_llama_cpp_gives_the_outputs_of_transformers(family: str, tmp_path: Path) -> None:
    made = model(family, tmp_path / "hf")
    ckptkit.convert(tmp_path / "hf", tmp_path / "model.gguf", to="gguf")
    far = np.abs(by_llama_cpp(tmp_path / "model.gguf", tmp_path) - by_transformers(made)).max()
    assert far <= ALLOWED.get(family, 1e-4)


def test_another_base_of_the_rotation_would_be_seen(tmp_path: Path) -> None:
    model("llama", tmp_path / "hf")
    other = model("llama", tmp_path / "other", rope_parameters={"rope_type": "default", "rope_theta": 500.0})
    ckptkit.convert(tmp_path / "hf", tmp_path / "model.gguf", to="gguf")
    assert np.abs(by_llama_cpp(tmp_path / "model.gguf", tmp_path) - by_transformers(other)).max() > 1e-2


def test_gemma_3n_but_for_how_its_spread_is_divided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """llama.cpp divides the squares of what deviates by the width less one: with that, transformers' outputs are the same."""
    from safetensors.numpy import load_file, save_file
    from transformers.models.gemma3n.modeling_gemma3n import Gemma3nTextMLP

    sizes = {
        "head_dim": 16, "num_hidden_layers": 21, "num_kv_shared_layers": 1, "sliding_window": 32, "hidden_size_per_layer_input": 256,
        "vocab_size_per_layer_input": VOCAB, "laurel_rank": 64, "activation_sparsity_pattern": [0.95] * 10 + [0.0] * 11,
    }  # fmt: skip
    monkeypatch.setitem(FAMILIES, "gemma3n_text", sizes)
    monkeypatch.setattr(f"{__name__}.IDS", [66, 70, 75])
    made = model("gemma3n_text", tmp_path / "hf")
    weights = load_file(tmp_path / "hf" / "model.safetensors")
    for part in ("k_proj", "v_proj", "k_norm"):  # which published files have in every layer
        weights[f"model.layers.20.self_attn.{part}.weight"] = weights[f"model.layers.19.self_attn.{part}.weight"]
    save_file(weights, tmp_path / "hf" / "model.safetensors", {"format": "pt"})
    ckptkit.convert(tmp_path / "hf", tmp_path / "model.gguf", to="gguf")
    by_it = by_llama_cpp(tmp_path / "model.gguf", tmp_path)
    assert np.abs(by_it - by_transformers(made)).max() > 0.05

    def kept(self: Any, inputs: Any) -> Any:
        spread, mean = inputs.std(-1, keepdim=True, unbiased=True), inputs.mean(-1, keepdim=True)
        return torch.relu(inputs - (mean + 1.6448533535003662 * spread))

    monkeypatch.setattr(Gemma3nTextMLP, "_gaussian_topk", kept)
    assert np.abs(by_it - by_transformers(made)).max() <= 2e-2  # gelu from a table in float16, through 21 layers
