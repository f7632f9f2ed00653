"""Text models inside multimodal checkpoints, made by transformers at test time: as a whole where a schema of it was learned, else by the
text model's own table with its own settings, the other parts named; never fine where they are not understood."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import ckptkit
from ckptkit.errors import FindingsError, UndecidedError, UsageError
from ckptkit.runtime.build import build_transformer_model

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")

TEXT: dict[str, Any] = {
    "vocab_size": 103, "hidden_size": 32, "intermediate_size": 44, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 40, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
SEEN: dict[str, Any] = {
    "hidden_size": 24, "intermediate_size": 36, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 16, "patch_size": 8,
}  # fmt: skip
QWEN: dict[str, Any] = {"depth": 2, "embed_dim": 24, "hidden_size": 32, "num_heads": 4, "patch_size": 8, "mlp_ratio": 2}
MROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
CASES: dict[str, tuple[str, str, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    # model type -> (class, architecture of the text model, text settings, vision settings, others)
    "llava": ("Llava", "llama", {**TEXT, "model_type": "llama"}, {**SEEN, "model_type": "clip_vision_model"}, {"image_token_id": 99}),
    "mistral3": ("Mistral3", "mistral", {**TEXT, "model_type": "mistral", "head_dim": 8}, {**SEEN, "model_type": "pixtral", "head_dim": 6},
                 {"image_token_id": 99}),
    "gemma3": ("Gemma3", "gemma3", {**TEXT, "model_type": "gemma3_text", "head_dim": 8, "sliding_window": 8},
               {**SEEN, "model_type": "siglip_vision_model"}, {"image_token_id": 99, "mm_tokens_per_image": 4}),
    "internvl": ("InternVL", "qwen2", {**TEXT, "model_type": "qwen2"},
                 {**SEEN, "model_type": "internvl_vision", "image_size": [16, 16], "patch_size": [8, 8]}, {"image_token_id": 99}),
    "qwen2_vl": ("Qwen2VL", "qwen2", {**TEXT, "rope_parameters": MROPE}, QWEN, {"image_token_id": 99}),
    "qwen2_5_vl": ("Qwen2_5_VL", "qwen2", {**TEXT, "rope_parameters": MROPE},
                   {"depth": 2, "hidden_size": 24, "intermediate_size": 36, "num_heads": 4, "out_hidden_size": 32, "patch_size": 8},
                   {"image_token_id": 99}),
    "qwen3_vl": ("Qwen3VL", "qwen3", {**TEXT, "head_dim": 8, "rope_parameters": MROPE},
                 {"depth": 2, "hidden_size": 24, "intermediate_size": 36, "num_heads": 4, "out_hidden_size": 32, "patch_size": 8,
                  "num_position_embeddings": 16, "deepstack_visual_indexes": [0]}, {"image_token_id": 99}),
    "glm4v": ("Glm4v", "glm4", {**TEXT, "rope_parameters": {**MROPE, "mrope_section": [1, 1, 0], "partial_rotary_factor": 0.5}},
              {"depth": 2, "hidden_size": 24, "intermediate_size": 36, "num_heads": 4, "out_hidden_size": 32, "image_size": 16,
               "patch_size": 8}, {"image_token_id": 99, "video_token_id": 98}),
    "llama4": ("Llama4", "llama4", {**TEXT, "head_dim": 8, "intermediate_size_mlp": 40, "num_local_experts": 4, "attention_chunk_size": 16},
               {**SEEN, "vision_output_dim": 20, "projector_input_dim": 28, "projector_output_dim": 20}, {"image_token_index": 99}),
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every case as transformers saves it."""
    out = {}
    for model_type, (stem, _, text, seen, besides) in CASES.items():
        torch.manual_seed(len(model_type))
        config = transformers.AutoConfig.for_model(model_type, text_config=text, vision_config=seen, **besides)
        model = getattr(transformers, f"{stem}ForConditionalGeneration")(config).eval()
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn_like(p) * 0.1)
        out[model_type] = tmp_path_factory.mktemp("multimodal") / model_type
        model.save_pretrained(out[model_type])
    return out


def changed(source: Path, folder: Path, place: str = "", value: object = None) -> Path:
    """A copy whose configuration says something else at a place ("text_config.num_hidden_layers")."""
    folder.mkdir()
    (folder / "model.safetensors").symlink_to(source / "model.safetensors")
    raw = copy.deepcopy(json.loads((source / "config.json").read_text()))
    at, words = raw, place.split(".")
    for word in words[:-1]:
        at = at[word]
    at[words[-1]] = value
    (folder / "config.json").write_text(json.dumps(raw))
    return folder


def layer_keys(path: Path) -> list[tuple[str, int]]:
    raw = json.loads((path / "config.json").read_text())
    words = ("num_hidden_layers", "depth")
    return [(f"{p}_config.{w}", raw[f"{p}_config"][w]) for p in ("text", "vision") for w in words if w in raw[f"{p}_config"]]


