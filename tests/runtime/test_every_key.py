"""Every key of bert4torch 0.6.2's `build_transformer_model` that is a transformer of text names an architecture that runs here."""

from __future__ import annotations

import pytest

from ckptkit.arch import called, known
from ckptkit.runtime.build import _key

T5 = ("t5", "t5.1.0", "t5.1.1", "mt5.1.1")
KEYS = (
    "bert", "roberta", "albert", "albert_unshared", "electra", "ernie", "ernie4_5", "uie", "nezha", "roformer", "roformer_v2", "gau_alpha",
    "deberta_v2", "modernbert", "bart", "gpt", "gpt2", "gpt2_ml", "xlnet", "transformer_xl", "llama", "bloom", "falcon", "qwen", "qwen2",
    "qwen3", "qwen3_moe", "deepseek_v2", "glm", "chatglm", "glm2", "chatglm2", "glm3", "glm4", "internlm", "internlm2", "minicpm",
    "baichuan", *T5, *(f"{t}_{stack}" for t in T5 for stack in ("encoder", "decoder")),
)  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
def test_a_key_names_an_architecture_that_runs(key: str) -> None:
    name, _ = _key(key)
    assert name is not None
    found = [a for a in (known(name), *called(name)) if a is not None]
    assert found and any(a.traits for a in found)
