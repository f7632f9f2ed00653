"""The notebook of the examples is executed, by nbclient in a kernel of its own, and shows every object as HTML."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import oracles
import pytest
from nbclient import NotebookClient

import ckptkit

NOTEBOOK = oracles.ROOT / "examples" / "objects.ipynb"
# the last line of a cell -> what its HTML says
SHOWN = {
    "found": "4 layers x 32 hidden x 4 heads",
    "checkpoint": "bert.embeddings.word_embeddings.weight",
    "wrong": "config-12.json says 12 layers; the weights hold 24",
    "ckptkit.diff(other, fine)": "the same weights in another dialect and container",
    'ckptkit.diff(fine, "fixtures/golden/hf_bert/safetensors")': "changed",
    "digest": "ckptkit1:",
    'ckptkit.verify(other, fine, level="values")': "same",
    'ckptkit.convert(other, "out/bert-hf", to="hf", dry_run=True)': "would write out/bert-hf",
}


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The output of every cell, by its last line."""
    specs = tmp_path_factory.mktemp("jupyter") / "kernels" / "here"
    specs.mkdir(parents=True)
    words = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (specs / "kernel.json").write_text(json.dumps({"argv": words, "display_name": "here", "language": "python"}))
    with pytest.MonkeyPatch.context() as m:
        m.setenv("JUPYTER_PATH", str(specs.parents[1]))
        m.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(oracles.ROOT), os.environ.get("PYTHONPATH", "")])))
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        nbformat.validate(notebook)
        NotebookClient(notebook, timeout=120, kernel_name="here", resources={"metadata": {"path": str(oracles.ROOT)}}).execute()
    return {c.source.splitlines()[-1]: c.outputs for c in notebook.cells if c.cell_type == "code"}


@pytest.mark.parametrize("last", SHOWN)
def test_an_object_shows_itself(last: str, executed: dict[str, Any]) -> None:
    (output,) = executed[last]
    html = output["data"]["text/html"]
    assert SHOWN[last] in html and "\x1b" not in html
    assert len(output["data"]["text/plain"]) < 500  # what is printed where there is no HTML: a line


def test_every_cell_gives_what_it_says_and_nothing_else(executed: dict[str, Any]) -> None:
    for last, outputs in executed.items():
        assert {o["output_type"] for o in outputs} <= {"execute_result"}, (last, outputs)  # no warning, no error
    assert executed["ckptkit.digest(other).whole == digest.whole"][0]["data"]["text/plain"] == "True"
    assert {*SHOWN} <= {*executed}
    assert not (oracles.ROOT / "out" / "bert-hf").exists()


def test_the_notebook_is_kept_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(c.get("outputs") or c.get("execution_count") for c in notebook.cells)


def test_nothing_of_a_file_is_markup(tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    save_file({"<script>alert(1)</script>": np.zeros(2, np.float32)}, tmp_path / "m.safetensors")
    with ckptkit.open(tmp_path / "m.safetensors") as ck:
        shown = [ck._repr_html_(), ckptkit.inspect(tmp_path / "m.safetensors")._repr_html_()]
    for html in shown:
        assert "<script" not in html and "&lt;script&gt;" in html
    assert len(re.findall("<tr>", shown[0])) == 2
    assert len(repr(ckptkit.measure(tmp_path / "m.safetensors"))) < 300