@pytest.mark.parametrize("model_type", CASES)
@pytest.mark.parametrize("known", [True, False])
def test_layers_of_either_part_are_held_against_its_own_settings(
    model_type: str, known: bool, made: dict[str, Path], tmp_path: Path
) -> None:
    """Of a type that nobody knows too, whose text model is one that is known."""
    path = made[model_type] if known else changed(made[model_type], tmp_path / "strange", "model_type", "never_heard_of_vl")
    report = ckptkit.validate(path)
    assert not [f for f in report.findings if f.severity == "error"] and report.exit_code in ((0, 3) if known else (3,))
    keys = layer_keys(path)
    assert len(keys) == 2
    for key, n in keys:
        for wrong in (n + 1, n - 1, 2 * n):
            found = ckptkit.validate(changed(path, tmp_path / f"{key}{wrong}", key, wrong))
            errors = [f.message for f in found.findings if f.severity == "error"]
            assert found.exit_code == 1 and any(f" {wrong}" in m and f" {n}" in m for m in errors), (key, wrong, errors)


@pytest.mark.parametrize("model_type", CASES)
def test_the_text_model_of_an_unknown_whole_is_known_and_the_rest_is_named(model_type: str, made: dict[str, Path], tmp_path: Path) -> None:
    path = changed(made[model_type], tmp_path / "in", "model_type", "never_heard_of_vl")
    report = ckptkit.validate(path)
    s = report.subject
    assert s.architecture is not None and s.architecture.name == CASES[model_type][1] and s.graph.counts["layers"] == 3
    others = {n: r.what for n, r in s.graph.roles.items() if r.kind == "part"}
    text = [n for n in s.checkpoint.tensors if n not in others]
    assert others and not [n for n in text if "vis" in n or "projector" in n] and not s.graph.of_role("unexplained")
    said = [f for f in report.findings if f.rule == "unknown"]
    assert len(said) == 1 and all(part in said[0].message for part in others.values()) and "never_heard_of_vl" in said[0].message
    tensors = load_file(made[model_type] / "model.safetensors")
    gone = next(n for n in text if ".1." in n and tensors[n].ndim == 2)
    (path / "model.safetensors").unlink()
    save_file({n: v for n, v in tensors.items() if n != gone}, path / "model.safetensors")
    missing = ckptkit.validate(path)
    assert missing.exit_code == 1 and any(gone in f.message for f in missing.findings if f.severity == "error")
    stem = text[0].rpartition("layers.")[0] if "layers." in text[0] else next(n for n in text if "layers." in n).rpartition("layers.")[0]
    save_file({**tensors, f"{stem}strange.weight": np.ones((3, 3), np.float32)}, path / "model.safetensors")
    with ckptkit.examine(path) as again:
        assert again.graph.roles[f"{stem}strange.weight"].kind == "unexplained"


@pytest.mark.parametrize("model_type", CASES)
def test_part_text_builds_and_writes_the_text_model_that_the_whole_runs(model_type: str, made: dict[str, Path], tmp_path: Path) -> None:
    path = made[model_type]
    ids = torch.from_numpy(np.random.default_rng(4).integers(5, 90, (2, 9)))
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    stem = f"{CASES[model_type][0]}ForConditionalGeneration"
    whole = getattr(transformers, stem).from_pretrained(path, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        want = whole(**given).logits.numpy()
        mine = build_transformer_model(None, path, part="text", with_mlm=True)(ids)["lm"].numpy()
    assert np.abs(mine - want).max() < 1e-5
    ckptkit.convert(path, tmp_path / "out", to="hf", part="text")
    model, info = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True, dtype=torch.float32)
    assert not any(info.values()), info
    with torch.no_grad():
        assert np.abs(model(**given).logits.numpy() - want).max() < 1e-5
    assert ckptkit.validate(path, part="text").exit_code == 0


def test_a_whole_that_no_schema_explains_is_carried_over_and_never_written_in_part(made: dict[str, Path], tmp_path: Path) -> None:
    path = changed(made["llava"], tmp_path / "in", "model_type", "never_heard_of_vl")
    ckptkit.convert(path, tmp_path / "out", container="torch")
    got, want = torch.load(tmp_path / "out" / "pytorch_model.bin"), load_file(path / "model.safetensors")
    assert got.keys() == want.keys() and all(np.array_equal(got[n].numpy(), want[n]) for n in want)
    assert json.loads((tmp_path / "out" / "config.json").read_text()) == json.loads((path / "config.json").read_text())
    with pytest.raises(FindingsError, match="error"):
        ckptkit.convert(path, tmp_path / "hf", to="hf")
    assert not (tmp_path / "hf").exists()


