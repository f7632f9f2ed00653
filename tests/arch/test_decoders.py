"""Today's decoders against transformers: tiny models of it, made here, are recognised, whole, wrong where they are made wrong, and carried
between its forms on disk and in memory; Meta's and Mistral's own naming against permutations written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import ckptkit

transformers = pytest.importorskip("transformers")
from families import EXPERTS, SMALL, holds, model, settings_tied  # noqa: E402

GPT: dict[str, Any] = {"vocab_size": 97, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64, "bos_token_id": 1, "eos_token_id": 2}
LATENT: dict[str, Any] = {"q_lora_rank": 18, "kv_lora_rank": 14, "qk_nope_head_dim": 10, "qk_rope_head_dim": 6, "v_head_dim": 12}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {**SMALL, "attention_bias": True, "mlp_bias": True}),
    "mistral": ("mistral", {**SMALL, "sliding_window": None}),
    "qwen2": ("qwen2", SMALL),
    "qwen3": ("qwen3", {**SMALL, "head_dim": 12, "tie_word_embeddings": True}),
    "gemma": ("gemma", {**SMALL, "head_dim": 12}),
    "gemma2": ("gemma2", {**SMALL, "head_dim": 12}),
    "gemma3_text": ("gemma3", {**SMALL, "head_dim": 12}),
    "phi3": ("phi3", SMALL),
    "olmo2": ("olmo2", SMALL),
    "stablelm": ("stablelm", {**SMALL, "qk_layernorm": True, "use_qkv_bias": True}),
    "cohere": ("cohere", {**SMALL, "use_qk_norm": True}),
    "glm4": ("glm4", {**SMALL, "head_dim": 8}),
    "gpt_neox": ("gpt_neox", {k: v for k, v in SMALL.items() if k != "num_key_value_heads"}),
    "gptj": ("gptj", {**GPT, "rotary_dim": 4}),
    "gpt_bigcode": ("gpt_bigcode", {**GPT, "multi_query": False}),
    "falcon": ("falcon", {**SMALL, "new_decoder_architecture": True, "num_kv_heads": 2}),
    "opt": ("opt", {**SMALL, "ffn_dim": 40, "word_embed_proj_dim": 16, "do_layer_norm_before": False}),
    "mixtral": ("mixtral", {**SMALL, "num_local_experts": 3, "num_experts_per_tok": 2}),
    "qwen2_moe": ("qwen2_moe", {**SMALL, **EXPERTS, "num_experts": 3, "shared_expert_intermediate_size": 24, "mlp_only_layers": [0]}),
    "qwen3_moe": ("qwen3_moe", {**SMALL, **EXPERTS, "num_experts": 3, "decoder_sparse_step": 2}),
    "gpt_oss": ("gpt_oss", {**SMALL, "head_dim": 8, "num_local_experts": 3, "num_experts_per_tok": 2}),
    "deepseek_v3": (
        "deepseek_v3",
        {**SMALL, **EXPERTS, **LATENT, "num_key_value_heads": 4, "n_routed_experts": 4, "n_group": 2, "topk_group": 1,
         "first_k_dense_replace": 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("model_type", CASES)
def test_a_model_of_transformers_is_known_whole_and_wrong_where_it_is_made_wrong(model_type: str, tmp_path: Path) -> None:
    name, settings = CASES[model_type]
    holds(name, model_type, settings, tmp_path)


def pairs_side_by_side(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of each head's halves turned into neighbours, as Meta keeps them."""
    rows, width = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, width).transpose(0, 2, 1, 3).reshape(rows, width)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(("model_type", "naming"), [("llama", "meta"), ("mistral", "mistral")])
def test_the_authors_own_naming_is_what_a_permutation_by_hand_makes(model_type: str, naming: str, tied: bool, tmp_path: Path) -> None:
    model(model_type, {**SMALL, "tie_word_embeddings": tied}, tmp_path / "hf")
    ckptkit.convert(tmp_path / "hf", tmp_path / "own", to=naming, container="safetensors")
    hf = load_file(tmp_path / "hf" / "model.safetensors")
    own = load_file(next((tmp_path / "own").glob("*.safetensors")))
    words = {
        "self_attn.v_proj": "attention.wv", "self_attn.o_proj": "attention.wo", "mlp.gate_proj": "feed_forward.w1",
        "mlp.up_proj": "feed_forward.w3", "mlp.down_proj": "feed_forward.w2", "input_layernorm": "attention_norm",
        "post_attention_layernorm": "ffn_norm",
    }  # fmt: skip
    want = {"tok_embeddings.weight": hf["model.embed_tokens.weight"], "norm.weight": hf["model.norm.weight"]}
    want["output.weight"] = hf["model.embed_tokens.weight" if tied else "lm_head.weight"]  # the loader wants it in either case
    for i in range(3):
        at = f"model.layers.{i}."
        want |= {f"layers.{i}.{b}.weight": hf[f"{at}{a}.weight"] for a, b in words.items()}
        want[f"layers.{i}.attention.wq.weight"] = pairs_side_by_side(hf[at + "self_attn.q_proj.weight"], 4)
        want[f"layers.{i}.attention.wk.weight"] = pairs_side_by_side(hf[at + "self_attn.k_proj.weight"], 2)
    assert own.keys() == want.keys()
    for n in want:
        np.testing.assert_array_equal(own[n], want[n])
    ckptkit.convert(tmp_path / "own", tmp_path / "back", to="hf")
    back = load_file(tmp_path / "back" / "model.safetensors")
    assert back.keys() == hf.keys() and all(back[n].tobytes() == hf[n].tobytes() for n in hf)
    assert settings_tied(tmp_path / "back") is tied


