"""The namings of Keras, of transformers' TF and Flax classes and of bert4keras' layers, in files that those libraries wrote.

`fixtures/made/namings` (made by `fixtures/generate_namings.py`) has the libraries' files with their inputs and outputs; transformers
5 is the judge of what ckptkit makes of them, the files themselves of what it makes of that.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import oracles
import pytest

import ckptkit
from ckptkit.schema.library_names import snake_case

Inputs = Callable[[oracles.Arrays], oracles.Arrays]


def hub_encoder(given: oracles.Arrays) -> oracles.Arrays:
    out = {"input_ids": given["token_ids"], "attention_mask": given["padding_mask"]}
    return out | ({"token_type_ids": given["segment_ids"]} if "segment_ids" in given else {})


def hub_t5(given: oracles.Arrays) -> oracles.Arrays:
    return {
        "input_ids": given["encoder_token_ids"], "attention_mask": given["encoder_padding_mask"],
        "decoder_input_ids": given["decoder_token_ids"], "decoder_attention_mask": given["decoder_padding_mask"],
    }  # fmt: skip


def unchanged(given: oracles.Arrays) -> oracles.Arrays:
    return given


HUB = {"sequence_output": "last_hidden_state", "pooled_output": "pooler_output", "out": "last_hidden_state"}
T5 = {"encoder_sequence_output": "encoder_last_hidden_state", "decoder_sequence_output": "last_hidden_state"}
# (folder, architecture, dialect, its inputs for transformers, outputs by transformers' names, the class)
CASES: list[tuple[str, str, str, Inputs, dict[str, str], str | None]] = [
    ("keras_hub_roberta", "roberta", "keras_hub", hub_encoder, HUB, "RobertaModel"),
    ("keras_hub_albert", "albert", "keras_hub", hub_encoder, HUB, "AlbertModel"),
    ("keras_hub_electra", "electra", "keras_hub", hub_encoder, {"sequence_output": "last_hidden_state"}, "ElectraModel"),
    ("keras_hub_t5v11", "t5", "keras_hub", hub_t5, T5, "T5Model"),
    *((f"tf_{n}", n, "hf_tf", unchanged, {}, None) for n in ("bert", "gpt2", "roberta")),
    *((f"flax_{n}", n, "hf_flax", unchanged, {}, None) for n in ("albert", "roberta", "distilbert", "gpt2", "t5", "electra", "bert")),
]
IDS = [c[0] for c in CASES]


def arrays(path: Path) -> oracles.Arrays:
    """The tensors of a file by a reader of the format's own."""
    if path.suffix == ".h5":
        import h5py

        def walk(group: h5py.Group, above: str) -> oracles.Arrays:  # visititems leaves further names of an object out
            found: oracles.Arrays = {}
            for name, item in group.items():
                found |= walk(item, f"{above}{name}/") if isinstance(item, h5py.Group) else {f"{above}{name}": item[()]}
            return found

        with h5py.File(path) as f:
            return walk(f, "")
    with ckptkit.open(path) as c:
        return {n: np.asarray(c.array(n)) for n in c.tensors}


def same_bits(a: oracles.Arrays, b: oracles.Arrays, without: frozenset[str] = frozenset()) -> None:
    assert a.keys() == b.keys()
    different = [n for n in a if n not in without and (a[n].shape != b[n].shape or a[n].tobytes() != b[n].tobytes())]
    assert different == []


def weights(folder: Path) -> Path:
    return next(p for p in sorted(folder.iterdir()) if p.suffix in (".h5", ".msgpack"))


