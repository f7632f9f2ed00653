"""Families that have no class in transformers, as their authors' own code wrote them (fixtures/authors): recognised, whole, wrong where
they are made wrong, none taken for another, and carried to the class of transformers that computes the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import ckptkit
from ckptkit.errors import UndecidedError, UnsupportedError

ROOT = Path(__file__).parents[2] / "fixtures" / "authors"
FAMILY = {
    "internlm_bias": "internlm", "internlm_plain": "internlm", "internlm2": "internlm2", "internlm2_bias_dynamic": "internlm2",
    "baichuan_rotary": "baichuan", "baichuan_alibi": "baichuan", "baichuan_rotary_normed": "baichuan", "baichuan_alibi_normed": "baichuan",
    "qwen": "qwen", "qwen_stretched": "qwen", "chatglm": "chatglm", "chatglm2": "chatglm2", "chatglm3": "chatglm2",
    "glm4_own": "chatglm2", "minicpm": "minicpm",
}  # fmt: skip
OWN_NAMES = ("baichuan_rotary", "qwen", "chatglm", "chatglm2", "internlm2")  # one for each that shares no names with another family


def copied(case: str, folder: Path, **said: object) -> Path:
    """A case without its outputs; `said`: other settings, None: left out."""
    folder.mkdir()
    shutil.copy(ROOT / case / "model.safetensors", folder)
    raw = {**json.loads((ROOT / case / "config.json").read_text()), **said}
    (folder / "config.json").write_text(json.dumps({k: v for k, v in raw.items() if v is not None or k not in said}))
    return folder


@pytest.mark.parametrize("case", FAMILY)
def test_what_the_authors_code_wrote_is_known_whole_and_wrong_where_it_is_made_wrong(case: str, tmp_path: Path) -> None:
    path = copied(case, tmp_path / "right")
    report = ckptkit.validate(path)
    assert report.subject.architecture is not None and report.subject.architecture.name == FAMILY[case]
    assert report.subject.graph.counts["layers"] == 3 and not report.subject.graph.of_role("unexplained")

    assert report.exit_code == 0, report.findings
    key = "num_layers" if FAMILY[case].startswith("chatglm") else "num_hidden_layers"
    for wrong in (4, 2, 6):
        errors = [
            f.message for f in ckptkit.validate(copied(case, tmp_path / str(wrong), **{key: wrong})).findings if f.severity == "error"
        ]
        assert any(f" {wrong} " in m and " 3 " in m for m in errors), (wrong, errors)
    tensors = load_file(path / "model.safetensors")
    gone = max((n for n in tensors if ".1." in n and tensors[n].ndim == 2), key=lambda n: tensors[n].size)
    save_file({n: v for n, v in tensors.items() if n != gone}, path / "model.safetensors")
    missing = ckptkit.validate(path)
    assert missing.exit_code == 1 and any(gone in f.message for f in missing.findings if f.severity == "error")


@pytest.mark.parametrize("case", OWN_NAMES)
def test_names_of_their_own_tell_a_family_without_a_configuration(case: str, tmp_path: Path) -> None:
    path = copied(case, tmp_path / "bare")
    (path / "config.json").unlink()
    with ckptkit.examine(path) as s:
        assert s.architecture is not None and s.architecture.name == FAMILY[case]


def test_llamas_names_with_biases_are_called_what_the_configuration_calls_them(tmp_path: Path) -> None:
    for model_type, name in (("internlm", "internlm"), ("llama", "llama"), ("minicpm", "minicpm")):
        path = copied("internlm_bias", tmp_path / model_type, model_type=model_type, architectures=None, attention_bias=True)
        with ckptkit.examine(path) as s:
            assert s.architecture is not None and s.architecture.name == name
    path = copied("internlm_bias", tmp_path / "none")
    (path / "config.json").unlink()
    with ckptkit.examine(path) as s:
        assert s.architecture is not None and s.architecture.name == "llama"
        assert any("could also be" in e and "internlm" in e for e in s.graph.recognition.evidence)  # type: ignore[union-attr]


def test_a_configuration_of_both_chatglms_says_one_name_and_the_tensors_which(tmp_path: Path) -> None:
    said = {c: json.loads((ROOT / c / "config.json").read_text())["model_type"] for c in ("chatglm", "chatglm2", "glm4_own")}
    assert set(said.values()) == {"chatglm"}
    for case in said:
        with ckptkit.examine(ROOT / case) as s:
            assert s.architecture is not None and s.architecture.name == FAMILY[case]


# --- as a class of transformers --------------------------------------------------------------------------------------

AS_CLASS = {
    "internlm_bias": "llama", "internlm_plain": "llama", "internlm2": "llama", "internlm2_bias_dynamic": "llama",
    "baichuan_rotary": "llama", "chatglm2": "glm", "chatglm3": "glm", "glm4_own": "glm",
}  # fmt: skip


def by_hand(case: str, own: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """transformers' names and rows for the tensors of a layer, by slices written out: 4 heads of 8, 2 of keys where they are grouped."""
    at = "model.layers.1."
    if FAMILY[case] == "internlm2":
        rows = own[at + "attention.wqkv.weight"].reshape(2, 4, 8, 32)
        return {
            at + "self_attn.q_proj.weight": rows[:, :2].reshape(32, 32), at + "self_attn.k_proj.weight": rows[:, 2].reshape(16, 32),
            at + "self_attn.v_proj.weight": rows[:, 3].reshape(16, 32), at + "mlp.gate_proj.weight": own[at + "feed_forward.w1.weight"],
            at + "mlp.up_proj.weight": own[at + "feed_forward.w3.weight"], "lm_head.weight": own["output.weight"],
        }  # fmt: skip
    if FAMILY[case] == "baichuan":
        rows = own[at + "self_attn.W_pack.weight"]
        return {at + f"self_attn.{n}_proj.weight": rows[32 * i : 32 * (i + 1)] for i, n in enumerate("qkv")}
    if FAMILY[case] == "chatglm2":
        before, rows = "transformer.encoder.layers.1.", own["transformer.encoder.layers.1.self_attention.query_key_value.weight"]
        keys = (len(rows) - 32) // 2
        return {
            at + "self_attn.q_proj.weight": rows[:32], at + "self_attn.k_proj.weight": rows[32 : 32 + keys],
            at + "self_attn.v_proj.weight": rows[32 + keys :], at + "mlp.gate_up_proj.weight": own[before + "mlp.dense_h_to_4h.weight"],
            "lm_head.weight": own["transformer.output_layer.weight"],
        }  # fmt: skip
    return {n: own[n] for n in own if n.startswith(at)}


