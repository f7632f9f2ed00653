"""Every model key of bert4keras, and the encoders of bert4torch by theirs, in the words of their configurations."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import encoders
import numpy as np
import oracles
import pytest
import running

import ckptkit
from ckptkit.errors import FindingsError, UnsupportedError, UsageError
from ckptkit.graph.account import unexplained_keys

# key -> a golden checkpoint that bert4keras opens by it
KEYS = {
    "bert": "bert_tf", "roberta": "bert_tf", "albert": "albert_tf", "albert_unshared": "albert_tf", "nezha": "nezha_tf",
    "roformer": "b4k_roformer", "roformer_v2": "b4k_roformer_v2", "electra": "electra_tf", "gpt2": "b4k_gpt2", "gpt2_ml": "b4k_gpt2_ml",
    "t5": "t5_orig_v10", "t5_encoder": "t5_orig_v10", "t5.1.0": "t5_orig_v10", "t5.1.0_encoder": "t5_orig_v10",
    "t5.1.1": "t5_orig_v11", "t5.1.1_encoder": "t5_orig_v11", "gau_alpha": "gau_alpha_orig",
}  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
def test_a_key_builds_the_model_that_the_checkpoint_is(key: str) -> None:
    path = oracles.golden(KEYS[key])
    built, plain = ckptkit.build_transformer_model(None, path, model=key), ckptkit.build_transformer_model(None, path)
    names = set(plain.state_dict())
    if key.endswith("_encoder"):
        assert set(built.state_dict()) == {n for n in names if not n.startswith(("decoder.", "lm_head"))} < names
        ids = np.array([[5, 6, 7, 1]])
        one = running.run(plain, {"input_ids": ids, "decoder_input_ids": ids})["encoder"]
        assert np.array_equal(running.run(built, {"input_ids": ids})["hidden"], one)
    elif key != "albert_unshared":
        assert set(built.state_dict()) == names


def test_unshared_layers_give_alberts_outputs_and_are_parameters_of_their_own() -> None:
    path = oracles.golden("albert_tf")
    shared, apart = (ckptkit.build_transformer_model(None, path, model=k) for k in ("albert", "albert_unshared"))
    ids = {"input_ids": oracles.golden_inputs("albert_tf")["input_ids"]}
    assert np.array_equal(running.run(shared, ids)["hidden"], running.run(apart, ids)["hidden"])
    layers = [p for n, p in apart.named_parameters() if n.endswith("ffn.output.weight")]
    assert len(layers) == 5 and len({p.data_ptr() for p in layers}) == 5
    in_keras = ckptkit.build_transformer_model(None, path, model="albert_unshared", framework="keras")
    assert np.abs(running.run(in_keras, ids)["hidden"] - running.run(shared, ids)["hidden"]).max() < 1e-5


def test_a_key_of_another_model_and_a_decoder_that_is_not_there_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="no encoder with a decoder"):
        ckptkit.build_transformer_model(None, oracles.golden("bert_tf"), model="bert_decoder")
    with pytest.raises(UsageError, match="not of nezha"):
        ckptkit.build_transformer_model(None, oracles.golden("bert_tf"), model="nezha")


def test_a_key_decides_between_architectures_of_the_same_names(tmp_path: Path) -> None:
    """RoFormer's names are NEZHA's; a BERT is wanted whole."""
    path = oracles.golden("b4k_roformer")
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001"):
        shutil.copy(path / name, bare / name)
    said = {"given": {"heads": 4, "activation": "gelu"}}
    for key in ("nezha", "roformer"):  # without a configuration nothing else says which
        assert ckptkit.build_transformer_model(None, bare, model=key, **said).spec.architecture == key
    assert ckptkit.build_transformer_model(None, path, model="roformer").spec.architecture == "roformer"
    with pytest.raises((FindingsError, UsageError)):
        ckptkit.build_transformer_model(None, path, model="bert")


@pytest.mark.parametrize("application", ["lm", "unilm"])
def test_an_application_hides_what_comes_later(application: str) -> None:
    model = ckptkit.build_transformer_model(None, oracles.golden("b4k_roformer"), model="roformer", application=application)
    ids = np.array([[5, 6, 7, 8, 9, 10]])
    segments = np.array([[0, 0, 1, 1, 1, 1]])
    later = ids.copy()
    later[0, 4] = 33
    one, two = (running.run(model, {"input_ids": x, "token_type_ids": segments})["hidden"] for x in (ids, later))
    assert np.array_equal(one[:, :4], two[:, :4]) and not np.array_equal(one[:, 4:], two[:, 4:])


# key -> (a case of `encoders`, what the library's configuration says besides)
TORCH: dict[str, tuple[str, dict[str, Any]]] = {
    "roformer": ("roformer", {"p_bias": "rotary", "rotary_value": True}),
    "deberta_v2": ("deberta_v2", {}),
    "modernbert": ("modernbert", {}),
    "bert": ("bert", {}),
    "roberta": ("roberta", {"custom_position_ids": "start_at_padding"}),
    "ernie": ("ernie", {"use_task_id": True, "task_type_vocab_size": 3}),
    "electra": ("electra", {}),
}
WORDS = {"max_position_embeddings": "max_position", "type_vocab_size": "segment_vocab_size", "hidden_dropout_prob": "dropout_rate"}


@pytest.mark.parametrize("key", TORCH)
def test_bert4torchs_configuration_builds_what_transformers_configuration_does(key: str, tmp_path: Path) -> None:
    case, more = TORCH[key]
    made = encoders.make(case, tmp_path)
    raw = json.loads((made / "config.json").read_text())
    said = {WORDS.get(k, k): v for k, v in raw.items() if k not in ("model_type", "architectures", "transformers_version", "dtype")}
    said |= {"model": key, "with_mlm": True, "application": "encoder", **more}
    (tmp_path / "b4t").mkdir()
    shutil.copy(made / "model.safetensors", tmp_path / "b4t" / "model.safetensors")
    (tmp_path / "b4t" / "bert4torch_config.json").write_text(json.dumps(said))
    report = ckptkit.validate(tmp_path / "b4t")
    assert report.exit_code == 0 and not unexplained_keys(report.subject), report.findings
    mine = ckptkit.build_transformer_model(tmp_path / "b4t" / "bert4torch_config.json", tmp_path / "b4t", model=key)
    theirs = ckptkit.build_transformer_model(None, made)
    given = encoders.inputs(False)
    one, two = running.run(mine, given), running.run(theirs, given)
    assert np.array_equal(one["hidden"], two["hidden"])


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_its_own_configuration_gives_bert4keras_outputs_and_transformers_gives_the_originals(framework: str) -> None:
    path = oracles.golden("b4k_t5_v10")
    given = oracles.golden_inputs("b4k_t5_v10")
    ids = {"input_ids": given["encoder_ids"], "decoder_input_ids": given["decoder_ids"]}
    ids["attention_mask"] = (given["encoder_ids"] > 0).astype("int64")
    recorded = {"config_bert4keras.json": ("outputs.npz", "decoder_logits"), "config.json": ("hf430_outputs.npz", "logits")}
    for config, (outputs, name) in recorded.items():
        model = ckptkit.build_transformer_model(path / config, path / "model.ckpt", framework=framework)
        assert np.abs(running.run(model, ids)["lm"] - oracles.read_npz(path / outputs)[name]).max() < 1e-5


@pytest.mark.parametrize("framework", ["torch", "keras"])
@pytest.mark.parametrize("key", ["t5", "t5.1.1", "bart", "pegasus", "longt5"])
def test_an_encoder_and_a_decoder_by_themselves_give_what_both_give_together(key: str, framework: str, tmp_path: Path) -> None:
    """A decoder alone takes `encoder_hidden_states` and `encoder_attention_mask`; of BART its tables of positions come along."""
    found = {"t5": "t5_orig_v10", "t5.1.1": "t5_orig_v11"}.get(key)
    path = oracles.golden(found) if found else encoders.make(key, tmp_path)
    options = {"framework": framework, "with_mlm": True}
    whole, decoder = (ckptkit.build_transformer_model(None, path, model=k, **options) for k in (key, f"{key}_decoder"))
    encoder = ckptkit.build_transformer_model(None, path, model=f"{key}_encoder", framework=framework)
    ids, mask = np.array([[5, 6, 7, 9, 10, 1], [7, 8, 9, 1, 1, 1]]), np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])
    written = np.array([[5, 9, 4], [6, 7, 8]])
    both = running.run(whole, {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": written})
    states = running.run(encoder, {"input_ids": ids, "attention_mask": mask})["hidden"]
    alone = running.run(decoder, {"input_ids": written, "encoder_hidden_states": states, "encoder_attention_mask": mask})
    assert np.abs(states - both["encoder"])[mask == 1].max() < 1e-6
    assert np.abs(alone["hidden"] - both["hidden"]).max() < 1e-6 and np.abs(alone["lm"] - both["lm"]).max() < 1e-5
    unseen = running.run(decoder, {"input_ids": written, "encoder_hidden_states": states})  # without a mask all is seen
    assert np.abs(unseen["hidden"][0] - alone["hidden"][0]).max() < 1e-6 < np.abs(unseen["hidden"][1] - alone["hidden"][1]).max()
    if framework == "torch":
        assert {n.partition(".")[0] for n in decoder.state_dict()} == {"embeddings", "decoder", "lm_head"}
        with pytest.raises(UnsupportedError, match="needs encoder_hidden_states"):
            running.run(decoder, {"input_ids": written})
