"""Settings that the weights' own architecture does not have, or that no model can have: what is said of each, and of the right one."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import ckptkit
from ckptkit.arch import architectures, owners
from ckptkit.configuration.read import interpret, read_config
from ckptkit.rules.settings import settings_in

HIDDEN, HEADS, KV, DIM, WIDTH, VOCAB, EXPERTS = 24, 4, 2, 6, 10, 11, 4
ROPE = {"rope_type": "default", "rope_theta": 10000.0}
LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "num_hidden_layers": 2,
    "num_attention_heads": HEADS, "num_key_value_heads": KV, "head_dim": DIM, "intermediate_size": WIDTH,
    "vocab_size": VOCAB, "rms_norm_eps": 1e-6, "hidden_act": "silu",
    "tie_word_embeddings": False, "rope_parameters": ROPE, "max_position_embeddings": 64,
}  # fmt: skip
MIXTRAL = {
    **LLAMA, "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "num_local_experts": EXPERTS, "num_experts_per_tok": 2,
}  # fmt: skip


def said(folder: Path, base: dict[str, Any], **config: Any) -> list[tuple[str, str, str]]:
    """(severity, where, message) of what is said of a small model with other settings."""
    rng = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCAB, HIDDEN), "lm_head.weight": (VOCAB, HIDDEN)}
    norms = ["model.norm.weight"]
    for i in range(2):
        at = f"model.layers.{i}."
        shapes |= {f"{at}self_attn.{x}_proj.weight": (n * DIM, HIDDEN) for x, n in (("q", HEADS), ("k", KV), ("v", KV))}
        shapes[f"{at}self_attn.o_proj.weight"] = (HIDDEN, HEADS * DIM)
        norms += [f"{at}input_layernorm.weight", f"{at}post_attention_layernorm.weight"]
        if base is MIXTRAL:
            shapes[f"{at}block_sparse_moe.gate.weight"] = (EXPERTS, HIDDEN)
            for e in range(EXPERTS):
                one = f"{at}block_sparse_moe.experts.{e}."
                shapes |= {f"{one}w1.weight": (WIDTH, HIDDEN), f"{one}w2.weight": (HIDDEN, WIDTH), f"{one}w3.weight": (WIDTH, HIDDEN)}
        else:
            shapes |= {f"{at}mlp.{x}_proj.weight": (WIDTH, HIDDEN) for x in ("gate", "up")}
            shapes[f"{at}mlp.down_proj.weight"] = (HIDDEN, WIDTH)
    arrays = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    arrays |= {n: (1 + rng.random(HIDDEN) / 9).astype(np.float32) for n in norms}
    save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({k: v for k, v in {**base, **config}.items() if v is not None}))
    return [(f.severity, f.where, f.message) for f in ckptkit.validate(folder).findings]


@pytest.mark.parametrize("base", [LLAMA, MIXTRAL], ids=["llama", "mixtral"])
def test_of_what_is_right_nothing_is_said(base: dict[str, Any], tmp_path: Path) -> None:
    assert said(tmp_path, base) == []


@pytest.mark.parametrize(
    ("key", "value", "owner"),
    [
        ("logit_scale", 0.25, "Cohere"),
        ("embedding_multiplier", 12.0, "Granite"),
        ("attn_logit_softcapping", 50.0, "Gemma 2"),
        ("no_rope_layers", [1, 0], "SmolLM3"),
        ("use_qk_norm", True, "Cohere"),
    ],
)
def test_a_setting_of_a_sibling_is_named_with_who_has_it(key: str, value: object, owner: str, tmp_path: Path) -> None:
    (severity, where, message), *rest = said(tmp_path, LLAMA, **{key: value})
    assert not rest and (severity, where) == ("warning", key) and "which Llama does not have" in message
    named = message.partition("a setting of ")[2]
    assert owner in named or "more" in named


@pytest.mark.parametrize(("key", "value"), [("logit_scale", 1.0), ("use_qk_norm", False), ("_note", 3), ("unsloth_version", None)])
def test_what_changes_nothing_is_no_finding(key: str, value: object, tmp_path: Path) -> None:
    assert said(tmp_path, LLAMA, **{key: value}) == []


def test_a_key_that_nobody_knows_is_named_without_a_warning(tmp_path: Path) -> None:
    ((severity, where, message),) = said(tmp_path, LLAMA, my_scale=3, other=[2])
    assert (severity, where) == ("info", "my_scale") and "my_scale, other" in message


@pytest.mark.parametrize(
    ("rope", "severity", "words"),
    [
        ({"rope_type": "llama3", "rope_theta": 1e4}, "error", "without factor and low_freq_factor and high_freq_factor"),
        ({"rope_type": "linear", "rope_theta": 1e4}, "error", "without factor"),
        ({"rope_type": "fancy", "rope_theta": 1e4}, "warning", "no such rotary positions"),
    ],
)
def test_rotary_positions_that_cannot_be_made(rope: dict[str, object], severity: str, words: str, tmp_path: Path) -> None:
    ((grave, _, message),) = said(tmp_path, LLAMA, rope_parameters=rope)
    assert grave == severity and words in message


def test_rotary_positions_that_have_their_numbers_are_no_finding(tmp_path: Path) -> None:
    rope = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    assert said(tmp_path, LLAMA, rope_parameters={**rope, "original_max_position_embeddings": 32}) == []


def test_two_bases_are_a_contradiction_and_the_same_one_twice_is_none(tmp_path: Path) -> None:
    ((severity, where, message),) = said(tmp_path, LLAMA, rope_theta=5e5)
    assert (severity, where) == ("warning", "rope_theta") and "500000" in message and "10000" in message
    assert said(tmp_path, LLAMA, rope_theta=10000.0) == []


def test_rope_scaling_beside_rope_parameters_counts_alone_as_in_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    scaling = {"rope_type": "linear", "factor": 4.0}
    ((severity, where, message),) = said(tmp_path, LLAMA, rope_scaling=scaling, rope_parameters={**ROPE, "rope_theta": 5e5})
    assert (severity, where) == ("warning", "rope_scaling") and "rope_theta of rope_parameters is lost" in message
    theirs = transformers.AutoConfig.from_pretrained(tmp_path).rope_parameters
    with ckptkit.graph.examine.examine(tmp_path) as s:
        ours = interpret(read_config(str(tmp_path / "config.json")), s.architecture, s.architecture.dialects["hf"]).values
    assert (ours["rope_type"], ours["rope_factor"]) == (theirs["rope_type"], theirs["factor"]) == ("linear", 4.0)
    assert ours["rope_theta"] == theirs["rope_theta"] == 10000.0


@pytest.mark.parametrize("said_of_it", [5, 0, -1])
def test_as_many_experts_as_there_are_not_cannot_be_chosen(said_of_it: int, tmp_path: Path) -> None:
    assert [f[0] for f in said(tmp_path, MIXTRAL, num_experts_per_tok=said_of_it) if f[1] == "num_experts_per_tok"] == ["error"]


@pytest.mark.parametrize("said_of_it", [1, 4])
def test_fewer_experts_or_all_can_be_chosen(said_of_it: int, tmp_path: Path) -> None:
    assert said(tmp_path, MIXTRAL, num_experts_per_tok=said_of_it) == []


def test_heads_that_make_other_matrices_than_there_are_with_the_size_that_is_said(tmp_path: Path) -> None:
    ((severity, where, message),) = said(tmp_path, LLAMA, num_attention_heads=8)
    assert severity == "error" and where.startswith("model.layers.") and "num_attention_heads 8" in message and "hold 4" in message


def test_whose_a_key_is_the_index_knows(tmp_path: Path) -> None:
    """Opening every table takes ten times as long as looking at the model. Each table itself is the judge of the index."""
    said(tmp_path, LLAMA, logit_scale=0.25, made_up=7)
    program = (
        "import sys; sys.argv = ['ckptkit', 'inspect', sys.argv[1]]\nfrom ckptkit.cli import main\ntry:\n    main()\nfinally:\n"
        "    print([m for m in sys.modules if m.startswith('ckptkit.arch.') and not m.startswith('ckptkit.arch._')], file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True)
    assert "logit_scale" in run.stdout
    opened = ast.literal_eval(run.stderr.strip().splitlines()[-1])
    assert 1 <= len(opened) <= 12, opened


@pytest.mark.parametrize("key", ["logit_scale", "alibi", "hidden_size", "max_position_embeddings", "no_rope_layers", "made_up"])
def test_the_index_says_what_the_tables_say(key: str) -> None:
    every = {a.title: settings_in(a) for a in architectures().values()}
    having = {title for title, keys in every.items() if key in keys}
    want = set() if any(keys.get(key) for keys in every.values()) else having
    assert set(owners(key, settings_in)) == want
