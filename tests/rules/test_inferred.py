"""What the values say: each damage to a model that looks trained is told by its rule and its place, and a healthy model by none."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file
from trained import CONFIG, DAMAGES, HIDDEN, Arrays, saved, trained

import ckptkit

RULES = {"twin", "fresh", "rows", "hole", "rounded", "levels", "spread"}


def told(folder: Path, arrays: Arrays) -> dict[str, str]:
    """Rule -> what it says, of those that infer from values."""
    found = [f for f in ckptkit.validate(saved(folder, arrays)).findings if f.rule in RULES]
    assert all(f.severity == "warning" and f.basis == "inferred" for f in found)
    return {f.rule: f"{f.where} {f.message}" for f in found}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damage_is_told_by_its_rule_and_place(tmp_path: Path, name: str) -> None:
    change, rule, says = DAMAGES[name]
    arrays = trained()
    change(arrays)
    found = told(tmp_path / "m", arrays)
    assert says in found.get(rule, ""), found


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("directions", [4, 0], ids=["trained", "as it begins"])
def test_a_healthy_model_has_no_such_finding(tmp_path: Path, seed: int, directions: int) -> None:
    assert told(tmp_path / "m", trained(seed, directions)) == {}


def test_what_transformers_initialises_has_no_such_finding(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    model = BertModel(BertConfig(**{k: v for k, v in CONFIG.items() if k not in ("model_type", "architectures")}))
    assert told(tmp_path / "m", {n: t.numpy().copy() for n, t in model.state_dict().items()}) == {}


def test_what_is_low_as_a_whole_or_equal_by_right_is_no_damage(tmp_path: Path) -> None:
    arrays = trained()
    low = {n: a.astype(ml_dtypes.bfloat16).astype("f4") for n, a in arrays.items()}
    assert told(tmp_path / "low", low) == {}
    table = arrays["embeddings.word_embeddings.weight"]
    table[0] = 0  # the padding
    table[1000:1100] = table[1000]  # fillers
    assert told(tmp_path / "fillers", arrays) == {}


def test_the_signs_do_not_depend_on_how_the_file_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ckptkit.containers import open_checkpoint
    from ckptkit.scan import jobs as planned
    from ckptkit.scan import survey as scan

    x = trained()["embeddings.word_embeddings.weight"]
    x.reshape(-1)[20_001:20_501] = 0
    save_file({"x": x}, tmp_path / "m.safetensors")
    monkeypatch.setattr(planned, "PIECE", HIDDEN * 4 * 100)
    monkeypatch.setattr(planned, "PART", HIDDEN * 4 * 300)
    with open_checkpoint(tmp_path / "m.safetensors") as c:
        signs = scan.survey(c, ["x"], scan.Asked(jobs=2)).values["x"].signs
    assert signs.rms == pytest.approx(float(np.sqrt((x.astype("f8") ** 2).mean())), rel=1e-4)
    assert signs.keys is not None and signs.keys.tolist() == [int.from_bytes(r[:2].tobytes(), "little") for r in x]
    assert signs.levels is None and signs.rounded == ""
    assert sum(n for _, n in signs.holes) == 500 and signs.holes[0][0] == 20_001


def test_scales_that_are_kept_as_what_is_added_to_one_are_no_damage(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    words = {"vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12}
    for family, more in (("Gemma2", {"head_dim": 4}), ("Qwen3Next", {"head_dim": 4, "num_experts": 2}), ("RecurrentGemma", {})):
        config = getattr(transformers, f"{family}Config")(**words, **more, num_key_value_heads=1)
        getattr(transformers, f"{family}ForCausalLM")(config).save_pretrained(tmp_path / family)
        assert not [f for f in ckptkit.validate(tmp_path / family).findings if f.rule == "norm"]


def test_of_the_damages_of_the_benchmark_most_that_show_in_values_are_found(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """benchmarks/damages.py on a small model that looks trained; of a real one the figure is in its text."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("damages", Path(__file__).parents[2] / "benchmarks" / "damages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    every, plain, inferred = module.count(saved(tmp_path / "m", trained()), tmp_path / "work", False)
    assert every - plain >= 60 and plain >= 8 and inferred >= 28, (every, plain, inferred)
    assert not [w for w in recwarn if "ckptkit" in w.filename]


def test_one_scale_of_both_signs_among_sound_ones_is_a_damage_and_a_draw_of_the_whole_model_is_none(tmp_path: Path) -> None:
    arrays = trained()
    norms = [n for n in arrays if n.endswith("LayerNorm.weight")]
    arrays[norms[1]] = np.random.default_rng(0).standard_normal(HIDDEN).astype("f4")
    assert [f.where for f in ckptkit.validate(saved(tmp_path / "one", arrays)).findings if f.rule == "norm"] == [norms[1]]
    for i, n in enumerate(norms):
        arrays[n] = np.random.default_rng(i).standard_normal(HIDDEN).astype("f4") * np.float32(0.02)
    assert not [f for f in ckptkit.validate(saved(tmp_path / "all", arrays)).findings if f.rule == "norm"]
