"""Marian's own .npz, put together here of a model of transformers by the map of its script (convert_marian_to_pytorch.py)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import ckptkit
from ckptkit.graph.account import unexplained_keys

# Marian's letters -> transformers' names, of a layer
LAYER = {
    **{f"self_{k}{p}": f"self_attn.{n}.{w}" for p, n in zip("qkvo", ("q_proj", "k_proj", "v_proj", "out_proj"), strict=True)
       for k, w in (("W", "weight"), ("b", "bias"))},
    **{f"context_{k}{p}": f"encoder_attn.{n}.{w}" for p, n in zip("qkvo", ("q_proj", "k_proj", "v_proj", "out_proj"), strict=True)
       for k, w in (("W", "weight"), ("b", "bias"))},
    "self_Wo_ln_scale": "self_attn_layer_norm.weight", "self_Wo_ln_bias": "self_attn_layer_norm.bias",
    "context_Wo_ln_scale": "encoder_attn_layer_norm.weight", "context_Wo_ln_bias": "encoder_attn_layer_norm.bias",
    "ffn_W1": "fc1.weight", "ffn_b1": "fc1.bias", "ffn_W2": "fc2.weight", "ffn_b2": "fc2.bias",
    "ffn_ffn_ln_scale": "final_layer_norm.weight", "ffn_ffn_ln_bias": "final_layer_norm.bias",
}  # fmt: skip
WORDS = 100  # without the row of padding
SETTINGS = {
    "type": "transformer", "dim-vocabs": [WORDS, WORDS], "dim-emb": 24, "enc-depth": 3, "dec-depth": 2, "transformer-heads": 4,
    "transformer-dim-ffn": 44, "transformer-ffn-activation": "swish", "tied-embeddings-all": True, "tied-embeddings": False,
    "tied-embeddings-src": False, "layer-normalization": False, "transformer-postprocess": "dan", "transformer-preprocess": "",
    "transformer-postprocess-emb": "d", "transformer-ffn-depth": 2, "version": "v1.7.6 9fd5ba9", "max-length": 100,
}  # fmt: skip


def row(x: np.ndarray) -> np.ndarray:
    return x[None] if x.ndim == 1 else x


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(transformers' folder, Marian's file) of one model."""
    import torch
    import transformers

    root = tmp_path_factory.mktemp("marian")
    config = transformers.MarianConfig(
        vocab_size=WORDS + 1, decoder_vocab_size=WORDS + 1, d_model=24, encoder_layers=3, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=44, decoder_ffn_dim=44, activation_function="swish", max_position_embeddings=24,
        scale_embedding=True, pad_token_id=WORDS, eos_token_id=0, decoder_start_token_id=WORDS, forced_eos_token_id=0,
    )  # fmt: skip
    torch.manual_seed(1)
    model = transformers.MarianMTModel(config).eval()
    with torch.no_grad():
        for p in (*model.parameters(), model.final_logits_bias):
            p.add_(0.15 * torch.randn(p.shape))
        model.model.shared.weight[WORDS] = 0
        model.final_logits_bias[:, WORDS] = 0
    model.save_pretrained(root / "hf")
    state = {n: x.numpy() for n, x in model.state_dict().items()}
    out = {"Wemb": state["model.shared.weight"][:WORDS], "decoder_ff_logit_out_b": state["final_logits_bias"][:, :WORDS]}
    for stack, count in (("encoder", 3), ("decoder", 2)):
        for i in range(count):
            for mine, theirs in LAYER.items():
                if f"model.{stack}.layers.{i}.{theirs}" in state:
                    out[f"{stack}_l{i + 1}_{mine}"] = np.ascontiguousarray(row(state[f"model.{stack}.layers.{i}.{theirs}"].T))
    text = "".join(f"{k}: {json.dumps(v)}\n" for k, v in SETTINGS.items()) + "\0"
    (root / "marian").mkdir()
    np.savez(root / "marian" / "model.npz", **out, **{"special:model.yml": np.frombuffer(text.encode(), np.int8)})
    return root / "hf", root / "marian" / "model.npz"


