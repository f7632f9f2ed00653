"""Optimizer state is told by whole composed names, never by how a name merely looks."""

from __future__ import annotations

import pytest

from ckptkit.graph.training_state import optimizer_state


@pytest.mark.parametrize(
    ("names", "known", "state"),
    [
        (["w", "w/adam_m", "w/adam_v"], None, {"w/adam_m": "w", "w/adam_v": "w"}),
        (["w/adam_m", "v"], None, {}),  # no variable that it would be of
        (["adam_m"], None, {}),
        (["w", "w.exp_avg", "x.exp_avg"], None, {"w.exp_avg": "w"}),
        (["global_step", "beta1_power", "w"], None, {"global_step": "", "beta1_power": ""}),
        (["optimizer.state.0", "w"], {"w": 1}, {}),
        (["w", "w/adam_m", "v", "v/adam_m"], {"w": 1}, {"w/adam_m": "w"}),
        (["my/global_step"], None, {}),
    ],
)
def test_optimizer_state_is_what_is_composed_of_a_variables_name(
    names: list[str], known: dict[str, object] | None, state: dict[str, str]
) -> None:
    assert optimizer_state(names, known) == state
