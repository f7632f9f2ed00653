"""ELECTRA: a generator and a discriminator in one checkpoint, and what the original's settings leave to its code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import oracles
import pytest
from safetensors.numpy import load_file, save_file
from small_berts import TOLERANCE, described, equal, errors, source

import ckptkit

# --- the two parts of ELECTRA --------------------------------------------------------------------------------------


def test_the_other_part_is_named_and_not_left_over() -> None:
    with ckptkit.examine(source("electra_tf")) as both, ckptkit.examine(source("electra_tf"), part="generator") as generator:
        assert len(both.graph.of_role("param")) == 59 and len(both.graph.of_role("part")) == 55 and not both.graph.of_role("unexplained")
        assert (
            len(generator.graph.of_role("param")) == 60
            and len(generator.graph.of_role("part")) == 54
            and not generator.graph.of_role("unexplained")
        )
        assert {generator.graph.roles[n].what for n in generator.graph.of_role("part")} == {"discriminator"}
        assert both.config_name == "electra_config_discriminator.json" and generator.config_name == "electra_config_generator.json"


def test_a_generator_alone_is_recognised_and_a_broken_discriminator_is_not_taken_for_one(tmp_path: Path) -> None:
    ckptkit.convert(source("electra_tf"), tmp_path / "hf", to="hf", part="generator")
    ckptkit.convert(tmp_path / "hf", tmp_path / "g", to="google")
    report = ckptkit.validate(tmp_path / "g")
    assert report.findings == () and described(report.subject)[1] == "google_generator"
    tensors = {
        n: a
        for n, a in oracles.tf_variables(source("electra_tf") / "model.ckpt").items()
        if not n.endswith("output/dense/kernel") or "generator" in n
    }
    (tmp_path / "d").mkdir()
    save_file(tensors, tmp_path / "d" / "model.safetensors")
    found = errors(tmp_path / "d")
    assert [f.rule for f in found] == ["missing"] and "electra/encoder/layer_{0...2}" in found[0].message


def test_a_part_that_is_not_there_is_a_usage_error() -> None:
    with pytest.raises(ckptkit.CheckpointError, match="parts of that naming: discriminator, generator"):
        ckptkit.validate(source("electra_tf"), part="encoder")
    with pytest.raises(ckptkit.CheckpointError, match="leave --part out"):
        ckptkit.validate(source("hf_electra/safetensors"), part="generator")


@pytest.mark.parametrize(("part", "values"), [
    ("discriminator", {"hidden": 32, "layers": 3, "heads": 4, "intermediate": 96, "embedding": 24}),
    ("generator", {"hidden": 16, "layers": 3, "heads": 1, "intermediate": 64, "embedding": 24}),
])  # fmt: skip
@pytest.mark.parametrize("form", ["both", "hyperparameters"])
def test_the_trainings_settings_serve_as_configuration_of_both_parts(tmp_path: Path, part: str, values: dict[str, int], form: str) -> None:
    config = source("electra_tf") / "config_original.json"
    if form == "hyperparameters":  # what the training was told, and no more
        raw = {k: v for k, v in json.loads(config.read_text()).items() if k not in ("discriminator", "generator")}
        config = tmp_path / "hparams.json"
        config.write_text(json.dumps(raw))
    report = ckptkit.validate(source("electra_tf"), part=part, config=str(config))
    assert [f for f in report.findings if f.severity != "info"] == []
    assert report.subject.values is not None
    assert {k: report.subject.values.values[k] for k in values} == values
    ckptkit.convert(source("electra_tf"), tmp_path / "hf", to="hf", part=part, config=str(config))
    written = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert written["num_attention_heads"] == values["heads"] and written["hidden_act"] == "gelu"


@pytest.mark.parametrize(("size", "part", "want"), [
    ("small", "generator", (64, 12, 256, 1, 128)), ("base", "discriminator", (768, 12, 3072, 12, 768)),
    ("large", "generator", (256, 24, 1024, 4, 1024)),
])  # fmt: skip
def test_sizes_by_name_are_those_of_the_original_code(size: str, part: str, want: tuple[int, ...]) -> None:
    from ckptkit.arch.electra import read_hyperparameters

    raw = read_hyperparameters({"model_size": size}, part)
    assert raw is not None
    assert tuple(raw[k] for k in ("hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads", "embedding_size")) == want


def test_a_generators_heads_follow_from_its_width_where_nothing_says_them(tmp_path: Path) -> None:
    shutil.copytree(source("electra_tf"), tmp_path / "m")
    for config in (tmp_path / "m").glob("*config*.json"):
        config.unlink()
    with pytest.raises(ckptkit.CheckpointError, match="say heads, activation"):
        ckptkit.convert(tmp_path / "m", tmp_path / "d", to="hf", given={})
    ckptkit.convert(tmp_path / "m", tmp_path / "g", to="hf", part="generator", given={"activation": "gelu"})
    assert json.loads((tmp_path / "g" / "config.json").read_text())["num_attention_heads"] == 1
    assert max(oracles.compare_outputs("electra_tf/generator", tmp_path / "g").values()) < TOLERANCE


@pytest.mark.parametrize("part", ["discriminator", "generator"])
def test_without_embeddings_project_both_sides_do_without(tmp_path: Path, part: str) -> None:
    rng = np.random.default_rng(1)
    hidden = 32 if part == "discriminator" else 16
    tensors = {
        n: a
        for n, a in oracles.tf_variables(source("electra_tf") / "model.ckpt").items()
        if "embeddings_project" not in n and n != "global_step"
    }
    for name, array in tensors.items():  # as wide as the layers of that part
        if array.shape[-1:] == (24,):
            tensors[name] = rng.standard_normal((*array.shape[:-1], hidden)).astype(np.float32)
        if name == "generator_predictions/LayerNorm/gamma":
            tensors[name] = np.ones(hidden, np.float32)
    other = "generator" if part == "discriminator" else "electra/encoder"
    tensors = {n: a for n, a in tensors.items() if not n.startswith(other)}
    (tmp_path / "m").mkdir()
    save_file(tensors, tmp_path / "m" / "model.safetensors")
    config = json.loads((source("electra_tf") / f"electra_config_{part}.json").read_text())
    (tmp_path / "m" / f"{part}.json").write_text(json.dumps({**config, "embedding_size": hidden}))
    assert errors(tmp_path / "m", part=part) == []
    ckptkit.convert(tmp_path / "m", tmp_path / "hf", to="hf", part=part)
    written = load_file(tmp_path / "hf" / "model.safetensors")
    assert not [n for n in written if "embeddings_project" in n]
    oracles.hf_load(tmp_path / "hf")  # nothing missing, nothing left over
    ckptkit.convert(tmp_path / "hf", tmp_path / "back", to="google", container="safetensors")
    mine = "discriminator_predictions" if part == "discriminator" else "generator_predictions"
    equal(
        dict(load_file(tmp_path / "back" / "model.safetensors")),
        {n: a for n, a in tensors.items() if "_predictions" not in n or n.startswith(mine)},
    )


def test_a_projection_that_is_missing_though_the_widths_differ_is_an_error(tmp_path: Path) -> None:
    for case, name in (
        ("hf_electra/safetensors", "electra.embeddings_project"),
        ("hf_albert/safetensors", "albert.encoder.embedding_hidden_mapping_in"),
    ):
        folder = tmp_path / case.split("/")[0]
        shutil.copytree(source(case), folder)
        save_file(
            {n: a for n, a in load_file(folder / "model.safetensors").items() if not n.startswith(name)}, folder / "model.safetensors"
        )
        found = errors(folder)
        assert [f.rule for f in found] == ["missing"] and name in found[0].message


def test_untied_generator_embeddings_are_the_generators_own(tmp_path: Path) -> None:
    tensors = {n: a for n, a in oracles.tf_variables(source("electra_tf") / "model.ckpt").items() if n != "global_step"}
    own = {n.replace("electra/", "generator/"): a[..., :16].copy() for n, a in tensors.items() if n.startswith("electra/embeddings/")}
    head = {n: a for n, a in tensors.items() if n.startswith("generator_predictions/") and "24" not in str(a.shape)}
    head |= {"generator_predictions/dense/kernel": tensors["generator_predictions/dense/kernel"][:, :16].copy()}
    head |= {
        f"generator_predictions/{n}": tensors[f"generator_predictions/{n}"][:16].copy()
        for n in ("dense/bias", "LayerNorm/gamma", "LayerNorm/beta")
    }
    body = {n: a for n, a in tensors.items() if not n.startswith(("generator_predictions/", "generator/embeddings_project"))}
    (tmp_path / "m").mkdir()
    save_file({**body, **own, **head}, tmp_path / "m" / "model.safetensors")
    config = json.loads((source("electra_tf") / "electra_config_generator.json").read_text())
    (tmp_path / "m" / "generator.json").write_text(json.dumps({**config, "embedding_size": 16}))
    report = ckptkit.validate(tmp_path / "m", part="generator")
    assert report.findings == () and described(report.subject)[1] == "google_generator_untied"
    assert {report.subject.graph.roles[n].kind for n in tensors if n.startswith(("electra/", "discriminator_"))} == {"part"}
    ckptkit.convert(tmp_path / "m", tmp_path / "hf", to="hf", part="generator")
    assert np.array_equal(
        load_file(tmp_path / "hf" / "model.safetensors")["electra.embeddings.word_embeddings.weight"],
        own["generator/embeddings/word_embeddings"],
    )