@pytest.mark.parametrize(("name", "architecture", "dialect", "inputs", "outputs", "model_class"), CASES, ids=IDS)
def test_a_library_s_own_file_becomes_a_model_of_the_same_outputs_and_itself_again(
    tmp_path: Path, name: str, architecture: str, dialect: str, inputs: Inputs, outputs: dict[str, str], model_class: str | None
) -> None:
    source = oracles.made("namings") / name
    report = ckptkit.validate(source)
    assert [f for f in report.findings if f.severity == "error"] == []
    graph = report.subject.graph
    assert (graph.architecture.name, graph.dialect.name) == (architecture, dialect)  # type: ignore[union-attr]
    ckptkit.convert(source, tmp_path / "hf", to="hf")
    given, golden = oracles.read_npz(source / "inputs.npz"), oracles.read_npz(source / "outputs.npz")
    allow = (
        {"electra": ("pooler",), "roberta": ("pooler.dense.weight", "pooler.dense.bias")}.get(architecture, ())
        if dialect == "keras_hub"
        else ()
    )
    allow = ("lm_head.weight",) if model_class == "T5Model" else allow  # the backbone alone is compared
    ours = oracles.hf_outputs(tmp_path / "hf", inputs(given), model_class, allow=allow)
    mask = inputs(given)["attention_mask"].astype(bool)
    named = {g: outputs.get(g, g) for g in golden if outputs.get(g, g) in ours and (not outputs or g in outputs)}
    assert named
    for theirs, mine in named.items():
        assert oracles.largest_difference(ours[mine], golden[theirs], mask) < 1e-5, theirs
    ckptkit.convert(tmp_path / "hf", tmp_path / "back", to=dialect)
    # transformers has no pooler for ELECTRA: keras_hub's is newly initialised
    anew = frozenset({"layers/dense_1/vars/0", "layers/dense_1/vars/1"}) if name == "keras_hub_electra" else frozenset()
    same_bits(arrays(weights(source)), arrays(weights(tmp_path / "back")), anew)


@pytest.mark.parametrize("name", ["bert", "nezha", "t511"])
def test_bert4keras_layers_go_through_transformers_names_and_come_back(tmp_path: Path, name: str) -> None:
    source = oracles.made("namings") / f"bert4keras_{name}"
    assert [f for f in ckptkit.validate(source).findings if f.severity in ("error", "warning")] == []
    ckptkit.convert(source, tmp_path / "hf", to="hf")
    ckptkit.convert(tmp_path / "hf", tmp_path / "back", to="bert4keras", container="hdf5")
    made = tmp_path / "back" / "model.h5"
    old, new = arrays(source / "keras_weights.h5"), arrays(made)
    computed = frozenset(n for n in old if "Relative-Position/Embedding" in n)  # NEZHA's sinusoid, which TensorFlow computed
    same_bits(old, new, computed)
    assert all(np.abs(old[n] - new[n]).max() < 1e-5 for n in computed)
    import h5py

    with h5py.File(source / "keras_weights.h5") as a, h5py.File(made) as b:  # Keras loads by this order

        def order(f: h5py.File) -> list[tuple[str, list[str]]]:
            names = [n.decode() for n in f.attrs["layer_names"]]
            return [(n, w) for n in names if (w := [x.decode() for x in f[n].attrs["weight_names"]])]

        assert order(a) == order(b)


def test_bert4keras_layers_have_bert4keras_outputs(tmp_path: Path) -> None:
    source = oracles.made("namings") / "bert4keras_bert"
    ckptkit.convert(source, tmp_path / "hf", to="hf")
    tokens, segments = oracles.read_npz(source / "inputs.npz").values()
    golden = next(a for a in oracles.read_npz(source / "outputs.npz").values() if a.ndim == 3)
    given = {
        "input_ids": tokens.astype(np.int64),
        "token_type_ids": segments.astype(np.int64),
        "attention_mask": (tokens > 0).astype(np.int64),
    }
    ours = oracles.hf_outputs(tmp_path / "hf", given, "BertForPreTraining")["prediction_logits"]
    assert oracles.largest_difference(ours, golden, tokens > 0) < 1e-5


