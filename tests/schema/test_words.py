"""Words of the language tried through the whole tool with small architectures of their own: adjusted values, sizes by layer, stacked
places, untied copies; each against arrays made by hand. And a family of Llama's kind added by one short file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import ckptkit
from ckptkit.schema import (
    LESS_ONE,
    TORCH,
    Adjust,
    Architecture,
    ConfigForm,
    Dialect,
    embedding,
    linear,
    norm,
)
from ckptkit.schema.check import check

B = "blocks.{layer}."
L = "layers.{layer}."
MODULES = {
    "words": embedding("vocab hidden"),
    B + "norm": norm("hidden", bias=False),
    B + "gate": linear("intermediate@layer", "hidden", bias=False),
    B + "up": linear("intermediate@layer", "hidden", bias=False),
    B + "experts.{expert}.down": linear("hidden", "wide", bias=False),
    "head": linear("vocab", "hidden", bias=False, group="lm", tied={"weight": "words.weight"}),
}
KEYS = {"layers": "layers", "width": "hidden", "ffn": "intermediate", "tied": "tied"}
APART = Dialect(
    name="apart", title="apart", style=TORCH, adjust={B + "norm.weight": LESS_ONE},
    rows={"words": "words", "head": "head", **{L + n: B + n for n in ("norm", "gate", "up", "experts.{expert}.down")}},
    config=ConfigForm(filename="config.json", keys=KEYS, marks={"model_type": "toy"}, labels=True),
)  # fmt: skip
JOINED = Dialect(
    name="joined", title="joined", style=TORCH, unties=frozenset({"head.weight"}),
    rows={
        "emb": "words", "out": "head", L + "scale": B + "norm",
        L + "gate_up": (B + "gate.weight", B + "up.weight", "hidden *(intermediate@layer)"),
        L + "experts": (B + "experts.{expert}.down.weight", "wide *{expert} hidden"),
    },
    config=ConfigForm(filename="joined.json", keys=KEYS),
)  # fmt: skip
TOY = Architecture(
    name="toy", title="Toy", modules=MODULES, dialects=(APART, JOINED), traits={"activation": "relu", "norm_eps": 1e-5}, heads=()
)
WIDTHS = (5, 3)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    check(TOY)
    monkeypatch.setattr("ckptkit.arch._own", lambda: (TOY,))


def make(folder: Path, dtype: object = np.float32, ffn: object = WIDTHS) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    shapes = {"words.weight": (11, 4)}
    for i, n in enumerate(WIDTHS):
        at = f"layers.{i}."
        shapes |= {at + "norm.weight": (4,), at + "gate.weight": (n, 4), at + "up.weight": (n, 4)}
        shapes |= {f"{at}experts.{e}.down.weight": (4, 6) for e in range(3)}
    arrays = {n: rng.standard_normal(s).astype(dtype) for n, s in shapes.items()}
    folder.mkdir()
    save_file(arrays, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "toy", "layers": 2, "width": 4, "ffn": ffn, "tied": True}))
    return arrays


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.float16])
def test_what_one_naming_joins_adjusts_and_unties_is_what_is_made_by_hand(dtype: object, toy: None, tmp_path: Path) -> None:
    a = make(tmp_path / "a", dtype)
    done = ckptkit.convert(tmp_path / "a", tmp_path / "b", to="joined")
    b = load_file(tmp_path / "b" / "model.safetensors")
    want = {"emb.weight": a["words.weight"], "out.weight": a["words.weight"]}
    for i in range(2):
        at = f"layers.{i}."
        want[at + "scale.weight"] = (a[at + "norm.weight"].astype(np.float64) + 1).astype(dtype)
        want[at + "gate_up"] = np.concatenate((a[at + "gate.weight"].T, a[at + "up.weight"].T), axis=1)
        want[at + "experts"] = np.stack([a[f"{at}experts.{e}.down.weight"].T for e in range(3)], axis=1)
    assert b.keys() == want.keys()
    for n in want:
        assert b[n].dtype == want[n].dtype and b[n].shape == want[n].shape and b[n].tobytes() == want[n].tobytes(), n
    assert any(f.rule == "adjusted" and "rounded" in f.message for f in done.findings)
    ckptkit.convert(tmp_path / "b", tmp_path / "c", to="apart")
    c = load_file(tmp_path / "c" / "model.safetensors")
    assert c.keys() == a.keys()
    for n in a:
        back = (want[n.replace("norm", "scale")].astype(np.float64) - 1).astype(dtype) if "norm" in n else a[n]
        assert c[n].tobytes() == back.tobytes(), n


def test_what_both_sides_store_adjusted_alike_keeps_its_bits(toy: None, tmp_path: Path) -> None:
    a = make(tmp_path / "a", ml_dtypes.bfloat16)
    ckptkit.convert(tmp_path / "a", tmp_path / "same", to="apart")
    same = load_file(tmp_path / "same" / "model.safetensors")
    assert all(same[n].tobytes() == a[n].tobytes() for n in a)


def test_the_digest_is_of_the_value_that_a_model_computes_with(toy: None, tmp_path: Path) -> None:
    make(tmp_path / "a")
    ckptkit.convert(tmp_path / "a", tmp_path / "b", to="joined")
    assert ckptkit.digest(tmp_path / "a").whole == ckptkit.digest(tmp_path / "b").whole


def test_an_adjustment_says_whether_it_is_lossless() -> None:
    assert not LESS_ONE.lossless and Adjust(-0.5).lossless and not Adjust(3.0).lossless and Adjust().lossless
    x = LESS_ONE.then(Adjust(2.0, 1.0))
    assert x == Adjust(2.0, 3.0) and x.then(x.inverse()) == Adjust() and LESS_ONE.then(LESS_ONE.inverse()) == Adjust()


@pytest.mark.parametrize(("ffn", "wrong"), [(list(WIDTHS), ""), ([5, 4], "4"), (5, "5"), ([5, "x"], "config")])
def test_sizes_by_layer_are_held_against_the_configurations_list(ffn: object, wrong: str, toy: None, tmp_path: Path) -> None:
    make(tmp_path / "a", ffn=ffn)
    report = ckptkit.validate(tmp_path / "a")
    sizes = report.subject.graph.solution.sizes
    assert sizes.by_place() == {"intermediate": WIDTHS}
    errors = [f for f in report.findings if f.severity == "error"]
    if not wrong:
        assert not errors and report.subject.value("intermediate") == WIDTHS
    elif wrong == "config":
        assert [f.rule for f in errors] == ["config"]
    else:
        assert [f.rule for f in errors] == ["size"] and f"ffn {wrong} for layer 1; the weights hold intermediate 3" in errors[0].message


def test_a_tensor_of_another_width_than_its_layer_is_a_mismatch(toy: None, tmp_path: Path) -> None:
    a = make(tmp_path / "a")
    a["layers.1.up.weight"] = np.zeros((7, 4), np.float32)
    save_file(a, tmp_path / "a" / "model.safetensors")
    errors = [f for f in ckptkit.validate(tmp_path / "a").findings if f.rule == "shape"]
    assert len(errors) == 1 and ("layers.1.up.weight" in errors[0].where or "layers.1.gate.weight" in errors[0].where)


BITNET = '''"""BitNet: Llama with a norm before each part's last layer, and squared ReLU. Source: transformers models/bitnet."""

