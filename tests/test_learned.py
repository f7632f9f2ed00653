"""Architectures without a table: schemas learned from transformers, held against models that transformers makes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import learned_models
import pytest

import ckptkit
from ckptkit.arch import architectures, is_learned, learned_index, learned_schema
from ckptkit.schema import learned as language

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "scripts"))


def made(tmp_path: Path, model_type: str, class_name: str) -> Path:
    """A tiny model; the test cannot go on where the library makes none."""
    folder = tmp_path / model_type
    assert learned_models.make(model_type, class_name, folder), f"transformers makes no tiny {class_name}"
    return folder


def errors(path: Path) -> list[str]:
    report = ckptkit.validate(path)
    return [f"{f.where}: {f.message}" for f in report.findings if f.severity == "error"]


def without(folder: Path, *names: str, **more: tuple[int, ...]) -> None:
    """Take tensors out of a folder's file, or put zeros in under other names."""
    import numpy as np
    import safetensors.numpy

    path = folder / "model.safetensors"
    weights = safetensors.numpy.load_file(path)
    for n in names:
        del weights[n]
    weights |= {n: np.zeros(shape, "<f4") for n, shape in more.items()}
    safetensors.numpy.save_file(weights, path, {"format": "pt"})


# --- the language ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2*a*b + c - 1", 2 * 6 * 4 + 5 - 1),
        ("a//b*c", 5),
        ("(a//b)*(a//b) + 1", 2),
        ("(a+3)//4", 2),
        ("l[@0]*2**@0", 8 * 2),
        ("l[@0-1]", 7),
        ("l[-1] + len(l) + sum(l)", 9 + 3 + 24),
        ("part.a", 11),
        ("0 - a + b", -2),
        ("missing + 1", None),
        ("l[7]", None),
        ("a//zero", None),
        ("l[=@0-1]", 7),
        ("l[=@0+7]", 9),
        ("l[~@0]", 8),
        ("l[~@0-1] + l[~@0+1]", 9 + 7),
        ("l[~@0+5]", 7),
    ],
)
def test_an_expression_is_what_arithmetic_makes_of_it(text: str, value: int | None) -> None:
    env = {"a": 6, "b": 4, "c": 5, "l": [7, 8, 9], "part.a": 11, "zero": 0}
    assert language.evaluate(text, env, (1,)) == value


@pytest.mark.parametrize("text", ["", "a +", "(a", "a b", "a ; b", "__import__('os')", "a**", "1 +* 2"])
def test_what_is_no_expression_is_refused(text: str) -> None:
    with pytest.raises((ValueError, IndexError)):
        language.parse_expression(text or "(")


@pytest.mark.parametrize(
    ("when", "value"),
    [
        (True, True),
        (["true", "flag"], True),
        (["not", ["true", "flag"]], False),
        (["true", "unsaid"], None),
        (["is", "nothing", None], True),
        (["is", "kinds[@0]", "moe"], True),
        (["is", "kinds[@1]", "moe"], None),
        (["has", "words", "c2p"], True),
        (["<", "@0", "two"], True),
        (["mod", "@0+1", "two", 0], True),
        (["in", "@0", "layers"], True),
        (["and", ["true", "flag"], ["true", "unsaid"]], None),
        (["or", ["true", "flag"], ["true", "unsaid"]], True),
        (["and", ["not", ["true", "flag"]], ["true", "unsaid"]], False),
    ],
)
def test_a_condition_that_the_configuration_does_not_decide_is_none(when: object, value: bool | None) -> None:
    env = {"flag": True, "nothing": None, "kinds": ["dense", "moe"], "two": 2, "layers": [1, 3], "words": ["c2p", "p2c"]}
    assert language.holds(when, env, (1, 5)) is value


# --- the data --------------------------------------------------------------------------------------------------------


def test_every_file_is_read_and_is_in_the_index() -> None:
    files = sorted(p.stem for p in (ROOT / "ckptkit/arch/learned").glob("*.json") if not p.name.startswith(("_", "why")))
    assert files == sorted(learned_index()["types"]) and len(files) > 500
    for model_type in files:
        schema = learned_schema(model_type)
        assert schema.model_type == model_type and schema.rows and schema.classes
        for row in schema.rows:
            for place in range(row.pattern.count("#")):
                assert language.node_of(row.pattern, place) in schema.places, row.pattern
            for dim in row.dims:
                if isinstance(dim, str):
                    language.parse_expression(dim)


