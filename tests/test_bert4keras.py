"""What bert4keras' own models are, beyond the shapes that Google's have: configurations that say little, models that transformers cannot
hold."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import builder
import oracles
import pytest

import ckptkit
from ckptkit.arch import architectures
from ckptkit.errors import FindingsError


def nezha(folder: Path, *, table: bool = True) -> Path:
    """bert4keras' NEZHA with a configuration that does not say so, which its library does not need; a RoFormer without the table."""
    import h5py

    folder.mkdir()
    source = oracles.made("namings") / "bert4keras_nezha"
    said = json.loads((source / "config.json").read_text())
    del said["use_relative_position"]
    (folder / "config.json").write_text(json.dumps(said))
    shutil.copy(source / "keras_weights.h5", folder)
    if not table:
        with h5py.File(folder / "keras_weights.h5", "r+") as f:
            del f["Embedding-Relative-Position"]
            f.attrs["layer_names"] = [n for n in f.attrs["layer_names"] if n != b"Embedding-Relative-Position"]
    return folder


def test_a_table_of_relative_positions_says_that_it_is_nezha_where_the_configuration_does_not(tmp_path: Path) -> None:
    report = ckptkit.validate(nezha(tmp_path / "a"))
    assert report.exit_code == 0 and [f for f in report.findings if f.severity != "info"] == []
    ckptkit.convert(tmp_path / "a", tmp_path / "hf", to="hf")
    assert ckptkit.diff(tmp_path / "a", tmp_path / "hf").exit_code == 0


def test_without_the_table_it_is_another_model(tmp_path: Path) -> None:
    """A RoFormer's layers are called as BERT's and NEZHA's are, but it has no positions at all: taken for it, and the others are named."""
    report = ckptkit.validate(nezha(tmp_path / "a", table=False))
    assert report.subject.architecture is not None and report.subject.architecture.name == "roformer"
    (found,) = [f for f in report.findings if f.rule == "cousins"]
    assert "nezha and bert" in found.message and "taken for RoFormer" in found.message and found.basis == "undecided"


@pytest.mark.parametrize("container", ["hdf5", "tf"])
def test_an_unshared_albert_is_one_of_as_many_groups_as_layers(container: str, tmp_path: Path) -> None:
    """bert4keras' model `albert_unshared`: layers called as BERT's, embeddings of ALBERT's width."""
    source = oracles.made("namings") / "bert4keras_unshared"
    report = ckptkit.validate(source)
    assert report.exit_code == 0 and [f for f in report.findings if f.severity != "info"] == []
    ckptkit.convert(source, tmp_path / "hf", to="hf")
    tokens, segments = (v.astype("int64") for v in oracles.read_npz(source / "inputs.npz").values())
    want = oracles.read_npz(source / "outputs.npz")
    have = oracles.hf_outputs(
        tmp_path / "hf",
        {"input_ids": tokens, "token_type_ids": segments, "attention_mask": (tokens > 0).astype("int64")},
        "AlbertForPreTraining",
    )
    assert oracles.largest_difference(have["prediction_logits"], want["mlm_logits"], tokens > 0) < 1e-5
    ckptkit.convert(tmp_path / "hf", tmp_path / "back", to="bert4keras_unshared", container=container)
    assert ckptkit.diff(source, tmp_path / "back").exit_code == 0 and ckptkit.verify(source, tmp_path / "back").exit_code == 0
    if container == "hdf5":
        import h5py

        with h5py.File(source / "keras_weights.h5") as a, h5py.File(tmp_path / "back" / "model.h5") as b:
            held: list[str] = []
            a.visititems(lambda n, o: held.append(n) if isinstance(o, h5py.Dataset) else None)
            assert held and all(a[n][()].tobytes() == b[n][()].tobytes() for n in held)


def test_electra_goes_to_bert4keras_checkpoint_and_to_its_layers(tmp_path: Path) -> None:
    source = oracles.golden("electra_tf")
    ckptkit.convert(source, tmp_path / "hf", to="hf")
    tf = ckptkit.convert(tmp_path / "hf", tmp_path / "tf", to="bert4keras")
    assert tf.ledger["target"]["container"] == "tf"  # type: ignore[index]
    given, back = (
        oracles.tf_variables(next(source.glob("*.index")).with_suffix("")),
        oracles.tf_variables(tmp_path / "tf" / "electra_model.ckpt"),
    )
    held = {n for n in given if n.startswith(("electra/", "discriminator_predictions/")) and "adam" not in n}
    assert back.keys() == held and all(given[n].tobytes() == back[n].tobytes() for n in held)
    assert json.loads((tmp_path / "tf" / "bert_config.json").read_text())["hidden_act"] == "gelu"  # erf, in bert4keras as in ELECTRA
    assert [f for f in ckptkit.validate(tmp_path / "tf").findings if f.severity != "info"] == []
    ckptkit.convert(tmp_path / "tf", tmp_path / "h5", to="bert4keras", container="hdf5")
    assert ckptkit.diff(source, tmp_path / "h5").exit_code == 0