from ckptkit.arch._libraries.decoders import WORDS, D, H, attention, decoder, flags, gated, hf, last
from ckptkit.schema import norm

MODULES = {
    **WORDS,
    **attention(bias="attention_bias", out_bias="attention_bias"),
    D + "attention.sub_norm": norm("hidden", bias=False),
    **gated(),
    D + "ffn.sub_norm": norm("intermediate", bias=False),
    **last(),
}
HF = hf(
    "bitnet", "BitNet", MODULES, keys=flags("attention_bias"),
    names={D + "attention.sub_norm": H + "self_attn.attn_sub_norm", D + "ffn.sub_norm": H + "mlp.ffn_sub_norm"},
    defaults={"activation": "relu2", "norm_eps": 1e-5, "attention_bias": False},
)

ARCHITECTURE = decoder("bitnet", "BitNet", MODULES, HF, variants={"bitnet-2b": {"layers": 30, "hidden": 2560, "heads": 20}})
'''


def test_a_family_of_llamas_kind_is_one_short_file(tmp_path: Path) -> None:
    import torch
    import transformers

    assert len(BITNET.splitlines()) < 60
    (tmp_path / "arch").mkdir()
    (tmp_path / "arch" / "bitnet.py").write_text(BITNET)
    torch.manual_seed(0)
    settings = {"hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = transformers.AutoConfig.for_model("bitnet", vocab_size=97, pad_token_id=0, bos_token_id=1, eos_token_id=2, **settings)
    made = transformers.AutoModelForCausalLM.from_config(config)
    made.save_pretrained(tmp_path / "m")

    def run(*args: object) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "CKPTKIT_ARCH": str(tmp_path / "arch")}
        return subprocess.run([sys.executable, "-m", "ckptkit", *map(str, args)], capture_output=True, text=True, env=env, check=False)

    right = run("validate", tmp_path / "m")
    assert right.returncode == 0, right.stdout + right.stderr
    assert "BitNet" in run("inspect", tmp_path / "m").stdout
    done = run("convert", tmp_path / "m", tmp_path / "t", "--to", "hf", "--container", "torch")
    assert done.returncode == 0, done.stderr
    again, said = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "t", output_loading_info=True)
    assert not said["missing_keys"] and not said["unexpected_keys"]
    for (n, x), y in zip(made.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(x, y), n
    raw = json.loads((tmp_path / "m" / "config.json").read_text())
    (tmp_path / "m" / "config.json").write_text(json.dumps({**raw, "num_hidden_layers": 2}))
    wrong = run("validate", tmp_path / "m")
    assert wrong.returncode == 1 and "2 layers" in wrong.stdout and "weights hold 3" in wrong.stdout