def test_a_preset_has_what_keras_hub_reads(tmp_path: Path) -> None:
    ckptkit.convert(oracles.made("namings") / "flax_albert", tmp_path / "preset", to="keras_hub")
    config = json.loads((tmp_path / "preset" / "config.json").read_text())
    assert (config["class_name"], config["registered_name"]) == ("AlbertBackbone", "keras_hub>AlbertBackbone")
    assert config["config"]["num_inner_repetitions"] == 2 and config["config"]["num_groups"] == 2
    assert (tmp_path / "preset" / "model.weights.h5").exists() and (tmp_path / "preset" / "metadata.json").exists()


def test_to_hf_takes_the_framework_of_the_container(tmp_path: Path) -> None:
    source = oracles.made("namings") / "flax_bert"
    ckptkit.convert(source, tmp_path / "tf", to="hf", container="hdf5")
    ckptkit.convert(source, tmp_path / "pt", to="hf")
    assert "bert/tf_bert_model/bert/pooler/dense/kernel:0" in arrays(tmp_path / "tf" / "tf_model.h5")
    ledger = ckptkit.convert(source, tmp_path / "x", to="hf", dry_run=True).ledger
    assert "pooler.dense.weight" in ledger["target"]["tensors"]  # type: ignore[operator, index]


def test_a_wrong_layer_count_in_a_preset_is_found(tmp_path: Path) -> None:
    source = oracles.made("namings") / "keras_hub_roberta"
    raw = json.loads((source / "config.json").read_text())
    raw["config"]["num_layers"] = 5
    (tmp_path / "config.json").write_text(json.dumps(raw))
    found = [f for f in ckptkit.validate(source, config=tmp_path / "config.json").findings if f.rule == "layers"]
    assert len(found) == 1 and " 5 layers" in found[0].message and " 3 " in found[0].message


# --- shards ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bert", "gpt2", "roberta"])
def test_shards_as_transformers_writes_them_of_its_tf_classes_are_the_whole_file(tmp_path: Path, name: str) -> None:
    """Made with h5py as modeling_tf_utils.py does: the index has a variable's name, a shard the name without the model's own."""
    import h5py

    whole = arrays(oracles.made("namings") / f"tf_{name}" / "tf_model.h5")
    variables = {n.partition("/")[2]: a for n, a in whole.items()}
    files = [f"tf_model-0000{i}-of-00003.h5" for i in (1, 2, 3)]
    weight_map = {v: files[i % 3] for i, v in enumerate(variables)}
    (tmp_path / "s").mkdir()
    for file in files:
        with h5py.File(tmp_path / "s" / file, "w") as f:
            held = sorted(v.partition("/")[2] for v, where in weight_map.items() if where == file)
            for v, a in variables.items():
                if weight_map[v] == file:
                    f.create_dataset(v.partition("/")[2], data=a)
            f.attrs["layer_names"] = [n.encode() for n in held]
    index = {"metadata": {"total_size": sum(a.nbytes for a in variables.values())}, "weight_map": weight_map}
    (tmp_path / "s" / "tf_model.h5.index.json").write_text(json.dumps(index))
    (tmp_path / "s" / "config.json").write_bytes((oracles.made("namings") / f"tf_{name}" / "config.json").read_bytes())
    assert [f for f in ckptkit.validate(tmp_path / "s").findings if f.severity == "error"] == []
    assert ckptkit.diff(tmp_path / "s", oracles.made("namings") / f"tf_{name}").exit_code == 0
    ckptkit.convert(tmp_path / "s", tmp_path / "back", to="hf_tf")
    same_bits(whole, arrays(tmp_path / "back" / "tf_model.h5"))