@pytest.mark.parametrize("case", AS_CLASS)
def test_transformers_runs_what_is_written_as_its_class_to_the_authors_outputs(case: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    import torch

    ckptkit.convert(ROOT / case, tmp_path / "as", to=AS_CLASS[case])
    written, own = load_file(tmp_path / "as" / "model.safetensors"), load_file(ROOT / case / "model.safetensors")
    for name, want in by_hand(case, own).items():
        np.testing.assert_array_equal(written[name], want, name)
    model, info = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "as", output_loading_info=True, dtype=torch.float32)
    assert not any(info.values()), info
    given = dict(np.load(ROOT / case / "inputs.npz"))
    with torch.no_grad():
        logits = model(**{k: torch.from_numpy(v) for k, v in given.items()}).logits.numpy()
    real = given["attention_mask"].astype(bool)
    assert np.abs(logits - np.load(ROOT / case / "outputs.npz")["logits"])[real].max() < 1e-5
    ckptkit.convert(tmp_path / "as", tmp_path / "back", to="hf")
    back = load_file(tmp_path / "back" / "model.safetensors")
    computed = {n for n in own if n.endswith("inv_freq")}
    assert back.keys() == own.keys() - computed and all(back[n].tobytes() == own[n].tobytes() for n in back)
    with ckptkit.examine(tmp_path / "back") as a, ckptkit.examine(ROOT / case) as b:
        assert a.values is not None and b.values is not None
        same = ("heads", "kv_heads", "norm_eps", "rope_theta", "attention_bias", "alibi", "normed_head", "rope_type", "rope_factor", "tied")
        assert {k: a.value(k) for k in same} == {k: b.value(k) for k in same}