def test_a_text_model_deep_inside_is_found_by_its_names(made: dict[str, Path], tmp_path: Path) -> None:
    """Qwen's omni models keep it below thinker., with its settings in thinker_config; what speaks is another part."""
    tensors = load_file(made["qwen2_vl"] / "model.safetensors")
    inner = json.loads((made["qwen2_vl"] / "config.json").read_text())
    path = tmp_path / "omni"
    path.mkdir()
    talker = {f"talker.layers.{i}.weight": np.ones((4, 4), np.float32) for i in range(3)}
    save_file({**{f"thinker.{n}": v for n, v in tensors.items()}, **talker}, path / "model.safetensors")
    config = {"model_type": "never_heard_of_omni", "thinker_config": {k: v for k, v in inner.items() if k != "model_type"}}
    (path / "config.json").write_text(json.dumps(config))
    with ckptkit.examine(path) as s:
        assert s.architecture is not None and s.architecture.name == "qwen2" and s.graph.counts["layers"] == 3
        assert {r.what for r in s.graph.roles.values() if r.kind == "part"} == {"thinker.visual", "talker"}
        assert not s.graph.of_role("unexplained") and s.graph.roles["thinker.lm_head.weight"].kind in ("param", "tied")
    config["thinker_config"]["text_config"]["num_hidden_layers"] = 5  # type: ignore[index]
    (path / "config.json").write_text(json.dumps(config))
    errors = [f.message for f in ckptkit.validate(path).findings if f.severity == "error"]
    assert any(" 5" in m and " 3" in m for m in errors), errors


def test_part_text_is_refused_where_no_table_has_it(made: dict[str, Path], tmp_path: Path) -> None:
    path = changed(made["llava"], tmp_path / "in", "text_config.model_type", "never_heard_of_text")
    with pytest.raises(UsageError, match="never_heard_of_text"):
        ckptkit.validate(path, part="text")
    with ckptkit.examine(made["llava"], part="language_model") as s:  # by its stem
        assert s.architecture is not None and s.architecture.name == "llama"


def test_a_part_that_a_learned_schema_has_never_seen_is_no_fault_and_not_fine(tmp_path: Path) -> None:
    """Gemma 4's schema was learned of one without a vision tower. As many layers in one part as in the other are no excuse."""
    text = {**TEXT, "head_dim": 8, "global_head_dim": 8, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 103,
            "num_kv_shared_layers": 0, "layer_types": ["sliding_attention", "sliding_attention", "full_attention"]}  # fmt: skip
    seen = {**SEEN, "num_hidden_layers": 3, "num_key_value_heads": 4, "head_dim": 6}
    torch.manual_seed(3)
    config = transformers.Gemma4Config(text_config=text, vision_config=seen, audio_config=None, image_token_id=99)
    transformers.Gemma4ForConditionalGeneration(config).save_pretrained(tmp_path / "in")
    report = ckptkit.validate(tmp_path / "in")
    assert report.exit_code == 3 and not [f for f in report.findings if f.severity == "error"]
    assert report.subject.architecture is not None and not report.subject.architecture.learned
    for place in ("text_config", "vision_config"):
        wrong = ckptkit.validate(changed(tmp_path / "in", tmp_path / place, f"{place}.num_hidden_layers", 4))
        assert wrong.exit_code == 1 and any(" 4" in f.message and " 3" in f.message for f in wrong.findings if f.severity == "error")


@pytest.mark.parametrize("model_type", ["qwen2_vl", "glm4v"])
def test_of_a_whole_and_a_text_model_that_nobody_knows_each_part_is_held_against_its_own_settings(
    model_type: str, made: dict[str, Path], tmp_path: Path
) -> None:
    path = changed(made[model_type], tmp_path / "in", "model_type", "never_heard_of_vl")
    strange = changed(path, tmp_path / "strange", "text_config.model_type", "never_heard_of_text")
    tensors = load_file(made[model_type] / "model.safetensors")
    (strange / "model.safetensors").unlink()
    save_file({n.replace("q_proj", "ask"): v for n, v in tensors.items()}, strange / "model.safetensors")
    assert ckptkit.validate(strange).exit_code == 3
    for key, n in layer_keys(strange):
        for wrong in (n + 1, n - 1, 2 * n):  # which may be the number of the other part
            found = ckptkit.validate(changed(strange, tmp_path / f"{key}{wrong}", key, wrong))
            errors = [f.message for f in found.findings if f.severity == "error"]
            assert found.exit_code == 1 and any(f" {wrong}" in m and f" {n}" in m for m in errors), (key, wrong, errors)


def test_the_whole_is_not_built_of_its_text_alone_unless_asked_for(made: dict[str, Path], tmp_path: Path) -> None:
    for path in (made["llava"], changed(made["llava"], tmp_path / "in", "model_type", "never_heard_of_vl")):
        with pytest.raises(UndecidedError, match='part="text"'):
            build_transformer_model(None, path)
