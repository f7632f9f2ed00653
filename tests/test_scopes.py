"""Scopes before names and wrappers inside them: whatever they are called, the model below them is the same model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
from commands import run
from safetensors.numpy import load_file, save_file

import ckptkit
from ckptkit.errors import UndecidedError
from ckptkit.graph.examine import examine
from ckptkit.graph.scopes import scopes, without_inner

HF = oracles.made("bert-hf")
ARRAYS = load_file(HF / "model.safetensors")


def renamed(folder: Path, rename: Callable[[str], str], **more: np.ndarray) -> Path:
    folder.mkdir()
    shutil.copy(HF / "config.json", folder)
    save_file({**{rename(n): a for n, a in ARRAYS.items()}, **more}, folder / "model.safetensors")
    return folder


SCOPES = (
    "0.auto_model.", "auto_model.", "_module.", "backbone.bert.", "base_model.model.", "bert.bert.", "bert_encoder.", "bert_layer.", "lm.",
    "bert_model.", "embedder.", "hf_model.", "language_model.", "pl_module.model.", "plm.", "student_model.", "text_encoder.", "a.b.c.d.",
    "module/",
)  # fmt: skip


@pytest.mark.parametrize("scope", SCOPES)
def test_a_scope_is_found_from_the_names(tmp_path: Path, scope: str) -> None:
    path = renamed(tmp_path / "m", lambda n: scope + n)
    with examine(path) as s:
        assert s.architecture is not None and s.architecture.name == "bert"
        r = s.graph.recognition
        assert r is not None and (r.wrapper + r.prefix).startswith(scope) and len(r.matches) == len(ARRAYS)
    assert ckptkit.digest(path).whole == ckptkit.digest(HF).whole and ckptkit.diff(path, HF).exit_code == 0


def test_what_lies_beside_the_scope_is_unexplained(tmp_path: Path) -> None:
    path = renamed(tmp_path / "m", lambda n: f"encoder_q.{n}", **{"projection.weight": np.ones((4, 4), np.float32)})
    with examine(path) as s:
        assert s.architecture is not None and s.graph.of_role("unexplained") == ["projection.weight"]
    with pytest.raises(ckptkit.CheckpointError, match="nothing was written"):
        ckptkit.convert(path, tmp_path / "out", to="hf")


def test_of_two_encoders_each_can_be_asked_for(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    shutil.copy(HF / "config.json", tmp_path / "m")
    both = {f"question.{n}": a for n, a in ARRAYS.items()} | {f"passage.{n}": a + np.float32(1) for n, a in ARRAYS.items()}
    save_file(both, tmp_path / "m" / "model.safetensors")
    assert ckptkit.digest(tmp_path / "m", part="question").whole == ckptkit.digest(HF).whole
    assert ckptkit.digest(tmp_path / "m", part="passage").whole != ckptkit.digest(HF).whole
    with pytest.raises(ckptkit.CheckpointError, match="nothing was written"):
        ckptkit.convert(tmp_path / "m", tmp_path / "out", to="google")


@pytest.mark.parametrize(
    "rename",
    [
        lambda n: n.replace("layer.1.", "layer.1._orig_mod."),
        lambda n: n.replace("layer.", "layer._fsdp_wrapped_module.").replace("attention.", "attention._checkpoint_wrapped_module."),
        lambda n: "module." + n.replace("bert.", "bert._orig_mod."),
    ],
)
def test_wrappers_inside_names_are_taken_off_and_said(tmp_path: Path, rename: Callable[[str], str]) -> None:
    path = renamed(tmp_path / "m", rename)
    assert ckptkit.digest(path).whole == ckptkit.digest(HF).whole
    with examine(path) as s:
        assert s.graph.recognition is not None and any("inside of names" in e for e in s.graph.recognition.evidence)
    ckptkit.fix(path, tmp_path / "fixed")
    assert set(load_file(tmp_path / "fixed" / "model.safetensors")) == set(ARRAYS)


def test_a_scope_that_few_names_have_is_none_and_wrappers_that_hide_two_names_stay() -> None:
    assert scopes(["a.x.w", "a.y.w", "b.w", "c.w", "d.w"]) == []
    assert scopes([f"m.n.{i}" for i in range(5)]) == ["m.", "m.n."]
    assert without_inner(["a._orig_mod.w", "a.w"]) == ({}, ())
    assert without_inner(["a._orig_mod.w"])[0] == {"a._orig_mod.w": "a.w"}


@pytest.mark.parametrize("packed", [True, False])
def test_a_part_of_a_compressed_archive_goes_by_its_own_names(tmp_path: Path, packed: bool) -> None:
    arrays = {f"left/{n}": np.full((3, 2), i + 1.0) for i, n in enumerate("ab")} | {"right/a": np.zeros(2)}
    (np.savez_compressed if packed else np.savez)(tmp_path / "m.npz", **arrays)
    ckptkit.convert(tmp_path / "m.npz", tmp_path / "left.safetensors", part="left")
    got = load_file(tmp_path / "left.safetensors")
    assert got.keys() == {"a", "b"} and all(np.array_equal(got[n], arrays[f"left/{n}"]) for n in got)
    ckptkit.convert(tmp_path / "m.npz", tmp_path / "left", part="left", container="safetensors")
    told = json.loads((tmp_path / "left" / "ckptkit-ledger.json").read_text())
    assert {n: t["shape"] for n, t in told["source"]["tensors"].items()} == {"a": [3, 2], "b": [3, 2], "right/a": [2]}


# --- scopes by hand --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", ["a.b.net", "a.b.net."])
def test_a_scope_can_be_said_by_hand(tmp_path: Path, said: str) -> None:
    few = {"a.b.net." + n: x for n, x in ARRAYS.items()} | {f"c.{i}.w": np.ones((2, 2), np.float32) for i in range(2 * len(ARRAYS))}
    (tmp_path / "m").mkdir()
    shutil.copy(HF / "config.json", tmp_path / "m")
    save_file(few, tmp_path / "m" / "model.safetensors")
    with examine(tmp_path / "m") as s:
        assert s.architecture is None  # less than half of the names: nobody would look there
    with examine(tmp_path / "m", scope=said) as s:
        r = s.graph.recognition
        assert r is not None and r.wrapper == "a.b.net." and len(r.matches) == len(ARRAYS)
        assert len(s.graph.of_role("unexplained")) == 2 * len(ARRAYS)
        assert all(r.stored_name(m.row, dict(m.at), {}) == n for n, m in list(r.matches.items())[:5])
    assert ckptkit.validate(tmp_path / "m", scope=said).exit_code == 0
    done = run("convert", tmp_path / "m", tmp_path / "out", "--to", "hf", "--scope", said, "--drop", "c.*")
    assert done.returncode == 0, done.stderr
    assert ckptkit.digest(tmp_path / "out").whole == ckptkit.digest(HF).whole
    same = run("diff", tmp_path / "m", HF, "--scope-a", said, "--drop-a", "c.*")
    assert same.returncode == 0, same.stdout
    assert run("verify", HF, tmp_path / "m", "--level", "values", "--scope-b", said, "--drop-b", "c.*").returncode == 0


@pytest.mark.parametrize("command", ["inspect", "validate", "digest", "lock", "summary"])
def test_a_scope_that_there_is_not_is_one_line_that_names_those_that_are(tmp_path: Path, command: str) -> None:
    done = run(command, renamed(tmp_path / "m", lambda n: f"net.{n}"), "--scope", "nett")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "--scope nett: no tensor has such a stem" in done.stderr and "net.bert." in done.stderr


def test_a_learned_architecture_is_found_below_a_scope_and_by_hand(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=8, num_hidden_layers=3, num_attention_heads=2, intermediate_size=12, image_size=4, patch_size=2
    )
    model = transformers.ViTModel(config)
    arrays = {f"lit.vision.{n}": x.numpy() for n, x in model.state_dict().items()}
    config.architectures = ["ViTModel"]
    config.save_pretrained(tmp_path)
    save_file(arrays, tmp_path / "model.safetensors")
    for words in ({}, {"scope": "lit.vision"}):
        with examine(tmp_path, **words) as s:
            r = s.graph.recognition
            assert r is not None and r.architecture.name == "vit" and r.wrapper == "lit.vision." and len(r.matches) == len(arrays)
        assert ckptkit.validate(tmp_path, **words).exit_code == 0
    del arrays["lit.vision.layers.1.attention.o_proj.bias"]
    save_file(arrays, tmp_path / "model.safetensors")
    assert ckptkit.validate(tmp_path, scope="lit.vision").exit_code == 1


# --- cousins ---------------------------------------------------------------------------------------------------------

GECTOR = oracles.FIXTURES / "faults" / "scope" / "roberta_1_gectorv2.th"
SCOPE = "text_field_embedder.token_embedder_bert.bert_model."


def test_roberta_below_a_scope_is_roberta_whatever_a_configuration_of_another_model_says(tmp_path: Path) -> None:
    shutil.copy(GECTOR, tmp_path / "m.th")
    for path in (GECTOR, tmp_path / "m.th"):  # config.json beside the first is a BERT's, of other sizes
        with examine(path) as s:
            r = s.graph.recognition
            assert r is not None and r.architecture.name == "roberta" and r.wrapper == SCOPE and len(r.matches) == 56
            assert len(s.graph.of_role("unexplained")) == 4 and s.graph.solution.sizes.axis["vocab"] == 61
            assert "bert" in r.cousins
    assert "RoBERTa (roberta) or bert" in run("inspect", tmp_path / "m.th").stdout


@pytest.mark.parametrize("segments", [1, 2])
def test_bare_names_without_a_configuration_are_of_no_cousin_for_sure(tmp_path: Path, segments: int) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12}
    config = transformers.RobertaConfig(**sizes, type_vocab_size=segments, max_position_embeddings=20)
    transformers.RobertaModel(config).save_pretrained(tmp_path / "said")
    shutil.copytree(tmp_path / "said", tmp_path / "bare")
    (tmp_path / "bare" / "config.json").unlink()
    with examine(tmp_path / "said") as one, examine(tmp_path / "bare") as two:
        assert one.graph.recognition is not None and one.graph.recognition.cousins == ()
        assert two.graph.recognition is not None
        assert "roberta" in (two.graph.recognition.architecture.name, *two.graph.recognition.cousins)
        assert "bert" in (two.graph.recognition.architecture.name, *two.graph.recognition.cousins)
    given = {"heads": 2, "activation": "gelu", "norm_eps": 1e-12, "pad": 0}
    with pytest.raises(UndecidedError, match="nothing says which"):
        ckptkit.convert(tmp_path / "bare", tmp_path / "out", to="hf", given=given)
    assert not (tmp_path / "out").exists()
    assert ckptkit.diff(tmp_path / "bare", tmp_path / "said").exit_code == 0  # the other side says which it is
    level = next(lv for lv in ckptkit.verify(tmp_path / "bare", tmp_path / "bare", given=given).levels if lv.name == "behaviour")
    assert level.verdict == "undecided" and "nothing says which" in level.basis
    ckptkit.convert(tmp_path / "bare", tmp_path / "out", to="hf", architecture="roberta", given=given)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["model_type"] == "roberta"


def test_cousins_that_only_their_configuration_tells_are_named(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12}
    for name, cls in (("gemma", "Gemma"), ("granite", "Granite")):
        config = getattr(transformers, f"{cls}Config")(**sizes, num_key_value_heads=1, head_dim=4)
        getattr(transformers, f"{cls}ForCausalLM")(config).save_pretrained(tmp_path / name)
        for file in (tmp_path / name).glob("*config.json"):
            file.unlink()
        with examine(tmp_path / name) as s:
            r = s.graph.recognition
            assert r is not None and name in (r.architecture.name, *r.cousins)


def written_by(
    transformers: Any, folder: Path, family: str, *gone: str, keys: tuple[str, ...] | None = ("model_type", "architectures")
) -> Path:
    """A small model of a family without the tensors of a pattern and these keys of its configuration (None: without the configuration)."""
    words = {"vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12}
    getattr(transformers, f"{family}ForCausalLM")(getattr(transformers, f"{family}Config")(**words)).save_pretrained(folder)
    arrays = {n: a for n, a in load_file(folder / "model.safetensors").items() if not any(g in n for g in gone)}
    save_file(arrays, folder / "model.safetensors", {"format": "pt"})
    raw = json.loads((folder / "config.json").read_text())
    if keys is None:
        (folder / "config.json").unlink()
    else:
        (folder / "config.json").write_text(json.dumps({k: v for k, v in raw.items() if k not in keys}))
    return folder


@pytest.mark.parametrize("keys", [("model_type", "architectures"), None], ids=["unmarked", "no configuration"])
@pytest.mark.parametrize(("gone", "taken"), [("gate_proj", "arcee"), ("post_attention_layernorm", "cohere")])
def test_what_is_whole_for_one_and_lacks_one_tensor_of_another_is_undecided(
    tmp_path: Path, gone: str, taken: str, keys: tuple[str, ...] | None
) -> None:
    transformers = pytest.importorskip("transformers")
    report = ckptkit.validate(written_by(transformers, tmp_path / "m", "Llama", gone, keys=keys))
    assert report.subject.architecture is not None and report.subject.architecture.name == taken and report.exit_code == 3
    (found,) = [f for f in report.findings if f.rule == "cousins"]
    assert "a tensor or two" in found.message and found.severity == "warning" and found.basis == "undecided"
    with pytest.raises(UndecidedError, match="that lost some, and nothing says which"):
        ckptkit.convert(tmp_path / "m", tmp_path / "out", to="hf", given={"heads": 2, "norm_eps": 1e-6, "activation": "silu"})
    said = ckptkit.validate(tmp_path / "m", architecture="llama")
    assert said.exit_code == 1 and any(f.rule == "missing" for f in said.findings)


def test_a_whole_model_is_no_cousin_that_lost_tensors(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    for keys in (("model_type", "architectures"), None):
        report = ckptkit.validate(written_by(transformers, tmp_path / str(keys), "Llama", keys=keys))
        assert report.exit_code == 0 and [f.severity for f in report.findings if f.rule == "cousins"] == ["info"]


def test_a_unilm_that_lost_its_positions_is_no_nezha(tmp_path: Path) -> None:
    import torch

    source = oracles.golden("unilm1_pt")
    held = torch.load(source / "pytorch_model.bin", weights_only=True)
    torch.save({n: t for n, t in held.items() if "position_embeddings" not in n}, tmp_path / "pytorch_model.bin")
    for beside in (False, True):
        if beside:
            shutil.copy(source / "bert_config.json", tmp_path)
        report = ckptkit.validate(tmp_path)
        (found,) = [f for f in report.findings if f.rule == "cousins"]
        assert report.exit_code == 3 and found.severity == "warning" and "unilm" in found.message
    with pytest.raises(UndecidedError, match="nothing says which"):
        ckptkit.convert(tmp_path, tmp_path / "out", to="hf")
    assert ckptkit.verify(tmp_path, tmp_path).exit_code == 3


def test_one_table_for_two_that_no_file_says_are_one_is_undecided(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    m = written_by(transformers, tmp_path / "m", "Llama", "embed_tokens", keys=None)
    report = ckptkit.validate(m)
    assert report.exit_code == 3 and [f.where for f in report.findings if f.rule == "tie"] == ["embed_tokens.weight"]
    assert not [f for f in ckptkit.validate(m, given={"tied": True}).findings if f.rule == "tie"]
    assert ckptkit.validate(m, given={"tied": False}).exit_code == 1


def test_experts_without_what_chooses_them_or_one_of_their_parts_are_missing(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    words = {"vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12}
    for gone in ("input_linear", "output_linear", "router"):
        config = transformers.GraniteMoeHybridConfig(
            **words,
            num_key_value_heads=2,
            num_local_experts=2,
            shared_intermediate_size=12,
            layer_types=["attention"] * 2,
            mamba_n_heads=4,
            mamba_d_head=4,
            mamba_d_state=4,
        )
        transformers.GraniteMoeHybridForCausalLM(config).save_pretrained(tmp_path / gone)
        arrays = load_file(tmp_path / gone / "model.safetensors")
        left = {n: a for n, a in arrays.items() if f"block_sparse_moe.{gone}" not in n}
        assert len(left) < len(arrays) and ckptkit.validate(tmp_path / gone).exit_code == 0
        save_file(left, tmp_path / gone / "model.safetensors", {"format": "pt"})
        report = ckptkit.validate(tmp_path / gone)
        assert report.exit_code == 1 and any(f.rule == "missing" and gone in f.message for f in report.findings)


@pytest.mark.parametrize("gone", ["project_in", "project_out"])
def test_what_leads_from_one_width_to_another_is_missing_where_the_widths_are_two(tmp_path: Path, gone: str) -> None:
    transformers = pytest.importorskip("transformers")
    words = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 12}
    for width in (8, 16):
        folder = tmp_path / str(width)
        transformers.OPTForCausalLM(transformers.OPTConfig(**words, word_embed_proj_dim=width)).save_pretrained(folder)
        assert ckptkit.validate(folder).exit_code == 0
        arrays = load_file(folder / "model.safetensors")
        left = {n: a for n, a in arrays.items() if gone not in n}
        save_file(left, folder / "model.safetensors", {"format": "pt"})
        report = ckptkit.validate(folder)
        assert (len(left) < len(arrays)) is (width == 8) and (report.exit_code == 1) is (width == 8)
        assert width == 16 or [f.rule for f in report.findings if gone in f.message] == ["missing"]