def test_the_file_is_known_whole_and_the_same_model(both: tuple[Path, Path]) -> None:
    hf, marian = both
    report = ckptkit.validate(marian)
    found = report.subject.graph.recognition
    assert found is not None and (found.architecture.name, found.dialect.name) == ("marian", "marian")
    assert report.exit_code == 0 and report.findings == (), report.findings
    assert report.subject.graph.counts == {"layers": 3, "decoder_layers": 2}
    assert ckptkit.digest(marian).whole == ckptkit.digest(hf).whole


def test_it_goes_to_transformers_and_back_to_the_bit(both: tuple[Path, Path], tmp_path: Path) -> None:
    import torch
    import transformers

    hf, marian = both
    ckptkit.convert(marian, tmp_path / "hf", to="hf")
    want, got = (load_file(p / "model.safetensors") for p in (hf, tmp_path / "hf"))
    assert want.keys() == got.keys() and all(want[n].tobytes() == got[n].tobytes() for n in want)
    said = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert (said["pad_token_id"], said["decoder_start_token_id"], said["forced_eos_token_id"], said["vocab_size"]) == (WORDS, WORDS, 0, 101)
    models = [transformers.MarianMTModel.from_pretrained(p).eval() for p in (hf, tmp_path / "hf")]
    ids, target = torch.arange(2, 22).reshape(2, 10), torch.tensor([[WORDS, 7, 8], [WORDS, 9, 3]])
    with torch.no_grad():
        one, two = (m(input_ids=ids, decoder_input_ids=target).logits for m in models)
    assert torch.equal(one, two)
    rebuilt = ckptkit.build_transformer_model(None, marian, heads=["lm"])
    with torch.no_grad():
        assert (rebuilt(ids, decoder_input_ids=target)["lm"] - one).abs().max() <= 1e-5
    for source in (hf, marian):
        ckptkit.convert(source, tmp_path / f"from {source.stem}", to="marian")
        there, here = np.load(marian), np.load(tmp_path / f"from {source.stem}" / "model.npz")
        assert set(there.files) == set(here.files)
        assert all(np.array_equal(there[n], here[n]) and there[n].dtype == here[n].dtype for n in there.files if n != "special:model.yml")
        assert ckptkit.validate(tmp_path / f"from {source.stem}").exit_code == 0


@pytest.mark.parametrize(("key", "value", "words"), [("enc-depth", 4, (" 4 ", " 3")), ("dim-vocabs", [99, 99], ("100", "101"))])
def test_wrong_settings_are_told(both: tuple[Path, Path], tmp_path: Path, key: str, value: object, words: tuple[str, str]) -> None:
    arrays = dict(np.load(both[1]))
    text = "".join(f"{k}: {json.dumps(v)}\n" for k, v in {**SETTINGS, key: value}.items()) + "\0"
    np.savez(tmp_path / "model.npz", **{**arrays, "special:model.yml": np.frombuffer(text.encode(), np.int8)})
    report = ckptkit.validate(tmp_path)
    errors = [f.message for f in report.findings if f.severity == "error"]
    assert report.exit_code == 1 and any(all(w in e for w in words) for e in errors), report.findings


def test_an_array_that_is_gone_is_named_and_another_kind_of_layer_is_not_vouched_for(both: tuple[Path, Path], tmp_path: Path) -> None:
    arrays = dict(np.load(both[1]))
    np.savez(tmp_path / "model.npz", **{n: x for n, x in arrays.items() if n != "encoder_l2_ffn_W1"})
    report = ckptkit.validate(tmp_path)
    assert report.exit_code == 1 and any("encoder_l2_ffn_W1" in f.message for f in report.findings)
    text = "".join(f"{k}: {json.dumps(v)}\n" for k, v in {**SETTINGS, "transformer-preprocess": "n"}.items()) + "\0"
    np.savez(tmp_path / "model.npz", **{**arrays, "special:model.yml": np.frombuffer(text.encode(), np.int8)})
    assert unexplained_keys(ckptkit.validate(tmp_path).subject) == {"transformer-preprocess": "n"}