@pytest.mark.parametrize("name", ["bert", "gpt2", "roberta"])
def test_tf_model_is_cut_into_shards_that_transformers_loads(tmp_path: Path, name: str) -> None:
    source = oracles.made("namings") / f"tf_{name}"
    whole = arrays(source / "tf_model.h5")
    ckptkit.convert(source, tmp_path / "hf", to="hf")
    ckptkit.convert(tmp_path / "hf", tmp_path / "s", to="hf_tf", max_shard_size=2000)
    index = json.loads((tmp_path / "s" / "tf_model.h5.index.json").read_text())
    files = sorted(p.name for p in (tmp_path / "s").glob("*.h5"))
    assert len(files) > 3 and sorted(set(index["weight_map"].values())) == files == [
        f"tf_model-{i + 1:05d}-of-{len(files):05d}.h5" for i in range(len(files))
    ]
    assert index["weight_map"].keys() == {n.partition("/")[2] for n in whole}
    found = {}
    for file in files:
        held = arrays(tmp_path / "s" / file)
        import h5py

        with h5py.File(tmp_path / "s" / file) as f:
            assert sorted(n.decode() if isinstance(n, bytes) else n for n in f.attrs["layer_names"]) == sorted(held)
        found |= {v: held[v.partition("/")[2]] for v, where in index["weight_map"].items() if where == file}
    same_bits({n.partition("/")[2]: a for n, a in whole.items()}, found)
    assert index["metadata"]["total_size"] == sum(a.nbytes for a in found.values())
    ckptkit.convert(tmp_path / "s", tmp_path / "again", to="hf")
    assert ckptkit.diff(tmp_path / "hf", tmp_path / "again").exit_code == 0


@pytest.mark.parametrize("name", ["t5", "gpt2"])
def test_flax_shards_hold_what_the_whole_file_holds(tmp_path: Path, name: str) -> None:
    from flax_files import flat, unpack

    source = oracles.made("namings") / f"flax_{name}"
    ckptkit.convert(source, tmp_path / "s", container="flax", max_shard_size=3000)
    index = json.loads((tmp_path / "s" / "flax_model.msgpack.index.json").read_text())["weight_map"]
    files = sorted((tmp_path / "s").glob("*.msgpack"))
    assert len(files) > 3 and {p.name for p in files} == set(index.values())
    held = {p.name: flat(unpack(p.read_bytes())) for p in files}
    whole = flat(unpack((source / "flax_model.msgpack").read_bytes()))
    same_bits(whole, {n: held[file][n] for n, file in index.items()})


# --- what a library's classes cannot hold ----------------------------------------------------------------------------


def test_stacks_of_unequal_depth_are_refused_where_one_number_says_both_and_builds_the_model(tmp_path: Path) -> None:
    import transformers

    config = transformers.T5Config(vocab_size=20, d_model=8, d_kv=4, d_ff=12, num_layers=2, num_decoder_layers=3, num_heads=2)
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path / "hf")
    with pytest.raises(
        ckptkit.CheckpointError,
        match=r"for layers and decoder_layers; the weights have 2 and 3: no model of its own "
        r"holds them",
    ):
        ckptkit.convert(tmp_path / "hf", tmp_path / "out", to="keras_hub")
    assert not (tmp_path / "out").exists()
    for container in (None, "hdf5"):  # encoder and decoder are two models there, each of the depth that its user says
        done = ckptkit.convert(tmp_path / "hf", tmp_path / f"out-{container}", to="bert4keras", container=container)
        assert any(
            "layers 2 and decoder_layers 3: its own code cannot load these weights" in f.message
            for f in done.findings
            if f.severity == "warning"
        )


def test_a_size_that_a_library_never_has_is_refused_or_said(tmp_path: Path) -> None:
    import transformers

    config = transformers.GPT2Config(vocab_size=20, n_embd=8, n_layer=2, n_head=2, n_positions=10, n_inner=12)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "hf")
    done = ckptkit.convert(tmp_path / "hf", tmp_path / "openai", to="openai")
    assert any("intermediate 32; the model has 12: its own code cannot load" in f.message for f in done.findings if f.severity == "warning")
    config = transformers.T5Config(vocab_size=20, d_model=8, d_kv=4, d_ff=12, num_layers=2, num_heads=2, relative_attention_num_buckets=16)
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path / "t5")
    with pytest.raises(ckptkit.CheckpointError, match="always has buckets 32; the weights have 16"):
        ckptkit.convert(tmp_path / "t5", tmp_path / "out", to="keras_hub")


