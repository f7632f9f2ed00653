"""Models of diffusers and timm by schemas learned from them: components, whole pipelines, architectures. The names and sizes in
data/other_libraries.json are those that the libraries themselves have at tiny configurations."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
from commands import run
from safetensors.numpy import load_file, save_file

import ckptkit
from ckptkit.arch import is_learned, learned_schema
from ckptkit.graph.learned import beyond, environment_of
from ckptkit.schema.learned import expected

MADE: dict[str, Any] = json.loads((oracles.ROOT / "tests" / "data" / "other_libraries.json").read_text(encoding="utf-8"))
FILES = {"unet": "diffusion_pytorch_model.safetensors", "vae": "diffusion_pytorch_model.safetensors"}
INDEX = {
    "_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.42.1", "scheduler": ["diffusers", "DDIMScheduler"],
    "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"], "safety_checker": [None, None],
}  # fmt: skip


def written(folder: Path, key: str, **config: object) -> Path:
    """A component with random weights under the names and sizes that its library gives them."""
    made, rng = MADE[key], np.random.default_rng(3)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {n: np.asarray(rng.standard_normal(s) * 0.02, "<f4") for n, s in made["tensors"].items()}
    save_file(weights, folder / FILES.get(key, "model.safetensors"), {"format": "pt"})
    (folder / "config.json").write_text(json.dumps({**made["config"], **config}))
    return folder


def pipeline(folder: Path) -> Path:
    for name in ("unet", "vae"):
        written(folder / name, name)
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text("{}")
    (folder / "model_index.json").write_text(json.dumps(INDEX))
    return folder


def errors(path: Path) -> list[str]:
    return [f"{f.where}: {f.message}" for f in ckptkit.validate(path).findings if f.severity == "error"]


def undecided(path: Path) -> tuple[int, str]:
    report = ckptkit.validate(path)
    return report.exit_code, " ".join(f.message for f in report.findings if f.rule == "unknown")


def change(folder: Path, **shapes: tuple[int, ...] | None) -> None:
    """Put tensors of other shapes in, or take them out."""
    (path,) = folder.glob("*.safetensors")
    weights = load_file(path)
    for name, shape in shapes.items():
        if shape is None:
            del weights[name]
        else:
            weights[name] = np.full(shape, 0.5, "<f4")
    save_file(weights, path, {"format": "pt"})


# --- diffusers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "name"), [("unet", "UNet2DConditionModel"), ("vae", "AutoencoderKL"), ("transformer", "FluxTransformer2DModel")]
)
def test_a_component_is_known_by_its_class_and_has_no_finding(tmp_path: Path, key: str, name: str) -> None:
    folder = written(tmp_path / key, key)
    report = ckptkit.validate(folder)
    assert (report.exit_code, report.findings) == (0, ()), report.findings
    inspection = ckptkit.inspect(folder)
    assert inspection.architecture == name and inspection.dialect == "hf"
    assert any("diffusers" in line for line in inspection.evidence["architecture"])


@pytest.mark.parametrize(
    ("key", "config", "numbers"),
    [
        ("transformer", {"num_layers": 3}, ("3", "2")),
        ("transformer", {"num_single_layers": 2}, ("2", "3")),
        ("unet", {"layers_per_block": 2}, ("2", "1")),
        ("unet", {"transformer_layers_per_block": [1, 3]}, ("3", "2")),
        ("vae", {"layers_per_block": 2}, ("2", "1")),
    ],
)
def test_a_count_of_layers_that_is_off_is_told_with_both_numbers(
    tmp_path: Path, key: str, config: dict[str, object], numbers: tuple[str, str]
) -> None:
    folder = written(tmp_path / key, key, **config)
    assert ckptkit.validate(folder).exit_code == 1
    assert any(all(n in e for n in numbers) and next(iter(config)) in str(ckptkit.validate(folder).findings) for e in errors(folder))


def test_blocks_that_a_configuration_does_not_say_are_told(tmp_path: Path) -> None:
    kinds = {"down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2}
    found = errors(written(tmp_path / "unet", "unet", **kinds))
    assert any("down_blocks.1.attentions.0" in e for e in found), found
    found = errors(written(tmp_path / "more", "unet", block_out_channels=[32, 64, 64], down_block_types=["DownBlock2D"] * 3,
                           up_block_types=["UpBlock2D"] * 3))  # fmt: skip
    assert any("3" in e and "hold 2" in e for e in found), found


def test_a_tensor_that_is_missing_extra_or_of_another_size_is_named(tmp_path: Path) -> None:
    for i, (name, shape) in enumerate(
        {
            "up_blocks.0.resnets.1.conv1.weight": (64, 95, 3, 3),  # what is joined of two blocks
            "down_blocks.1.attentions.0.transformer_blocks.1.ff.net.2.weight": None,
            "down_blocks.0.resnets.0.adapter.weight": (4, 4),
            "mid_block.resnets.1.norm2.weight": None,
            "down_blocks.1.resnets.0.conv_shortcut.weight": None,
        }.items()
    ):
        folder = written(tmp_path / str(i), "unet")
        change(folder, **{name: shape})
        assert ckptkit.validate(folder).exit_code == 1
        assert any(name in e for e in errors(folder)), (name, errors(folder))


@pytest.mark.parametrize(
    "config",
    [
        {"attention_type": "gated"},
        {"mid_block_type": None},
        {"down_block_types": ["KDownBlock2D", "CrossAttnDownBlock2D"]},
        {"layers_per_block": "two"},
        {"only_cross_attention": [True, False]},
    ],
)
def test_what_no_sample_said_is_undecided(tmp_path: Path, config: dict[str, object]) -> None:
    folder = written(tmp_path / "unet", "unet", **config)
    code, said = undecided(folder)
    assert code == 3 and next(iter(config)) in said, (code, said)
    assert ckptkit.inspect(folder).architecture is None


def test_a_cousin_is_never_the_real_thing(tmp_path: Path) -> None:
    """A class that nobody knows is unknown, though its names be those of a known one; a known one's name on other names is an error."""
    folder = written(tmp_path / "unet", "unet", _class_name="UNet2DNobodysModel")
    assert undecided(folder)[0] == 3 and ckptkit.inspect(folder).architecture is None
    folder = written(tmp_path / "other", "unet", _class_name="FluxTransformer2DModel")
    assert ckptkit.validate(folder).exit_code == 1 or undecided(folder)[0] == 3
    folder = written(tmp_path / "bare", "vae")
    (folder / "config.json").unlink()
    assert ckptkit.inspect(folder).architecture is None


