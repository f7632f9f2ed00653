"""What only some decoders with mixers ask: tables that a file may leave out, positions that begin anew."""

from __future__ import annotations

from pathlib import Path

import decoders
import numpy as np
import pytest
import running
from safetensors.numpy import load_file, save_file
from test_decoders_run import allowed, gaps

TABLES = ("slope_rate", "query_decay", "key_decay", "diagonal_decay")


@pytest.mark.parametrize("left", [TABLES, TABLES[1:]])
def test_decays_that_a_file_leaves_out_are_computed(left: tuple[str, ...], tmp_path: Path) -> None:
    path = decoders.make("minimax", tmp_path)
    want = decoders.expected(path)
    most = allowed(path, want)
    file = path / "model.safetensors"
    held = load_file(file)
    kept = {n: x for n, x in held.items() if not n.endswith(left)}
    assert len(held) - len(kept) == 2 * len(left)  # two layers of four are lightning attention
    save_file(kept, file, metadata={"format": "pt"})
    found = gaps(running.run(running.built(path, "torch"), decoders.inputs()), want)
    assert {n: g for n, g in found.items() if not g <= most[n]} == {}


def test_decays_that_a_file_holds_are_used(tmp_path: Path) -> None:
    """As transformers does, whatever they should be."""
    path = decoders.make("minimax", tmp_path)
    before = decoders.expected(path)
    file = path / "model.safetensors"
    save_file({n: x * np.float32(0.9) if n.endswith(TABLES) else x for n, x in load_file(file).items()}, file, metadata={"format": "pt"})
    want = decoders.expected(path)
    most = allowed(path, want)
    assert gaps(before, want)["lm"] > 100 * most["lm"]
    found = gaps(running.run(running.built(path, "torch"), decoders.inputs()), want)
    assert {n: g for n, g in found.items() if not g <= most[n]} == {}


def test_a_recurrence_begins_anew_where_positions_do(tmp_path: Path) -> None:
    """Two texts in one row, as transformers runs them by their positions."""
    path = decoders.make("recurrent_gemma", tmp_path)
    given = {**decoders.inputs(), "position_ids": np.array([[*range(8), *range(11)], [*range(5), *range(14)]])}
    given["attention_mask"] = np.ones_like(given["input_ids"])
    want = decoders.expected(path, given=given)
    most = allowed(path, want, given)
    plain = decoders.expected(path, given={n: x for n, x in given.items() if n != "position_ids"})
    assert gaps(plain, want, given)["decoder.0"] > 100 * most["decoder.0"]
    # the first two layers are recurrences; which positions attention sees is said by a mask
    found = gaps(running.run(running.built(path, "torch"), given), want, given)
    assert {n: g for n, g in found.items() if n in ("decoder.0", "decoder.1") and not g <= most[n]} == {}
