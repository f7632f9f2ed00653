"""The index of architecture files: it is up to date, and what it opens is what trying every file would find."""

from __future__ import annotations

import subprocess
import sys

import oracles
import pytest

from ckptkit import arch
from ckptkit.arch import architectures, by_name, candidates, known, names, of_class, variants
from ckptkit.graph.recognize import recognize
from ckptkit.schema.templates import patterns_of, tally

GOLDEN = ["hf_bert/safetensors", "hf_gpt2/safetensors", "hf_t5/safetensors", "bert_tf", "albert_tf", "fairseq_roberta_new"]


def test_the_index_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, oracles.ROOT / "scripts" / "index_architectures.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_name_class_and_variant_of_the_files_is_in_it() -> None:
    every = architectures().values()
    assert {n for a in every for n in a.names} == names()
    for a in every:
        assert known(a.name) is a and by_name(a.name) is a
        assert all(known(n) is not None for n in a.names)
    assert all(of_class(c.name) is not None for a in every for d in a.dialects.values() for c in d.classes)
    assert {n for a in every for n in a.variants} == variants().keys()
    assert known("no-such-model") is None and of_class("NoSuchModel") is None


@pytest.mark.parametrize("case", GOLDEN)
def test_what_it_opens_is_what_trying_every_file_finds(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import ckptkit

    folder, _, below = case.partition("/")
    with ckptkit.examine(oracles.golden(folder) / below if below else oracles.golden(folder)) as s:
        shapes = {n: t.spec.shape for n, t in s.checkpoint.tensors.items()}
        aliases = s.checkpoint.aliases
    few = recognize(shapes, aliases)
    monkeypatch.setattr("ckptkit.graph.recognize.candidates", lambda *_: [*architectures().values()])
    every = recognize(shapes, aliases)
    assert few is not None and every is not None
    assert (few.architecture, few.dialect.name, few.prefix, few.score) == (
        every.architecture,
        every.dialect.name,
        every.prefix,
        every.score,
    )


def test_few_files_are_opened_for_names_that_many_share() -> None:
    modules = [*(f"self_attn.{x}_proj" for x in "qkvo"), *(f"mlp.{x}_proj" for x in ("gate", "up", "down"))]
    modules += ["input_layernorm", "post_attention_layernorm"]
    stored = ["model.embed_tokens.weight", "model.norm.weight", *(f"model.layers.{i}.{m}.weight" for i in range(2) for m in modules)]
    patterns = tally(patterns_of(stored))
    assert [a.name for a in candidates(patterns, stored, "mistral")] == ["mistral"]
    assert len(candidates(patterns, stored, None)) > 3  # which one is meant, the names do not say
    assert arch.candidates({"nothing.like.it": 1}, ["nothing.like.it"], None) == []
