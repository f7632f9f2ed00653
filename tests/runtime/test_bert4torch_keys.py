"""The decoders of bert4torch by its keys: `model=KEY` and its own configuration build what their authors' code or transformers runs. The
words of that configuration are written by hand here, as bert4torch's repository had them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import decoders
import numpy as np
import pytest
import running

import ckptkit
from ckptkit.arch import architectures
from ckptkit.errors import UsageError
from ckptkit.runtime.build import build_transformer_model

AUTHORS = Path(__file__).parents[2] / "fixtures" / "authors"
COMMON: dict[str, Any] = {
    "vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 40, "layer_norm_eps": 1e-5,
    "segment_vocab_size": 0, "skip_init": True, "hidden_act": "silu", "rope_rank": "updown", "pad_token_id": 0, "flash_attention": "sdpa",
}  # fmt: skip
GLM2: dict[str, Any] = {
    **COMMON, "hidden_act": "swiglu", "rope_rank": "adjacent", "multi_query_group_num": 2, "tie_emb_prj_weight": False, "rmsnorm": True,
    "max_sequence_length": 64, "position_encoding_2d": True,
}  # fmt: skip
# key -> (case of the authors' code, what its configuration says)
OF_AUTHORS: dict[str, tuple[str, dict[str, Any]]] = {
    "glm": ("chatglm", {
        **COMMON, "hidden_act": "gelu_new", "bos_token_id": 57, "mask_token_id": 55, "gmask_token_id": 56, "max_sequence_length": 64,
        "position_encoding_2d": True, "tie_emb_prj_weight": False,
    }),
    "chatglm": ("chatglm", {
        **COMMON, "hidden_act": "gelu_new", "bos_token_id": 57, "mask_token_id": 55, "gmask_token_id": 56, "tie_word_embeddings": False,
    }),
    "glm2": ("chatglm2", GLM2),
    "glm3": ("chatglm3", {**GLM2, "multi_query_group_num": 1}),
    "chatglm2": ("chatglm2", GLM2),
    "internlm": ("internlm_bias", {**COMMON, "tie_word_embeddings": False}),
    "internlm2": ("internlm2", {**COMMON, "num_key_value_heads": 2, "rope_theta": 1e6}),
    "baichuan": ("baichuan_rotary", {**COMMON, "p_bias": "rotary", "max_position": 64}),
    "baichuan with alibi": ("baichuan_alibi", {**COMMON, "p_bias": "alibi"}),
    "baichuan 2": ("baichuan_alibi_normed", {
        **COMMON, "hidden_size": 36, "num_attention_heads": 6, "p_bias": "alibi", "norm_head": True,
    }),
    "qwen": ("qwen", {**COMMON, "seq_length": 64, "max_position": 64}),
    "minicpm": ("minicpm", {
        **COMMON, "num_key_value_heads": 2, "scale_emb": 12, "dim_model_base": 16, "scale_depth": 1.4, "tie_word_embeddings": True,
    }),
}  # fmt: skip
# key -> (case of transformers, what its keys are called in bert4torch's words, and what is said besides)
OF_TRANSFORMERS: dict[str, tuple[str, dict[str, str], dict[str, Any]]] = {
    "llama": ("llama, one head of keys", {"num_key_value_heads": "multi_query_group_num"}, {"rope_rank": "updown"}),
    "qwen2": ("qwen2 without windows", {"tie_word_embeddings": "tie_emb_prj_weight"}, {"rope_rank": "rotate_half"}),
    "qwen3": ("qwen3", {"head_dim": "attention_head_size"}, {"rope_rank": "updown"}),
    "qwen3_moe": ("qwen3_moe", {}, {"rope_rank": "updown"}),
    "deepseek_v2": ("deepseek_v2", {}, {}),
    "glm4": ("glm4", {}, {"rope_rank": "adjacent", "layer_type": "Glm4Layer"}),
    "glm4 without norms after": ("glm", {}, {"rope_rank": "adjacent", "layer_type": "LLMLayer"}),
    "ernie4_5": ("ernie4_5", {}, {}),
    "bloom": ("bloom", {"n_layer": "num_hidden_layers", "n_head": "num_attention_heads"}, {"p_bias": "alibi"}),
    "falcon": ("falcon, by distance", {}, {"p_bias": "alibi"}),
}  # fmt: skip
EVERYWHERE = {"rms_norm_eps": "layer_norm_eps", "max_position_embeddings": "max_position", "layer_norm_epsilon": "layer_norm_eps"}


def key_of(case: str) -> str:
    return case.split(" ")[0]


def placed(folder: Path, weights: Path, config: dict[str, Any]) -> Path:
    """Weights with bert4torch's configuration alone beside them."""
    folder.mkdir()
    shutil.copy(weights, folder / "model.safetensors")
    (folder / "bert4torch_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("case", OF_AUTHORS)
def test_a_key_and_its_configuration_build_what_the_authors_code_runs(case: str, tmp_path: Path) -> None:
    name, config = OF_AUTHORS[case]
    path = placed(tmp_path / "in", AUTHORS / name / "model.safetensors", {**config, "model": key_of(case)})
    model = build_transformer_model(path / "bert4torch_config.json", path, model=key_of(case), with_mlm=True)
    given, want = dict(np.load(AUTHORS / name / "inputs.npz")), np.load(AUTHORS / name / "outputs.npz")["logits"]
    real = given["attention_mask"].astype(bool) if "attention_mask" in given else np.ones(want.shape[:2], bool)
    assert np.abs(running.run(model, given)["lm"] - want)[real].max() < 1e-5


def in_their_words(path: Path, case: str) -> dict[str, Any]:
    """transformers' configuration in bert4torch's words."""
    _, called, besides = OF_TRANSFORMERS[case]
    raw = json.loads((path / "config.json").read_text())
    dropped = ("model_type", "architectures", "transformers_version", "dtype")
    words = {**EVERYWHERE, **called}
    return {**{words.get(k, k): v for k, v in raw.items() if k not in dropped}, **besides, "segment_vocab_size": 0, "model": key_of(case)}


@pytest.mark.parametrize("case", OF_TRANSFORMERS)
def test_a_key_and_its_configuration_build_what_transformers_runs(case: str, tmp_path: Path) -> None:
    made = decoders.make(OF_TRANSFORMERS[case][0], tmp_path)
    path = placed(tmp_path / "in", made / "model.safetensors", in_their_words(made, case))
    model = build_transformer_model(path / "bert4torch_config.json", path, model=key_of(case), with_mlm=True)
    want = decoders.expected(made)["lm"]
    real = decoders.inputs()["attention_mask"].astype(bool)
    assert np.abs(running.run(model, decoders.inputs())["lm"] - want)[real].max() < 1e-5
    report = ckptkit.validate(path)  # the file is found beside the weights
    assert report.exit_code == 0 and report.subject.values is not None, report.findings
    assert report.subject.values.values["layers"] == 3


def test_a_layer_too_many_in_bert4torchs_words_is_an_error_that_says_both_numbers(tmp_path: Path) -> None:
    name, config = OF_AUTHORS["glm"]
    path = placed(tmp_path / "in", AUTHORS / name / "model.safetensors", {**config, "num_hidden_layers": 4, "model": "glm"})
    errors = [f.message for f in ckptkit.validate(path).findings if f.severity == "error"]
    assert any(" 4 " in m and " 3 " in m for m in errors), errors


def test_a_converted_folder_has_no_word_of_bert4torchs(tmp_path: Path) -> None:
    name, config = OF_AUTHORS["glm2"]
    path = placed(tmp_path / "in", AUTHORS / name / "model.safetensors", {**config, "model": "glm2"})
    ckptkit.convert(path, tmp_path / "out", to="hf")
    raw = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (raw["model_type"], raw["multi_query_group_num"], raw["num_layers"], raw["layernorm_epsilon"]) == ("chatglm", 2, 3, 1e-5)
    assert not raw.keys() & {"model", "layer_norm_eps", "num_hidden_layers", "skip_init", "segment_vocab_size", "rope_rank"}


@pytest.mark.parametrize("case", [c for c in OF_AUTHORS if " " not in c])
def test_a_configuration_alone_builds_the_keys_model(case: str, tmp_path: Path) -> None:
    name, config = OF_AUTHORS[case]
    path = tmp_path / "bert4torch_config.json"
    path.write_text(json.dumps({**config, "model": case}))
    made = build_transformer_model(path, model=case, with_mlm=True)
    held = build_transformer_model(AUTHORS / name / "config.json", AUTHORS / name, with_mlm=True)
    assert {n: x.shape for n, x in made.state_dict().items()} == {n: x.shape for n, x in held.state_dict().items()}


def test_a_key_of_another_family_refuses_the_weights() -> None:
    for key in ("llama", "qwen2", "glm"):
        with pytest.raises(UsageError, match=f"not of {key}"):
            build_transformer_model(AUTHORS / "internlm2" / "config.json", AUTHORS / "internlm2", model=key)


def test_every_key_is_said_by_the_architecture_that_it_means() -> None:
    said = {k: sorted(a.name for a in architectures().values() if k in a.called) for a in architectures().values() for k in a.called}
    assert {k: said[k] for k in ("glm", "glm2", "glm3", "glm4")} == {
        "glm": ["chatglm"], "glm2": ["chatglm2"], "glm3": ["chatglm2"], "glm4": ["glm", "glm4"],
    }  # fmt: skip