@pytest.mark.parametrize(("inner", "fits"), [(4, True), (3, False)])
def test_a_gpt_whose_feed_forward_is_not_four_times_its_width_is_none_of_transformers(tmp_path: Path, inner: int, fits: bool) -> None:
    arch = architectures()["openai-gpt"]
    sizes, counts = builder.sizes_of(arch, random.Random(3), layers=2)
    sizes["intermediate"] = inner * sizes["hidden"]
    builder.make(tmp_path / "a", arch, arch.dialects["bert4keras"], sizes, counts, frozenset(), container="tf")
    if not fits:
        with pytest.raises(ckptkit.CheckpointError, match=f"always has intermediate {4 * sizes['hidden']}"):
            ckptkit.convert(tmp_path / "a", tmp_path / "hf", to="hf")
        return
    ckptkit.convert(tmp_path / "a", tmp_path / "hf", to="hf")
    oracles.hf_load(tmp_path / "hf", "OpenAIGPTLMHeadModel", allow=("lm_head.weight",))
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["layer_norm_epsilon"] == 1e-12  # models.py: BERT's layers


def test_what_nothing_says_is_asked_for_with_the_word_that_fits_the_weights_own_code(tmp_path: Path) -> None:
    """Google's and bert4keras' "gelu" is the tanh approximation: who follows the hint has the model that was trained."""
    for file in oracles.golden("bert_tf").glob("bert_model.ckpt.*"):
        shutil.copy(file, tmp_path)
    with pytest.raises(ckptkit.CheckpointError) as asked:
        ckptkit.convert(tmp_path / "bert_model.ckpt", tmp_path / "hf", to="hf")
    assert "--set activation=gelu_tanh" in asked.value.hint


def test_a_variable_that_is_there_twice_under_tensorflow_s_number_is_an_error(tmp_path: Path) -> None:
    """What saving an unshared ALBERT under the names of a shared one leaves (bert4keras does): one of its layers, and the others as
    kernel_1, kernel_2."""
    import tensorflow as tf

    source = oracles.golden("bert_tf")
    held = oracles.tf_variables(source / "bert_model.ckpt")
    held |= {f"{n}_1": a for n, a in held.items() if n.startswith("bert/encoder/layer_0/output/dense/")} | {
        "mine/dense_1": held["bert/pooler/dense/bias"]
    }
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "bert_model.ckpt"), tensor_names=[*held], shape_and_slices=[""] * len(held), tensors=[*held.values()]
    )
    shutil.copy(source / "bert_config.json", tmp_path)
    found = [(f.severity, f.rule, f.message) for f in ckptkit.validate(tmp_path).findings if f.severity != "info"]
    assert [f[:2] for f in found] == [("error", "duplicate"), ("warning", "unexpected"), ("warning", "twin")]
    at = "bert/encoder/layer_0/output/dense"
    assert (
        f"2 variables are there a second time under a number that TensorFlow gave: {at}/bias_1, {at}/kernel_1 "
        f"beside {at}/bias, {at}/kernel;"
    ) in found[0][2]
    assert "mine/dense_1" in found[1][2]
    assert found[2][2].startswith(f"{at}/kernel_1 holds the same numbers as {at}/kernel")  # they are copies here
    with pytest.raises(FindingsError, match="2 errors") as refused:  # and what would be left out is floating
        ckptkit.convert(tmp_path, tmp_path / "hf", to="hf")
    errors = [f for f in refused.value.findings if isinstance(f, ckptkit.Finding) and f.severity == "error"]
    assert [f.rule for f in errors] == ["duplicate", "dropped"]
    assert errors[1].where == f"{at}/bias_1, {at}/kernel_1, mine/dense_1"


def test_a_tied_head_of_t5_1_1_is_there_as_a_tensor_of_its_own_for_bert4keras(tmp_path: Path) -> None:
    """Its model of 1.1 reads `decoder/logits/kernel` whether the model ties or not; that of 1.0 has none."""
    from safetensors.numpy import load_file, save_file

    source, lean = oracles.golden("hf430_t5_v11") / "safetensors", tmp_path / "lean"
    lean.mkdir()
    save_file({n: a for n, a in load_file(source / "model.safetensors").items() if n != "lm_head.weight"}, lean / "model.safetensors")
    (lean / "config.json").write_text(json.dumps(json.loads((source / "config.json").read_text()) | {"tie_word_embeddings": True}))
    ckptkit.convert(lean, tmp_path / "tf", to="bert4keras")
    held = oracles.tf_variables(tmp_path / "tf" / "model.ckpt")
    assert held["decoder/logits/kernel"].tobytes() == held["shared/embedding"].T.tobytes()
    assert json.loads((tmp_path / "tf" / "config.json").read_text())["cross_position_bias"] is False
    ckptkit.convert(lean, tmp_path / "h5", to="bert4keras", container="hdf5")
    import h5py

    with h5py.File(tmp_path / "h5" / "model.h5") as f:
        assert "Decoder-Output-LM" in [n.decode() for n in f.attrs["layer_names"]]
    for back in ("tf", "h5"):
        assert ckptkit.diff(lean, tmp_path / back).exit_code == 0
    ckptkit.convert(oracles.golden("t5_orig_v10"), tmp_path / "v10", to="bert4keras")
    assert "decoder/logits/kernel" not in oracles.tf_variables(tmp_path / "v10" / "model.ckpt")