def test_a_whole_pipeline_is_validated_component_by_component(tmp_path: Path) -> None:
    folder = pipeline(tmp_path / "pipe")
    done = run("validate", folder)
    assert done.returncode == 0 and "UNet2DConditionModel" in done.stdout and "AutoencoderKL" in done.stdout
    assert "scheduler" not in done.stdout
    done = run("inspect", folder)
    assert done.returncode == 0 and "UNet2DConditionModel" in done.stdout
    change(folder / "vae", **{"decoder.conv_in.bias": None})
    done = run("validate", folder)
    assert done.returncode == 1 and "decoder.conv_in.bias" in done.stdout


def test_a_component_that_the_pipeline_names_and_does_not_have_is_told(tmp_path: Path) -> None:
    folder = pipeline(tmp_path / "pipe")
    (folder / "unet" / FILES["unet"]).unlink()
    done = run("validate", folder)
    assert done.returncode == 2 and "unet" in done.stdout
    (folder / "unet" / "config.json").unlink()
    (folder / "unet").rmdir()
    done = run("validate", folder)
    assert done.returncode == 2 and "unet" in done.stdout
    done = run("inspect", folder)
    assert done.returncode == 2 and "UNet2DConditionModel" in done.stdout


def test_a_component_of_another_class_than_the_pipeline_names_is_an_error(tmp_path: Path) -> None:
    folder = pipeline(tmp_path / "pipe")
    (folder / "model_index.json").write_text(json.dumps({**INDEX, "vae": ["diffusers", "AsymmetricAutoencoderKL"]}))
    assert any("AsymmetricAutoencoderKL" in e and "AutoencoderKL" in e for e in errors(folder / "vae"))
    assert not errors(folder / "unet")


def test_another_container_keeps_a_components_names_and_configuration(tmp_path: Path) -> None:
    import torch

    folder = written(tmp_path / "vae", "vae")
    ckptkit.convert(folder, tmp_path / "out", to="hf", container="torch")
    (path,) = (tmp_path / "out").glob("*.bin")
    have, want = torch.load(path, weights_only=True), load_file(folder / FILES["vae"])
    assert have.keys() == want.keys() and all((have[n].numpy() == want[n]).all() for n in want)
    assert json.loads((tmp_path / "out/config.json").read_text()) == json.loads((folder / "config.json").read_text())


# --- timm -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
def test_an_architecture_of_timms_is_known_by_its_name(tmp_path: Path, name: str) -> None:
    folder = written(tmp_path / name, name)
    report = ckptkit.validate(folder)
    assert (report.exit_code, report.findings) == (0, ()), report.findings
    assert ckptkit.inspect(folder).architecture == f"timm:{name}"
    folder = written(tmp_path / "more", name, num_classes=11)
    assert any("11" in e and "10" in e for e in errors(folder)), errors(folder)