def test_a_vocabulary_of_minus_one_is_unknown_and_read_off_the_tensors(tmp_path: Path) -> None:
    model("llama", SMALL, tmp_path / "hf")
    ckptkit.convert(tmp_path / "hf", tmp_path / "meta", to="meta")
    raw = json.loads((tmp_path / "meta" / "params.json").read_text())
    (tmp_path / "meta" / "params.json").write_text(json.dumps({**raw, "vocab_size": -1}))
    assert ckptkit.validate(tmp_path / "meta").exit_code == 0
    ckptkit.convert(tmp_path / "meta", tmp_path / "back", to="hf")
    assert json.loads((tmp_path / "back" / "config.json").read_text())["vocab_size"] == 97


@pytest.mark.parametrize(
    "old",
    [
        {"rope_theta": 500000.0, "rope_scaling": None},
        {"rope_theta": 500000.0, "rope_scaling": {"type": "linear", "factor": 2.0}},
        {"rope_theta": 500000.0, "rope_scaling": {"rope_type": "dynamic", "factor": 4.0}},
    ],
)
def test_a_configuration_of_transformers_4_is_read_and_written_in_its_own_spelling(old: dict[str, Any], tmp_path: Path) -> None:
    model("llama", SMALL, tmp_path / "hf")
    path = tmp_path / "hf" / "config.json"
    raw = json.loads(path.read_text())
    del raw["rope_parameters"]
    path.write_text(json.dumps({**raw, **old}))
    with ckptkit.examine(tmp_path / "hf") as s:
        assert s.value("rope_theta") == 500000.0 and s.value("rope_factor") == (old["rope_scaling"] or {}).get("factor")
    ckptkit.convert(tmp_path / "hf", tmp_path / "same", to="hf", container="torch")
    written = json.loads((tmp_path / "same" / "config.json").read_text())
    assert {k: written.get(k) for k in old} == old and "rope_parameters" not in written
    ckptkit.convert(tmp_path / "hf", tmp_path / "meta", to="meta")
    assert json.loads((tmp_path / "meta" / "params.json").read_text())["rope_theta"] == 500000.0


def test_a_layer_for_multi_token_prediction_is_named_and_no_layer_of_the_model(tmp_path: Path) -> None:
    model("deepseek_v3", CASES["deepseek_v3"][1], tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    extra = {n.replace("layers.2.", "layers.3."): v for n, v in tensors.items() if ".layers.2." in n}
    extra |= {"model.layers.3.eh_proj.weight": np.zeros((32, 64), np.float32), "model.layers.3.enorm.weight": np.ones(32, np.float32)}
    save_file({**tensors, **extra}, tmp_path / "model.safetensors")
    report = ckptkit.validate(tmp_path)
    assert report.exit_code == 0 and report.subject.graph.counts["layers"] == 3
    assert {report.subject.graph.roles[n].kind for n in extra} == {"stray"}
    assert "multi-token prediction" in report.subject.graph.roles["model.layers.3.eh_proj.weight"].what


def test_masks_and_frequencies_of_older_files_are_derived(tmp_path: Path) -> None:
    model("llama", SMALL, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    old = {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": np.ones(4, np.float32) for i in range(3)}
    save_file({**tensors, **old}, tmp_path / "model.safetensors")
    report = ckptkit.validate(tmp_path)
    assert report.exit_code == 0 and {report.subject.graph.roles[n].kind for n in old} == {"derived"}


def test_a_family_that_is_not_here_is_not_taken_for_one_that_names_its_tensors_alike(tmp_path: Path) -> None:
    model("llama", SMALL, tmp_path)
    path = tmp_path / "config.json"
    raw = json.loads(path.read_text())
    path.write_text(json.dumps({**raw, "model_type": "never_heard_of", "architectures": ["NeverHeardOfForCausalLM"]}))
    report = ckptkit.validate(tmp_path)
    assert report.subject.architecture is None and report.exit_code == 3
    assert any("Llama" in f.message and "not taken for" in f.message for f in report.findings if f.rule == "architecture")
    path.unlink()
    with ckptkit.examine(tmp_path) as s:
        assert s.graph.recognition is not None and any("could also be" in e and "mistral" in e for e in s.graph.recognition.evidence)
