"""`ckptkit browse`, driven by Textual's pilot: the tree, what is chosen, findings, search, two checkpoints, 20,000 tensors; manners."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import oracles
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from terminals import on_terminal
from textual.pilot import Pilot
from textual.widgets import Footer, OptionList, Static, Tree

from ckptkit.browse import app as program
from ckptkit.browse.app import Browser, side_of
from ckptkit.browse.tree import GROUP, View, find, names_of, tree_of, views
from ckptkit.errors import CancelledError
from ckptkit.graph.examine import examine

MODEL = oracles.made("bert-hf")
QUERY = "encoder.layers.0.attention.query.weight"
Script = Callable[[Browser, Pilot[None]], Awaitable[None]]


def driven(script: Script, *paths: Path, size: tuple[int, int] = (100, 30)) -> None:
    """Run a script of keys over the program, without a terminal."""

    async def run() -> None:
        subjects = [examine(p) for p in paths]
        try:
            app = Browser([side_of(str(p), s) for p, s in zip(paths, subjects, strict=True)], jobs=1)
            async with app.run_test(size=size) as pilot:
                await pilot.pause()
                await script(app, pilot)
        finally:
            for s in subjects:
                s.close()

    asyncio.run(run())


async def settled(app: Browser, pilot: Pilot[None]) -> None:
    """Until nothing is read any more."""
    for _ in range(600):
        await pilot.pause(0.05)
        if not app.doing and all(app.facts) and not any(w.is_running for w in app.workers):
            break
    else:
        raise AssertionError(f"still {app.doing or 'looking'}")
    await pilot.pause(0.05)


async def search(app: Browser, pilot: Pilot[None], words: str) -> None:
    await pilot.press("slash", *("space" if c == " " else "full_stop" if c == "." else c for c in words), "enter")
    await settled(app, pilot)


def shown(app: Browser) -> str:
    return str(app.query_one("#details", Static).content)


def lines(app: Browser) -> list[str]:
    """The lines of the tree that are there, opened or not."""
    todo, out = [app.query_one(Tree).root], []
    while todo:
        at = todo.pop()
        out.append(str(at.label))
        todo += reversed(at.children)
    return out


def screen(app: Browser) -> list[str]:
    """What the whole screen holds."""
    return ["".join(s.text for s in strip) for strip in app.screen._compositor.render_strips()]


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same BERT with a NaN in a query, another layer 3, and no pooler."""
    folder = tmp_path_factory.mktemp("damaged") / "bert"
    shutil.copytree(MODEL, folder)
    weights = load_file(folder / "model.safetensors")
    for name in weights:
        if ".layer.3." in name:
            weights[name] = weights[name] + np.float32(1e-3)
    weights["bert.encoder.layer.0.attention.self.query.weight"][2, 3] = np.nan
    save_file({n: w for n, w in weights.items() if "pooler.dense.bias" not in n}, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_the_tree_is_filled_where_it_is_opened() -> None:
    async def script(app: Browser, pilot: Pilot[None]) -> None:
        assert [line.split()[0] for line in lines(app)] == ["everything", "embeddings", "encoder.layers", "mlm", "nsp", "pooler"]
        await pilot.press("down", "down", "enter")
        await pilot.pause()
        assert [line.split()[0] for line in lines(app)][2:7] == ["encoder.layers", "0", "1", "2", "3"]
        assert "34,176" in shown(app) and "64" in shown(app)  # elements and tensors of the layers

    driven(script, MODEL)


def test_what_is_chosen_is_read_and_shown_with_its_figures_and_its_histogram() -> None:
    x = load_file(MODEL / "model.safetensors")["bert.encoder.layer.0.attention.self.query.weight"].astype(np.float64)

    async def script(app: Browser, pilot: Pilot[None]) -> None:
        await search(app, pilot, "layers.0 query weight")
        text = shown(app)
        assert text.startswith(QUERY) and "F32 [32, 32]" in text
        assert "stored as  bert.encoder.layer.0.attention.self.query.weight" in text.replace("\n           ", "")
        assert f"{x.min():.3g}" in text and f"{x.std():.3g}" in text and f"{np.linalg.norm(x):.3g}" in text
        assert "█" in text and f"{x.min():.4g}" in text.split("█")[-1]
        assert "stopped" not in app.said

    driven(script, MODEL)


def test_figures_of_a_module_are_read_when_they_are_asked_for() -> None:
    async def script(app: Browser, pilot: Pilot[None]) -> None:
        await pilot.press("down")
        await settled(app, pilot)
        assert "deviation" not in shown(app)
        await pilot.press("s")
        await settled(app, pilot)
        assert "deviation" in shown(app) and "embeddings.norm.bias" in shown(app) and "encoder" not in shown(app)

    driven(script, MODEL)


def test_reading_is_called_off_by_a_key_and_by_another_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, ended = [], []

    def endless(checkpoint: object, names: object, asked: program.Asked, **_: object) -> object:
        begun.append(asked.statistics)
        while not (asked.cancelled is not None and asked.cancelled()):
            time.sleep(0.01)
        ended.append(asked.statistics)
        raise CancelledError("cancelled")

    monkeypatch.setattr(program, "survey", endless)

    async def script(app: Browser, pilot: Pilot[None]) -> None:
        await pilot.press("down", "s")
        await pilot.pause(0.3)
        assert len(begun) == 1 and not ended and app.doing == "reading" and any("reading" in line for line in screen(app))
        await pilot.press("escape")
        await settled(app, pilot)
        assert ended == begun and app.said == "stopped" and not app.doing
        await pilot.press("s")
        await pilot.pause(0.3)
        await pilot.press("down")
        await settled(app, pilot)
        assert len(begun) == len(ended) == 2 and not app.doing

    driven(script, MODEL)


def test_findings_are_listed_and_lead_to_their_tensors(damaged: Path) -> None:
    async def script(app: Browser, pilot: Pilot[None]) -> None:
        await settled(app, pilot)
        await pilot.press("f")
        await pilot.pause(0.2)
        text = "\n".join(screen(app))
        assert "missing" in text and "by headers" in text and "NaN" not in text
        await pilot.press("escape", "a")
        await settled(app, pilot)
        await pilot.press("f")
        await pilot.pause(0.2)
        listed = app.screen.query_one(OptionList)
        texts = [str(listed.get_option_at_index(k).prompt) for k in range(listed.option_count)]
        at = next(k for k, t in enumerate(texts) if " nan " in t)
        assert "NaN" in texts[at]
        listed.highlighted = at
        await pilot.press("enter")
        await settled(app, pilot)
        assert app.chosen.node.name == QUERY and "nan                 1" in shown(app)

    driven(script, damaged)


def test_facts_are_those_of_inspect() -> None:
    async def script(app: Browser, pilot: Pilot[None]) -> None:
        await settled(app, pilot)
        await pilot.press("i")
        await pilot.pause(0.2)
        text = "\n".join(screen(app))
        assert "4 layers x 32 hidden x 4 heads" in text and "safetensors" in text

    driven(script, MODEL)


def test_two_checkpoints_side_by_side(damaged: Path) -> None:
    async def script(app: Browser, pilot: Pilot[None]) -> None:
        await settled(app, pilot)
        assert [line for line in lines(app) if line.startswith(("embeddings", "encoder.layers", "pooler"))] == [
            "embeddings  same", "encoder.layers  17 of 64 differ", "pooler  1 of 2 differ",
        ]  # fmt: skip
        await pilot.press("n")
        await settled(app, pilot)
        assert app.chosen.node.name == QUERY and "NaN or infinity" in shown(app)
        await pilot.press("n")
        await settled(app, pilot)
        text = shown(app)
        assert app.chosen.node.name.startswith("encoder.layers.3.") and "0.001" in text  # what was added to each
        table = [line.split() for line in text.splitlines()]
        assert ["A", "B"] in table and sum(row[:1] == ["deviation"] and len(row) == 3 for row in table) == 1
        await search(app, pilot, "pooler bias")
        assert "removed" in shown(app)

    driven(script, MODEL, damaged)


def test_choosing_does_not_call_off_a_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    held = threading.Event()
    compare = program.diff

    def slow(*words: object, **more: object) -> object:
        held.wait(20)
        return compare(*words, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(program, "diff", slow)

    async def script(app: Browser, pilot: Pilot[None]) -> None:
        assert app.doing == "comparing"
        app.go_to(find(names_of(app.root), "layers.0 query weight", 1)[0])
        await pilot.pause(0.2)
        assert app.doing == "comparing" and app.chosen.node.name == QUERY
        held.set()
        await settled(app, pilot)
        assert "deviation" in shown(app) and shown(app).splitlines()[2] == "same"  # and then what was chosen is read

    driven(script, MODEL, MODEL)


def test_the_same_twice_says_so() -> None:
    async def script(app: Browser, pilot: Pilot[None]) -> None:
        await settled(app, pilot)
        await pilot.press("n")
        await pilot.pause(0.3)
        assert app.said == "nothing differs" and not any("differ" in line for line in lines(app))

    driven(script, MODEL, MODEL)


@pytest.mark.parametrize("size", [(60, 24), (200, 50)])
def test_it_fits_the_terminal(size: tuple[int, int], damaged: Path) -> None:
    async def script(app: Browser, pilot: Pilot[None]) -> None:
        await search(app, pilot, "layers.3 query weight")
        width = app.query_one("#side").scrollable_content_region.width
        assert max(map(len, shown(app).splitlines())) <= width
        tree, side = app.query_one(Tree).region, app.query_one("#side").region
        assert (side.y >= tree.bottom) if size[0] == 60 else (side.x >= tree.right)  # below one another, or beside
        foot = screen(app)[app.query_one(Footer).region.y]
        assert all(word in foot for word in ("Search", "Findings", "Facts", "Figures", "Next", "Quit"))

    driven(script, MODEL, damaged, size=size)


def test_colours_are_left_out_where_they_are_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def script(app: Browser, pilot: Pilot[None]) -> None:
        assert app.no_color

    driven(script, MODEL)


def test_names_are_not_taken_for_markup(tmp_path: Path) -> None:
    evil = {"a.[bold red]x[b]": np.zeros(2, np.float32), "a.\x1b[31mred": np.zeros(2, np.float32), "b..c": np.zeros(2, np.float32)}
    save_file(evil, tmp_path / "m.safetensors")

    async def script(app: Browser, pilot: Pilot[None]) -> None:
        await search(app, pilot, "bold")
        assert shown(app).startswith("a.[bold red]x[b]") and any(line.startswith("[bold red]x[b]") for line in lines(app))
        assert "\x1b" not in "".join(screen(app))

    driven(script, tmp_path / "m.safetensors")


def test_what_is_no_part_of_the_model_comes_last() -> None:
    async def script(app: Browser, pilot: Pilot[None]) -> None:
        heads = [line.split("  ")[0] for line in lines(app)]
        assert heads[1] == "embeddings" and heads[-1] == "(optimizer state)"
        await search(app, pilot, "embeddings word adam_v")
        assert "role" in shown(app) and "optimizer" in shown(app) and "deviation" in shown(app)

    driven(script, oracles.golden("bert_tf_optim"))


# --- 20,000 tensors --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mixture of experts of 20,082 tensors, 80 layers of 83 experts: a header, and as many bytes as it says."""
    shapes: dict[str, list[int]] = {"model.embed_tokens.weight": [16, 4], "model.norm.weight": [4]}
    for layer in range(80):
        at = f"model.layers.{layer}."
        shapes |= {f"{at}self_attn.{n}_proj.weight": [4, 4] for n in "qkvo"}
        shapes |= {f"{at}{n}layernorm.weight": [4] for n in ("input_", "post_attention_")}
        shapes[f"{at}block_sparse_moe.gate.weight"] = [83, 4]
        shapes |= {f"{at}block_sparse_moe.experts.{e}.w{k}.weight": [4, 4] for e in range(83) for k in (1, 2, 3)}
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    raw = json.dumps(header).encode()
    path = tmp_path_factory.mktemp("many") / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(end))
    return path


def test_20000_tensors_are_usable_within_a_second_of_reading_the_header(many: Path) -> None:
    subject = examine(many)
    assert len(subject.checkpoint.tensors) > 20_000

    async def run() -> tuple[float, float]:
        start = time.process_time()
        app = Browser([side_of(str(many), subject)])
        async with app.run_test(size=(100, 30)) as pilot:
            await pilot.press("down", "enter", "down")
            usable = time.process_time() - start
            assert app.chosen.node.tensors > 1000 and "tensors" in shown(app)
            await settled(app, pilot)
            start = time.process_time()
            await pilot.press("slash", *"77.w2.weight")
            await pilot.pause()
            assert app.screen.query_one(OptionList).option_count == 80
            return usable, time.process_time() - start

    with subject:
        usable, searched = asyncio.run(run())
    assert usable < 1.0, usable  # seconds of the processor: a machine that is busy with something else does not fail this
    assert searched < 1.5, searched  # a dozen keys, each of which searches


def test_of_very_many_members_there_are_groups(many: Path) -> None:
    rows = [r._replace(name=f"t{k}", canonical=(), templates=(), at=()) for k, r in enumerate(side_of("", examine(many)).rows)]
    root = tree_of(rows)
    groups = views(View("", root))
    assert len(groups) == -(-len(rows) // GROUP) and groups[1].label == "t500 … t999" and len(views(groups[1])) == GROUP
    assert [n.name for n in find(names_of(root), "t1999?", 5)] == ["t19990", "t19991", "t19992", "t19993", "t19994"]
    assert root.tensors == len(rows) and root.elements == sum(r.elements for r in rows)


# --- manners ---------------------------------------------------------------------------------------------------------


def test_where_there_is_no_terminal_inspect_is_named() -> None:
    done = subprocess.run([sys.executable, "-m", "ckptkit", "browse", str(MODEL)], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and not done.stdout and done.stderr.count("\n") == 1
    assert "browse needs a terminal" in done.stderr and "ckptkit inspect PATH" in done.stderr


def test_without_textual_the_extra_is_named(tmp_path: Path) -> None:
    (tmp_path / "textual.py").write_text("raise ImportError\n")
    out, status = on_terminal("browse", MODEL, PYTHONPATH=f"{tmp_path}{os.pathsep}{oracles.ROOT}", NO_COLOR="1", columns=1000)
    assert status == 2 and out.count("\n") == 1
    assert out.startswith("error: browse needs Textual, which is not installed. Hint: in a clone of this repository: pip install '.[tui]'")


def test_what_cannot_be_read_is_said_in_one_line() -> None:
    out, status = on_terminal("browse", "/nonexistent", NO_COLOR="1", columns=1000)
    assert status == 2 and out.startswith("error: /nonexistent: ") and out.count("\n") == 1


def test_limits_are_held_and_raised(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes((MODEL / "model.safetensors").read_bytes())
    text = json.dumps({"weight_map": {"w": "w.safetensors"}})[:-1] + ', "x": ' + "[" * 150 + "]" * 150 + "}"
    (tmp_path / "model.safetensors.index.json").write_text(text)
    out, status = on_terminal("browse", tmp_path / "model.safetensors.index.json", NO_COLOR="1", columns=1000)
    assert status == 2 and "over the limit json_depth=100. Hint: where the file is trusted: --limit json_depth=N" in out


def test_in_a_terminal_it_starts_and_is_left_with_q() -> None:
    pid, fd = pty.fork()
    if pid == 0:
        env = {**os.environ, "TERM": "xterm", "LANG": "C.UTF-8"}
        os.execve(sys.executable, [sys.executable, "-m", "ckptkit", "browse", str(MODEL)], env)
    out, asked = b"", False
    while True:
        try:
            more = os.read(fd, 65536)
        except OSError:
            break
        if not more:
            break
        out += more
        if not asked and b"pooler" in out and b"Quit" in out:
            os.write(fd, b"q")
            asked = True
    os.close(fd)
    assert asked and os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert out.rstrip().endswith(b"\x1b[?1049l") or b"\x1b[?1049l" in out[-400:]  # the screen as it was before


PACKED = ("quant_bnb_nf4", "quant_ct_int8_zeros", "quant_fp8_block", "quant_gptq_v1", "quant_hqq", "quant_torchao_int8")


@pytest.mark.parametrize("case", PACKED)
def test_a_packed_weight_has_the_figures_of_its_decoded_values_and_its_parts_their_own(case: str) -> None:
    folder = oracles.FIXTURES / "forms" / case
    decoded = dict(np.load(folder / "expected.npz").items())

    def figure(text: str, word: str) -> str:
        found = re.search(rf"{word} +(\S+)", text)
        assert found is not None, text
        return found[1]

    async def script(app: Browser, pilot: Pilot[None]) -> None:
        for node in app.root.below():
            app.go_to(node)
            await settled(app, pilot)
            (row,) = node.rows
            assert row is not None and "no figures" not in shown(app)
            assert ("figures of the decoded values" in shown(app)) == (row.role != "packing")
            with safe_open(folder / "model.safetensors", "numpy") as stored:
                values = stored.get_tensor(row.name) if row.role == "packing" else decoded[row.name]
            assert float(figure(shown(app), "maximum").replace(",", "")) == pytest.approx(float(values.max()), rel=6e-3)

    driven(script, folder)
