"""What an architecture says of itself: what a configuration must say, what a head has of its own, which model a configuration is of."""

from __future__ import annotations

from pathlib import Path

import oracles
import pytest

from ckptkit.arch import architectures
from ckptkit.configuration.write import write_config
from ckptkit.errors import UndecidedError, UsageError
from ckptkit.runtime.build import _from_config
from ckptkit.schema import Architecture
from ckptkit.schema.layout import LayoutError
from ckptkit.schema.traits import traits_of

BERT = architectures()["bert"]
SIZES: dict[str, object] = {
    "vocab": 99, "hidden": 32, "layers": 2, "heads": 4, "intermediate": 64, "positions": 40, "segments": 2, "activation": "gelu",
    "norm_eps": 1e-12,
}  # fmt: skip


def variant(**traits: object) -> Architecture:
    dialects = tuple(BERT.dialects.values())
    return Architecture(name="bert", title="BERT", modules=BERT.modules, dialects=dialects, traits={**BERT.traits, **traits})


@pytest.mark.parametrize("missing", ["heads", "activation", "norm_eps"])
def test_what_changes_outputs_is_asked_for_unless_the_architecture_says_it(missing: str) -> None:
    values = {k: v for k, v in SIZES.items() if k != missing}
    with pytest.raises(UndecidedError, match=f"say {missing}"):
        write_config(values, {}, BERT, BERT.dialects["hf"], frozenset({"core"}))


def test_a_trait_that_no_configuration_says_is_not_asked_for() -> None:
    own = variant(activation="gelu", norm_eps=1e-5)
    assert own.required == {"heads"}
    values = {k: v for k, v in SIZES.items() if k != "activation"}
    written = write_config(values, {}, own, own.dialects["hf"], frozenset({"core"}))
    assert written.raw["hidden_act"] == "gelu"  # the form's own default, which is not asked for any more


def test_a_value_of_a_head_belongs_to_the_head_that_the_architecture_names() -> None:
    target = BERT.dialects["keras_hub"]  # whose masked-word head has an epsilon of its own, 1e-5
    said = write_config({**SIZES, "activation": "gelu_tanh"}, {}, BERT, target, frozenset({"core", "pooler", "mlm"}))
    assert [f.where for f in said.findings if f.rule == "config"] == ["mlm_activation", "mlm_norm_eps"]
    without = write_config({**SIZES, "activation": "gelu_tanh"}, {}, BERT, target, frozenset({"core", "pooler"}))
    assert [f.where for f in without.findings if f.rule == "config"] == []
    other = variant(own={"nsp": {"norm_eps": "=nsp_eps"}})
    assert other.head_values == {"nsp_eps": ("nsp", "norm_eps")}
    with pytest.raises(LayoutError, match="'nope' is no head"):
        traits_of(variant(own={"nope": {"norm_eps": "=x"}}))


@pytest.mark.parametrize(
    ("file", "model"),
    [
        ("bert_tf/bert_config.json", "bert"), ("albert_tf/albert_config.json", "albert"), ("nezha_tf/bert_config.json", "nezha"),
        ("gpt2_tf/hparams.json", "gpt2"), ("hf_bert/safetensors/config.json", "bert"),
    ],
)  # fmt: skip
def test_a_configuration_that_names_no_model_is_of_the_one_whose_keys_it_has(file: str, model: str) -> None:
    golden, _, name = file.rpartition("/")
    folder, _, below = golden.partition("/")
    assert _from_config(str(oracles.golden(folder) / below / name), None)[0].name == model


def test_a_file_that_says_nothing_of_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"max_len": 512}')
    with pytest.raises(UsageError, match="no known model has such a configuration"):
        _from_config(str(tmp_path / "config.json"), None)
