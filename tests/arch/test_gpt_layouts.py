"""How GPT and GPT-2 lie in OpenAI's, bert4keras' and transformers' files, written out with numpy by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import oracles
import pytest
from gpt_files import CASES, HPARAMS, NPY, by_hand, equal, load_published, load_safetensors, random_hf, save_hf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ckptkit
from ckptkit.containers import open_checkpoint

SOME = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
SIZES = {
    "seed": st.integers(0, 10**6),
    "layers": st.sampled_from([1, 2, 13]),
    "heads": st.sampled_from([1, 2, 5]),
    "vocab": st.sampled_from([11, 31, 64]),
}


@SOME
@given(**SIZES)
def test_gpt2_in_openais_layout_is_what_numpy_makes_by_hand(
    tmp_path_factory: pytest.TempPathFactory, seed: int, layers: int, heads: int, vocab: int
) -> None:
    tmp = tmp_path_factory.mktemp("gpt2")
    arrays, config = random_hf(seed, layers, heads, vocab)
    ckptkit.convert(save_hf(tmp / "hf", arrays, config), tmp / "openai", to="openai", container="safetensors")
    equal(load_safetensors(tmp / "openai" / "model.safetensors"), by_hand(arrays, layers, "model/wte", "model/wpe"))
    ckptkit.convert(tmp / "openai", tmp / "back", to="hf")
    equal(load_safetensors(tmp / "back" / "model.safetensors"), arrays)


@SOME
@given(**SIZES)
def test_gpt_in_openais_folder_is_what_train_py_reads(
    tmp_path_factory: pytest.TempPathFactory, seed: int, layers: int, heads: int, vocab: int
) -> None:
    tmp = tmp_path_factory.mktemp("gpt1")
    arrays, config = random_hf(seed, layers, heads, vocab, gpt1=True)
    ckptkit.convert(save_hf(tmp / "hf", arrays, config), tmp / "openai", to="openai")
    want = by_hand(arrays, layers, "model/emb", "model/pos")
    names = [
        "model/pos",
        "model/emb",
        *(n.removesuffix(":0") for n in json.loads((tmp / "openai" / "parameters_names.json").read_text())[1:]),
    ]
    assert names[2:14] == [n.replace("h1/", "h0/") for n in json.loads((NPY / "names_in_order.json").read_text())[14:26]]
    equal(load_published(tmp / "openai", names), want)
    ckptkit.convert(tmp / "openai", tmp / "back", to="hf")
    equal(load_safetensors(tmp / "back" / "model.safetensors"), arrays)


@pytest.mark.parametrize("gpt1", [False, True])
def test_bert4keras_keeps_query_key_and_value_apart_and_kernels_in_out(tmp_path: Path, gpt1: bool) -> None:
    arrays, config = random_hf(3, 13, 2, 31, gpt1=gpt1)
    ckptkit.convert(save_hf(tmp_path / "hf", arrays, config), tmp_path / "b4k", to="bert4keras", container="safetensors")
    have = load_safetensors(tmp_path / "b4k" / "model.safetensors")
    norm1, norm2 = ("attention/output/LayerNorm", "output/LayerNorm") if gpt1 else ("attention/input/LayerNorm", "input/LayerNorm")
    for i in range(13):
        x, h = f"gpt/transformer/layer_{i}/", f"h.{i}."
        for j, part in enumerate(("query", "key", "value")):
            assert np.array_equal(have[f"{x}attention/self/{part}/kernel"], arrays[h + "attn.c_attn.weight"][:, j * 12 : (j + 1) * 12])
            assert np.array_equal(have[f"{x}attention/self/{part}/bias"], arrays[h + "attn.c_attn.bias"][j * 12 : (j + 1) * 12])
        assert np.array_equal(have[x + "attention/output/dense/kernel"], arrays[h + "attn.c_proj.weight"])
        assert np.array_equal(have[x + "intermediate/dense/kernel"], arrays[h + "mlp.c_fc.weight"])
        assert np.array_equal(have[x + "output/dense/kernel"], arrays[h + "mlp.c_proj.weight"])
        assert np.array_equal(have[f"{x}{norm1}/gamma"], arrays[h + "ln_1.weight"])
        assert np.array_equal(have[f"{x}{norm2}/beta"], arrays[h + "ln_2.bias"])


def test_the_joined_table_is_tokens_special_tokens_and_positions(tmp_path: Path) -> None:
    """As train.py joins it, with the special rows that the published arrays lack."""
    ckptkit.convert(CASES["gpt1_jl"][0], tmp_path / "hf", to="hf", config=HPARAMS)
    have = load_safetensors(tmp_path / "hf" / "model.safetensors")
    parts = load_published(NPY / "model", json.loads((NPY / "names_in_order.json").read_text()))
    special = oracles.read_npz(NPY / "special_rows.npz")["special"]
    assert np.array_equal(have["transformer.tokens_embed.weight"], np.concatenate([parts["model/emb"], special]))
    assert np.array_equal(have["transformer.positions_embed.weight"], parts["model/pos"])
    ckptkit.convert(tmp_path / "hf", tmp_path / "tf", to="openai_finetuned")
    variables = oracles.tf_variables(tmp_path / "tf" / "model.ckpt")
    assert np.array_equal(variables["model/we"], np.concatenate([parts["model/emb"], special, parts["model/pos"]]))
    names = json.loads((NPY / "finetuned_names_in_order.json").read_text())
    with open_checkpoint(CASES["gpt1_jl"][0]) as original:
        equal(variables, {n: original.array(n) for n in names})