def test_a_vit_of_timms_that_lacks_a_block_is_told_with_both_numbers(tmp_path: Path) -> None:
    folder = written(tmp_path / "vit", "vit_tiny_patch16_224")
    change(folder, **{n: None for n in MADE["vit_tiny_patch16_224"]["tensors"] if n.startswith("blocks.11.")})
    assert any("has 12 of blocks" in e and "hold 11" in e for e in errors(folder)), errors(folder)


@pytest.mark.parametrize(
    "config",
    [{"model_args": {"embed_dim": 96}}, {"pretrained_cfg": {"global_pool": "map"}}, {"pretrained_cfg": {"input_size": [1, 224, 224]}}],
)
def test_arguments_that_are_none_of_the_architecture_are_undecided(tmp_path: Path, config: dict[str, object]) -> None:
    folder = written(tmp_path / "vit", "vit_tiny_patch16_224", **config)
    assert undecided(folder)[0] == 3 and next(iter(config)) in undecided(folder)[1]


def test_an_architecture_of_timms_that_nobody_knows_is_unknown(tmp_path: Path) -> None:
    folder = written(tmp_path / "x", "resnet18", architecture="resnet18_of_nobody")
    assert not is_learned("timm:resnet18_of_nobody") and undecided(folder)[0] == 3


# --- the libraries themselves -----------------------------------------------------------------------------------------

RELEASED: list[tuple[str, dict[str, Any]]] = json.loads(
    (oracles.ROOT / "tests" / "data" / "released_diffusers.json").read_text(encoding="utf-8")
)
PROGRAM = """
import json, sys, torch
found = []
for name, arguments in json.load(open(sys.argv[1])):
    with torch.device("meta"):
        if name.startswith("timm:"):
            import timm
            model, config = timm.create_model(name[5:], **arguments), arguments
        else:
            import diffusers
            model = getattr(diffusers, name)(**arguments)
            config = json.loads(model.to_json_string())
    found.append([name, config, {n: list(t.shape) for n, t in model.state_dict().items()}])
print(json.dumps(found))
"""


def foretold_wrongly(name: str, config: dict[str, Any], have: dict[str, list[int]]) -> list[str]:
    """What a schema says of a configuration otherwise than the library."""
    schema = learned_schema(name)
    assert not beyond(schema, config), (name, beyond(schema, config))
    cls = next(iter(schema.classes))
    told, unknown = expected(schema.rows, schema.places, environment_of(schema, config, cls), cls)
    said = {n[1:]: e for n, e in told.items()}
    have = {n: s for n, s in have.items() if not n.endswith("num_batches_tracked")}
    wrong = [n for n, e in said.items() if e.required and n not in have] + [n for n in have if n not in said]
    for n, e in said.items():
        shape = have.get(n, list(e.shape))
        if e.row.dims and (len(e.shape) != len(shape) or any(a is not None and a != b for a, b in zip(e.shape, shape, strict=True))):
            wrong.append(n)
    return [*wrong, *(r.pattern for r in unknown)]


def test_released_configurations_have_the_tensors_that_the_schemas_foretell(tmp_path: Path) -> None:
    """None of these was learned from: the libraries build them on the meta device."""
    python = oracles.environment(
        "diffusers-0.42", "diffusers==0.42.1", "timm==1.0.31", "transformers==5.23.0", "torch==2.13.0", "torchvision==0.28.0"
    )
    names = ["resnet50", "vit_base_patch16_224", "convnext_tiny", "swin_tiny_patch4_window7_224", "efficientnet_b0", "regnety_032"]
    asked = [*RELEASED, *((f"timm:{n}", {"num_classes": 13}) for n in names)]
    (tmp_path / "asked.json").write_text(json.dumps(asked))
    for name, config, have in json.loads(oracles.run_in(python, PROGRAM, tmp_path / "asked.json").splitlines()[-1]):
        assert not foretold_wrongly(name, config, have), (name, config, foretold_wrongly(name, config, have)[:6])


def test_the_schemas_of_both_libraries_are_there_and_small() -> None:
    folder = oracles.ROOT / "ckptkit" / "arch" / "learned"
    classes = {p.stem for p in folder.glob("[A-Z]*.json")}
    assert classes >= {name for name, _ in RELEASED} and len(classes) > 50
    assert sum(len(zlib.compress(p.read_bytes())) for p in folder.rglob("*.json")) < 2_000_000  # as a wheel has it
    assert is_learned("timm:resnet50") and not is_learned("resnet50")