@pytest.mark.parametrize(
    ("case", "to", "said"),
    [("baichuan_alibi_normed", "llama", "alibi False only, and the model has True"),
     ("baichuan_rotary_normed", "llama", "normed_head False only, and the model has True")],
)  # fmt: skip
def test_what_a_class_does_not_compute_is_not_written_as_it(case: str, to: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=said):
        ckptkit.convert(ROOT / case, tmp_path / "out", to=to)
    assert not (tmp_path / "out").exists()


def test_which_baichuan_it_is_is_asked_for_where_nothing_says_it(tmp_path: Path) -> None:
    path = copied("baichuan_rotary", tmp_path / "in", architectures=["BaichuanForCausalLM"])
    with pytest.raises(UndecidedError, match="nothing says normed_head"):
        ckptkit.convert(path, tmp_path / "out", to="llama")
    ckptkit.convert(path, tmp_path / "out", to="llama", given={"normed_head": False})
    assert (tmp_path / "out" / "model.safetensors").is_file()


# --- configurations --------------------------------------------------------------------------------------------------


def test_qwens_configuration_counts_gate_and_up_together(tmp_path: Path) -> None:
    path = copied("qwen", tmp_path / "in")
    ckptkit.convert(path, tmp_path / "out", to="hf", container="torch")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["intermediate_size"] == 80
    errors = [f for f in ckptkit.validate(copied("qwen", tmp_path / "wrong", intermediate_size=84)).findings if f.severity == "error"]
    assert any("84" in f.message and "80" in f.message + f.hint for f in errors), errors
    odd = ckptkit.validate(copied("qwen", tmp_path / "odd", intermediate_size=81))
    assert odd.exit_code == 1 and any("multiple of 2" in f.message for f in odd.findings)


def test_internlms_rotary_is_read_in_the_words_of_transformers(tmp_path: Path) -> None:
    path = copied("internlm_bias", tmp_path / "in", rotary={"base": 20000, "type": "dynamic", "scaling_factor": 3.0})
    with ckptkit.examine(path) as s:
        assert (s.value("rope_theta"), s.value("rope_type"), s.value("rope_factor")) == (20000, "dynamic", 3.0)
    path = copied("internlm_bias", tmp_path / "plain", rotary={"base": 20000, "type": "origin"})
    with ckptkit.examine(path) as s:
        assert (s.value("rope_theta"), s.value("rope_type")) == (20000, None)


def test_chatglms_rope_ratio_divides_places_in_its_second_version_and_multiplies_the_base_later(tmp_path: Path) -> None:
    for i, (said, want) in enumerate((
        ({"rope_ratio": 4, "_name_or_path": "THUDM/chatglm2-6b-32k"}, (10000.0, "linear", 4)),
        ({"rope_ratio": 50, "_name_or_path": "THUDM/chatglm3-6b-32k"}, (500000.0, None, None)),
        ({"rope_ratio": 500}, (5e6, None, None)),
    )):  # fmt: skip
        path = copied("chatglm2", tmp_path / str(i), **said)
        with ckptkit.examine(path) as s:
            assert (s.value("rope_theta"), s.value("rope_type"), s.value("rope_factor")) == want
        ckptkit.convert(path, tmp_path / f"glm{i}", to="glm")
        ckptkit.convert(tmp_path / f"glm{i}", tmp_path / f"back{i}", to="hf")
        assert json.loads((tmp_path / f"back{i}" / "config.json").read_text())["rope_ratio"] == said["rope_ratio"]