def test_the_data_is_small_and_for_a_schema_one_small_file_is_read() -> None:
    folder = ROOT / "ckptkit/arch/learned"
    assert sum(p.stat().st_size for p in folder.glob("*.json")) < 6_000_000
    script = (
        "import sys; from ckptkit.arch import learned_schema as f; opened = []\n"
        "sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == 'open' else None)\n"
        "f('whisper'); print(*(o for o in opened if o.endswith('.json')), sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    (read,) = map(Path, done.stdout.split())
    assert read.parent.name == "learned" and read.stat().st_size < 100_000


@pytest.mark.parametrize("model_type", ["opt", "whisper", "clip"])
def test_the_data_is_what_the_script_makes(model_type: str) -> None:
    import learn_schemas

    found = learn_schemas.learn_type(model_type, 120)
    assert not found["why"]
    assert learn_schemas.to_text(found["schema"]) == learn_schemas.file_of(model_type).read_text(encoding="utf-8")


def test_no_framework_is_imported_for_a_learned_architecture(tmp_path: Path) -> None:
    folder = made(tmp_path, "opt", "OPTForCausalLM")
    script = (
        "import sys, ckptkit; assert not ckptkit.validate(sys.argv[1], integrity=False).exit_code; "
        "print([m for m in ('numpy', 'torch', 'tensorflow', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


# --- against models that transformers makes ---------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [333, 1, 2])
def test_a_model_that_transformers_saves_has_no_error(tmp_path: Path, seed: int) -> None:
    found = 0
    for model_type, class_name in learned_models.families(seed):
        folder = tmp_path / model_type
        if any(model_type in a.names for a in architectures().values()) or not learned_models.make(model_type, class_name, folder):
            continue
        inspection = ckptkit.inspect(folder)
        assert inspection.architecture == model_type, (model_type, class_name)
        assert not errors(folder), (model_type, class_name, errors(folder))
        found += 1
        if found == 10:
            break
    assert found == 10


def test_a_whisper_whose_decoder_is_short_is_told_with_both_numbers(tmp_path: Path) -> None:
    folder = made(tmp_path, "whisper", "WhisperForConditionalGeneration")
    inspection = ckptkit.inspect(folder)
    assert inspection.counts == {"decoder_layers": 3, "encoder_layers": 3}
    learned_models.change(folder, decoder_layers=5)
    found = errors(folder)
    assert len(found) == 1 and "5 decoder layers" in found[0] and "hold 3" in found[0]


def test_a_clip_with_one_vision_layer_too_few_is_told_by_the_part(tmp_path: Path) -> None:
    folder = made(tmp_path, "clip", "CLIPModel")
    assert not errors(folder)
    learned_models.change(folder, vision_config__num_hidden_layers=4)
    found = errors(folder)
    assert len(found) == 1 and "4 vision layers" in found[0] and "hold 3" in found[0] and "vision_config.num_hidden_layers" in str(
        [f.hint for f in ckptkit.validate(folder).findings]
    )  # fmt: skip
    again = ckptkit.fix(folder, tmp_path / "fixed")
    assert [r.kind for r in again.repairs] == ["config"] and not errors(tmp_path / "fixed")
    assert json.loads((tmp_path / "fixed/config.json").read_text())["vision_config"]["num_hidden_layers"] == 3


def test_a_layer_less_in_the_file_is_told_with_both_numbers(tmp_path: Path) -> None:
    folder = made(tmp_path, "opt", "OPTForCausalLM")
    import safetensors.numpy

    names = safetensors.numpy.load_file(folder / "model.safetensors")
    without(folder, *(n for n in names if ".layers.2." in n))
    found = errors(folder)
    assert any("says 3 layers" in f and "hold 2" in f for f in found), found


def test_a_tensor_that_is_missing_extra_or_of_another_size_is_named(tmp_path: Path) -> None:
    folder = made(tmp_path, "bigbird_pegasus", "BigBirdPegasusForConditionalGeneration")
    without(folder, "model.decoder.layers.1.encoder_attn.k_proj.weight")
    assert any("model.decoder.layers.1.encoder_attn.k_proj.weight" in f for f in errors(folder))
    folder = made(tmp_path / "more", "bigbird_pegasus", "BigBirdPegasusForConditionalGeneration")
    without(folder, **{"model.decoder.layers.1.adapter.weight": (4, 4)})
    assert any("model.decoder.layers.1.adapter.weight" in f for f in errors(folder))
    folder = made(tmp_path / "size", "bigbird_pegasus", "BigBirdPegasusForConditionalGeneration")
    without(folder, "model.encoder.layers.1.fc1.weight", **{"model.encoder.layers.1.fc1.weight": (44, 31)})
    assert any("model.encoder.layers.1.fc1.weight" in f and "31" in f and "32" in f for f in errors(folder))


def test_a_size_that_one_key_says_is_held_beside_one_that_no_key_explains(tmp_path: Path) -> None:
    folder = made(tmp_path, "xlstm", "xLSTMForCausalLM")
    name = "backbone.blocks.1.ffn.proj_down.weight"
    row = next(r for r in learned_schema("xlstm").rows if r.pattern == "~blocks.#.ffn.proj_down.weight")
    assert row.dims == ("hidden_size", None)
    without(folder, name, **{name: (33, 128)})
    assert any(name in f and "33" in f and "32" in f for f in errors(folder)), errors(folder)


def test_the_size_of_a_head_that_the_configuration_does_not_say_is_counted_with(tmp_path: Path) -> None:
    folder = made(tmp_path, "deit", "DeiTForImageClassificationWithTeacher")
    name = "deit.encoder.layer.1.attention.attention.value.weight"
    for wrong in ((32, 33), (33, 32)):
        without(folder, name, **{name: wrong})
        assert any(name in f and "33" in f and "32" in f for f in errors(folder)), errors(folder)
        without(folder, name, **{name: (32, 32)})
    assert not errors(folder)
    learned_models.change(folder, head_dim=7)
    assert any("is 32, where config.json makes it 28" in f and "head_dim 7" in f for f in errors(folder)), errors(folder)


@pytest.mark.parametrize(
    ("model_type", "class_name"),
    [
        ("squeezebert", "SqueezeBertForTokenClassification"),
        ("esmc", "EsmcForMaskedLM"),
        ("beit", "BeitForImageClassification"),
        ("vitpose", "VitPoseForPoseEstimation"),
    ],
)
def test_sizes_that_no_sample_moves_alone_are_learned_from_tiny_configurations(tmp_path: Path, model_type: str, class_name: str) -> None:
    assert not errors(made(tmp_path, model_type, class_name))


def test_a_backbone_with_a_layer_too_few_is_told_by_its_own_key(tmp_path: Path) -> None:
    folder = made(tmp_path, "vitpose", "VitPoseForPoseEstimation")
    learned_models.change(folder, backbone_config__num_hidden_layers=4)
    assert any("4" in f and "hold 3" in f for f in errors(folder)), errors(folder)


def test_a_text_class_on_a_multimodal_layout_is_an_error(tmp_path: Path) -> None:
    folder = made(tmp_path, "qwen2_vl", "Qwen2VLForConditionalGeneration")
    raw = json.loads((folder / "config.json").read_text())
    text = {**raw["text_config"], "architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    (folder / "config.json").write_text(json.dumps(text))
    report = ckptkit.validate(folder)
    assert report.exit_code == 1
    found = [f.message for f in report.findings if f.severity == "error"]
    assert any("tensors" in m and any(c.isdigit() for c in m) for m in found), found


@pytest.mark.parametrize(
    ("model_type", "whole", "text", "stored"),
    [
        ("llava", "LlavaForConditionalGeneration", "LlamaForCausalLM", "language_model.model."),
        ("qwen3_vl", "Qwen3VLForConditionalGeneration", "Qwen3ForCausalLM", "model.language_model."),
    ],
)
def test_a_text_class_that_finds_no_tensor_of_a_multimodal_model_is_an_error_with_both_numbers(
    tmp_path: Path, model_type: str, whole: str, text: str, stored: str
) -> None:
    """transformers is the judge: the class loads none of the text model's tensors, and makes all of them anew."""
    import transformers

    folder = made(tmp_path, model_type, whole)
    assert ckptkit.validate(folder).exit_code == 0
    raw = json.loads((folder / "config.json").read_text())["text_config"]
    kind = {"LlamaForCausalLM": "llama", "Qwen3ForCausalLM": "qwen3"}[text]
    (folder / "config.json").write_text(json.dumps({**raw, "architectures": [text], "model_type": kind}))
    loaded = getattr(transformers, text).from_pretrained(folder, output_loading_info=True)
    model, missing = loaded[0], loaded[1]["missing_keys"]
    assert set(missing) >= {n for n, _ in model.named_parameters() if n != "lm_head.weight"}
    n = sum(name.startswith(stored) or "lm_head" in name for name in ckptkit.open(folder))
    for named in (kind, text):  # by its model_type alone, by the class
        learned_models.change(folder, architectures=None if named == kind else [text])
        report = ckptkit.validate(folder)
        assert report.exit_code == 1
        found = [f for f in report.findings if f.rule == "architecture" and f.severity == "error"]
        assert len(found) == 1 and found[0].where == stored + "*"
        assert f"of {n} tensors of the text model 0 have the names that it loads" in found[0].message and named in found[0].message
    if kind == "llama":  # what the hint says
        ckptkit.convert(folder, tmp_path / "text", to="hf", force=True)
        again = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "text", output_loading_info=True)[1]
        assert not again["missing_keys"] and not again["unexpected_keys"]


def test_another_container_keeps_names_configuration_and_digest(tmp_path: Path) -> None:
    import safetensors.torch
    import torch

    folder = made(tmp_path, "siglip", "SiglipModel")
    ckptkit.convert(folder, tmp_path / "out", to="hf", container="torch")
    want = safetensors.torch.load_file(folder / "model.safetensors")
    have = torch.load(tmp_path / "out/pytorch_model.bin", weights_only=True)
    assert have.keys() == want.keys() and all(torch.equal(have[n], want[n]) for n in want)
    assert (tmp_path / "out/config.json").read_text() == (folder / "config.json").read_text()
    assert ckptkit.digest(folder) == ckptkit.digest(tmp_path / "out")


def test_without_a_configuration_a_model_is_named_where_its_family_alone_fits(tmp_path: Path) -> None:
    folder = made(tmp_path, "whisper", "WhisperForConditionalGeneration")
    (folder / "config.json").unlink()
    assert ckptkit.inspect(folder).architecture in ("whisper", None)


# --- tables and learned schemas ----------------------------------------------------------------------------------------


def test_a_table_and_the_learned_schema_of_one_family_agree() -> None:
    """Where both exist: at a small configuration the table explains each name that the schema foretells, and lacks none."""
    from ckptkit.graph.learned import place, rows_of
    from ckptkit.graph.recognition import Question
    from ckptkit.graph.recognize import recognize

    held = 0
    for arch in architectures().values():
        for model_type in arch.names:
            dialect = arch.dialects.get("hf")
            if not is_learned(model_type) or dialect is None or dialect.config.marks.get("model_type") not in arch.names:
                continue
            schema = learned_schema(model_type)
            if schema.parts:  # of a composite model a table has the text alone
                continue
            for cls in dialect.classes:
                if cls.name not in schema.classes:
                    continue
                env = {**schema.defaults, "*class": cls.name}
                if model_type == "dots1":  # by default it says no number of experts, and has no model
                    env |= {k: 4 for k in env if "experts" in k and env[k] is None}
                env |= {k: 2 for k in env if "layer" in k and isinstance(env[k], int) and env[k] > 2}
                told, unknown = language.expected(rows_of(schema, cls.name), schema.places, env, cls.name)
                assert not unknown, (cls.name, unknown)
                shapes = {
                    place(n, schema.classes[cls.name]): tuple(s or 7 for s in e.shape) for n, e in told.items() if e.required is not None
                }
                found = recognize(shapes, dict, Question(declared=model_type))
                assert found is not None and found.architecture is arch, cls.name
                assert set(shapes) == set(found.matches), (cls.name, sorted(set(shapes) - set(found.matches))[:6])
                open_rows = any(e.required is None for e in told.values())
                assert found.score[2] == 0 or open_rows, cls.name  # no pattern of the core is missing
                held += 1
    assert held >= 12


def test_a_bound_that_binds_nothing_is_no_overflow(tmp_path: Path) -> None:
    """Gemma 4's audio tower clips between buffers that are infinite until they are set; a weight that is infinite stays an error."""
    folder = made(tmp_path, "gemma4_audio", "Gemma4AudioModel")
    assert not errors(folder)
    import numpy as np
    import safetensors.numpy

    path = folder / "model.safetensors"
    weights = safetensors.numpy.load_file(path)
    assert any(np.isinf(w).all() and w.size == 1 for w in weights.values())
    name = next(n for n, w in weights.items() if w.ndim == 2)
    weights[name] = weights[name].copy()
    weights[name][0, 0] = np.inf
    safetensors.numpy.save_file(weights, path, {"format": "pt"})
    assert any(name in f for f in errors(folder))


def test_a_weight_that_the_configuration_makes_empty_is_an_information(tmp_path: Path) -> None:
    folder = made(tmp_path, "dinov3_vit", "DINOv3ViTBackbone")
    found = [f for f in ckptkit.validate(folder).findings if f.rule == "empty"]
    assert [(f.severity, f.where) for f in found] == [("info", "embeddings.register_tokens")]
    learned_models.change(folder, num_register_tokens=4)
    found = [f for f in ckptkit.validate(folder).findings if f.rule == "empty"]
    assert [(f.severity, f.where) for f in found] == [("error", "embeddings.register_tokens")]


def test_a_model_whose_positions_python_counts_out_is_learned_whole(tmp_path: Path) -> None:
    for class_name in ("VideoMAEForPreTraining", "VideoMAEForVideoClassification"):
        folder = made(tmp_path / class_name, "videomae", class_name)
        assert not errors(folder)
        learned_models.change(folder, num_hidden_layers=5)
        assert any("says 5" in e for e in errors(folder)), errors(folder)