# --- TF and Flax classes made as such ------------------------------------------------------------------------------------------

CLASSES = [
    "tf_albert_lm",
    "tf_xlm_roberta_causal",
    "tf_bert_choice",
    "tf_electra_lm",
    "flax_bert_untied",
    "flax_gpt2_bare",
    "tf_t5_untied_bare",
    "tf_bert_inside",
]


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_becomes_the_same_class_with_its_outputs_and_its_file_again(tmp_path: Path, name: str) -> None:
    source = oracles.made("namings") / name
    own = json.loads((source / "config.json").read_text())
    report = ckptkit.validate(source)
    said = [(f.severity, f.rule) for f in report.findings if f.severity != "info"]
    assert said == ([("warning", "unexpected")] if name == "tf_bert_inside" else [])
    inside = name == "tf_bert_inside"  # a model that lies in a larger one
    if inside:
        with pytest.raises(ckptkit.CheckpointError, match="1 error"):
            ckptkit.convert(source, tmp_path / "hf", to="hf")
    ckptkit.convert(source, tmp_path / "hf", to="hf", drop=["tags/*"] if inside else [])
    made = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert made["architectures"] == own["architectures"] and made["model_type"] == own["model_type"]
    assert made.get("tie_word_embeddings") is own.get("tie_word_embeddings", True)
    given, golden = oracles.read_npz(source / "inputs.npz"), oracles.read_npz(source / "outputs.npz")
    ours = oracles.hf_outputs(tmp_path / "hf", given)
    mask = given["attention_mask"].astype(bool)
    compared = [k for k in golden if k in ours]
    assert compared and all(
        oracles.largest_difference(ours[k], golden[k], mask if mask.ndim == 2 and golden[k].shape[:2] == mask.shape else None) < 1e-5
        for k in compared
    )
    assert ckptkit.verify(source, tmp_path / "hf").exit_code == (3 if inside else 0)
    ckptkit.convert(tmp_path / "hf", tmp_path / "back", to="hf_flax" if name.startswith("flax") else "hf_tf")
    old, new = arrays(weights(source)), arrays(weights(tmp_path / "back"))
    if name == "tf_bert_inside":  # what comes back is the model itself
        assert {n.partition("/bert/")[2] for n in new} == {n.partition("/bert/")[2] for n in old} - {""}
        return
    idle = frozenset(n for n in old if n.endswith("/predictions/bias:0"))  # TF's ALBERT does not compute with it
    same_bits(old, new, idle)


@pytest.mark.parametrize("name", ["bert", "albert", "t5"])
def test_a_tf_class_in_tensorflow_s_format_is_known_by_its_variables_own_names(tmp_path: Path, name: str) -> None:
    source = oracles.made("namings") / f"tf_checkpoint_{name}"
    found = ckptkit.inspect(source)
    assert (found.container, found.architecture, found.dialect, found.counts["layers"] if name != "albert" else 2) == (
        "tf",
        name,
        "hf_tf",
        2,
    )
    assert [f for f in ckptkit.validate(source).findings if f.severity != "info"] == []
    ckptkit.convert(source, tmp_path / "hf", to="hf")
    own, made = (json.loads((d / "config.json").read_text())["architectures"] for d in (source, tmp_path / "hf"))
    assert own == made
    given, golden = oracles.read_npz(source / "inputs.npz"), oracles.read_npz(source / "outputs.npz")
    ours = oracles.hf_outputs(tmp_path / "hf", given)
    compared = [k for k in golden if k in ours]
    assert compared and all(oracles.largest_difference(ours[k], golden[k], None) < 1e-5 for k in compared)
    assert ckptkit.verify(source, tmp_path / "hf").exit_code == 0


