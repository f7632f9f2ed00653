"""What is known of a checkpoint before a weight is read: who says a value, and what counts as a parameter."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny

from ckptkit.errors import CheckpointError, UsageError
from ckptkit.graph.examine import Subject, examine
from ckptkit.schema import Architecture


def subject(tmp_path: Path, shapes: dict[str, tuple[int, ...]], config: dict[str, object] | None = None, **options: object) -> Subject:
    tiny.saved(tmp_path / "model.safetensors", tiny.arrays_of(shapes)).close()
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    return examine(tmp_path, **options)  # type: ignore[arg-type]


SIZES: dict[str, object] = {"hidden_size": 6, "num_layers": 2, "num_heads": 2}


def test_the_users_word_stands_above_the_configurations(tmp_path: Path, only_tiny: Architecture) -> None:
    with subject(tmp_path, tiny.lined_shapes(2), SIZES, given={"heads": 3}) as s:
        assert (s.value("heads"), s.says("heads")) == (3, "--set says")
        assert (s.value("layers"), s.says("layers")) == (2, "config.json says")
        assert s.value("inner") is None
        assert s.sizes().axis["heads"] == 3 and s.sizes().axis["head_dim"] == 2


def test_what_tensors_leave_open_is_as_the_configuration_says(tmp_path: Path, only_tiny: Architecture) -> None:
    with subject(tmp_path, tiny.fused_shapes(2), SIZES) as s:
        assert (s.sizes().axis["heads"], s.sizes().axis["head_dim"], s.sizes().axis["hidden"]) == (2, 3, 6)


def test_without_a_configuration_what_tensors_leave_open_stays_open(tmp_path: Path, only_tiny: Architecture) -> None:
    with subject(tmp_path, tiny.lined_shapes(2)) as s:
        assert s.config is None and s.values is None and s.config_name == "the configuration"
        assert "heads" not in s.sizes().axis and s.sizes().axis["hidden"] == 6


@pytest.mark.parametrize("value", [True, 0, -2, "2", 2.0])
def test_a_value_that_is_no_count_is_no_size(tmp_path: Path, only_tiny: Architecture, value: object) -> None:
    with subject(tmp_path, tiny.lined_shapes(2), given={"heads": value}) as s:
        assert "heads" not in s.sizes().axis


def test_parameters_are_counted_once_and_state_is_not(tmp_path: Path, only_tiny: Architecture) -> None:
    shapes = {**tiny.lined_shapes(1), "lm_head.weight": (11, 6), "net.tokens.weight/adam_m": (11, 6), "global_step": ()}
    with subject(tmp_path, {**shapes, "net.strange": (2,)}) as s:
        assert s.counted() == sorted([*tiny.lined_shapes(1), "net.strange"], key=list(s.checkpoint.tensors).index)
    with subject(tmp_path, shapes, given={"tied": False}) as s:
        assert "lm_head.weight" in s.counted()


def test_a_broken_configuration_is_a_finding_unless_it_was_asked_for(tmp_path: Path, only_tiny: Architecture) -> None:
    (tmp_path / "config.json").write_text('{"hidden_size": ')
    with subject(tmp_path, tiny.lined_shapes(1)) as s:
        assert [(f.severity, f.rule) for f in s.findings] == [("error", "config")] and s.graph.architecture is only_tiny
    with pytest.raises(CheckpointError):
        examine(tmp_path, config=str(tmp_path / "config.json"))


@pytest.mark.parametrize("options", [{"dialect": "nowhere"}, {"architecture": "nowhere"}])
def test_what_is_asked_for_must_be_there(tmp_path: Path, options: dict[str, str]) -> None:
    np.save(tmp_path / "w.npy", np.zeros(2))
    with pytest.raises(UsageError, match="nowhere") as e:
        examine(tmp_path / "w.npy", **options)  # type: ignore[arg-type]
    assert e.value.hint


def test_the_files_are_given_back(tmp_path: Path, only_tiny: Architecture) -> None:
    with subject(tmp_path, tiny.lined_shapes(1)) as s:
        path = s.checkpoint.files[0]
        assert s.checkpoint.blob(path).size >= 0
    with pytest.raises(CheckpointError, match="closed"):
        s.checkpoint.blob(path)