def test_what_bert4keras_t5_computes_otherwise_is_said(tmp_path: Path) -> None:
    """Its decoder adds its distances to what it sees of the encoder, unless its configuration says not to, and 1.1's head takes hidden
    states divided by the root of their width."""
    source = tmp_path / "v10"
    source.mkdir()
    for file in oracles.golden("b4k_t5_v10").glob("model.ckpt.*"):
        shutil.copy(file, source)
    shutil.copy(oracles.golden("b4k_t5_v10") / "config_bert4keras.json", source / "config.json")
    told = [f.message for f in ckptkit.convert(source, tmp_path / "hf", to="hf").findings if f.severity == "warning"]
    assert any("always takes cross_bias False; the model has True: outputs differ there" in m for m in told), told
    v11 = oracles.golden("hf430_t5_v11") / "safetensors"
    told = [f.message for f in ckptkit.convert(v11, tmp_path / "b4k", to="bert4keras").findings if f.severity == "warning"]
    assert any("always takes scaled True; the model has False: outputs differ there" in m for m in told), told



@pytest.mark.parametrize("case", ["albert_tf", "nezha_tf"])
@pytest.mark.parametrize("container", ["hdf5", "tf"])
def test_the_epsilon_that_bert4keras_adds_is_said_and_is_the_rebuilt_models(case: str, container: str, tmp_path: Path) -> None:
    """models.py of 0.11.5: the norms of ALBERT's layers and of NEZHA's say none, and have Keras' 1e-7; the MLM head's says 1e-12."""
    source, out = oracles.golden(case), tmp_path / "b4k"
    said = [f for f in ckptkit.convert(source, out, to="bert4keras", container=container).findings if "1e-07" in f.message]
    assert [f.severity for f in said] == ["warning"]
    if container == "tf":
        return
    (config,) = out.glob("*config.json")
    config.write_text(json.dumps({k: v for k, v in json.loads(config.read_text()).items() if k != "ckptkit"}))
    spec = ckptkit.build_transformer_model(None, out, with_mlm=True).spec
    eps = {leaf.path: spec.eps(leaf) for leaf in spec.leaves if leaf.kind == "norm"}
    assert {e for path, e in eps.items() if path.startswith("encoder.")} == {1e-7}
    assert eps["embeddings.norm"] == (1e-12 if case == "albert_tf" else 1e-7)
    assert {e for path, e in eps.items() if path.startswith("mlm.")} <= {1e-12}
    back = ckptkit.convert(out, tmp_path / "hf", to="hf").findings
    assert any("1e-07" in f.message for f in back) and any(f.severity == "warning" and f.rule == "config" for f in back)


@pytest.mark.parametrize("case", ["bert_tf", "electra_tf", "b4k_roformer", "b4k_roformer_v2", "b4k_gpt2"])
def test_of_the_others_nothing_is_said_where_nothing_differs(case: str, tmp_path: Path) -> None:
    found = ckptkit.convert(oracles.golden(case), tmp_path / "b4k", to="bert4keras", container="hdf5").findings
    assert [f.message for f in found if "norm_eps" in f.message] == []


def test_a_width_that_gpt2s_configuration_leaves_out_is_compared_and_what_has_no_effect_is_explained(tmp_path: Path) -> None:
    from ckptkit.graph.account import unexplained_keys

    source = tmp_path / "gpt2"
    shutil.copytree(oracles.golden("hf_gpt2/safetensors"), source)
    said = json.loads((source / "config.json").read_text())
    said |= {"pad_token_id": 0, "eos_token_ids": [3]}
    (source / "config.json").write_text(json.dumps(said))
    with ckptkit.examine(source) as subject:
        assert unexplained_keys(subject) == {}
    with ckptkit.examine(oracles.golden("b4k_gpt2")) as subject:
        assert unexplained_keys(subject) == {}
    ckptkit.convert(source, tmp_path / "b4k", to="bert4keras")
    ckptkit.convert(tmp_path / "b4k", tmp_path / "hf", to="hf")
    assert "n_inner" in json.loads((tmp_path / "hf" / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({k: v for k, v in said.items() if k != "n_inner"}))
    assert ckptkit.diff(source, tmp_path / "hf").exit_code == 0