def test_albert_s_idle_bias_is_told_and_both_are_written_in_shards_too(tmp_path: Path) -> None:
    source = oracles.made("namings") / "tf_albert_lm"
    found = [f for f in ckptkit.validate(source).findings if f.rule == "tie"]
    assert (
        [f.severity for f in found] == ["info"]
        and "predictions/decoder/bias:0, which" not in found[0].where
        and ("computes with the latter alone") in found[0].message
    )
    ckptkit.convert(source, tmp_path / "shards", to="hf_tf", max_shard_size=2000)
    with ckptkit.open(tmp_path / "shards") as c:
        held = {n: np.asarray(c.array(n)) for n in c.tensors}
    computed = next(a for n, a in arrays(weights(source)).items() if n.endswith("predictions/decoder/bias:0"))
    assert np.array_equal(held["predictions/decoder/bias:0"], computed) and np.array_equal(held["predictions/bias:0"], computed)


def test_a_pytorch_file_of_a_class_with_a_tied_head_has_the_head_s_name_too(tmp_path: Path) -> None:
    import torch

    for name, held in (("flax_gpt2", True), ("flax_gpt2_bare", False)):  # GPT2LMHeadModel, GPT2Model
        ckptkit.convert(oracles.made("namings") / name, tmp_path / name, to="hf", container="torch")
        state = torch.load(next((tmp_path / name).glob("*.bin")), weights_only=True)
        table = next(v for n, v in state.items() if n.endswith("wte.weight"))
        assert ("lm_head.weight" in state) is held
        assert not held or state["lm_head.weight"].data_ptr() == table.data_ptr()


def test_the_name_of_a_second_model_is_kept_only_for_its_class(tmp_path: Path) -> None:
    source = oracles.made("namings") / "tf_xlm_roberta_causal"
    ckptkit.convert(source, tmp_path / "hf", to="hf")
    path = tmp_path / "hf" / "config.json"
    config = json.loads(path.read_text())
    assert config["ckptkit"]["objects"] == {"hf_tf": {"scope": "tfxlm_roberta_for_causal_lm_1", "class": "XLMRobertaForCausalLM"}}
    for change in (
        {"architectures": ["XLMRobertaForMaskedLM"]},
        {"ckptkit": {"objects": {"hf_tf": {"scope": "../x", "class": "XLMRobertaForCausalLM"}}}},
    ):
        path.write_text(json.dumps({**config, **change}))
        ckptkit.convert(tmp_path / "hf", tmp_path / "back", to="hf_tf", overwrite=True)
        usual = snake_case("TF" + change.get("architectures", config["architectures"])[0])
        assert {n.split("/")[1] for n in arrays(tmp_path / "back" / "tf_model.h5")} == {usual}


@pytest.mark.parametrize(("key", "value", "tensor"), [("add_cross_attention", True, "crossattention.self.query.weight"),
    ("position_embedding_type", "relative_key", "attention.self.distance_embedding.weight")])  # fmt: skip
def test_parts_that_no_naming_has_are_refused_where_the_configuration_says_them(
    tmp_path: Path, key: str, value: object, tensor: str
) -> None:
    from safetensors.numpy import load_file, save_file

    ckptkit.convert(oracles.made("namings") / "flax_bert", tmp_path / "hf", to="hf")
    path = tmp_path / "hf" / "model.safetensors"
    save_file({**load_file(path), f"encoder.layer.0.{tensor}": np.ones((8, 8), np.float32)}, path)
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    (tmp_path / "hf" / "config.json").write_text(json.dumps({**config, key: value}))
    found = [f for f in ckptkit.validate(tmp_path / "hf").findings if f.severity == "error"]
    assert [f.where for f in found] == [key] and tensor in found[0].message
    with pytest.raises(ckptkit.CheckpointError, match="2 errors"):
        ckptkit.convert(tmp_path / "hf", tmp_path / "tf", to="hf_tf")
    ckptkit.convert(tmp_path / "hf", tmp_path / "pt", container="torch", force=True)
