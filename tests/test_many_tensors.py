"""Conversions of very many small tensors, which go by columns: what lands is what the formats' own libraries read, in each pair of
formats, with the compiled loops and without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import ckptkit
from ckptkit.plan.ledger import LEDGER
from ckptkit.report.plan import totals

FORMS = ("safetensors", "torch", "tf")
COUNT = 5_200  # the ledger has another form above 5,000
KINDS: tuple[tuple[str, tuple[int, ...]], ...] = (("f4", (3,)), ("f4", (2, 5)), ("i8", ()), ("f2", (4, 1, 2)), ("f4", (1,)), ("u1", (7,)))
Arrays = dict[str, "np.ndarray"]  # type: ignore[type-arg]


def arrays() -> Arrays:
    """Arrays whose every byte tells which they are, in no order of their names."""
    out = {}
    for n in range(COUNT):
        dtype, shape = KINDS[n % len(KINDS) if n % 50 < 20 else 0]
        size = int(np.prod(shape, dtype=int))
        out[f"block_{n * 7 % COUNT}.part_ü{n % 3}"] = (np.arange(size) * 37 + n).astype(dtype).reshape(shape)
    return out


def write(form: str, folder: Path, content: Arrays) -> str:
    """A checkpoint by the format's own library."""
    folder.mkdir()
    if form == "safetensors":
        from safetensors.numpy import save_file

        save_file(content, str(folder / "model.safetensors"))
    elif form == "torch":
        import torch

        torch.save({n: torch.from_numpy(np.array(a)) for n, a in content.items()}, folder / "pytorch_model.bin")
    else:
        tf = pytest.importorskip("tensorflow")
        prefix = str(folder / "model.ckpt")
        with tf.Graph().as_default():
            names, values = list(content), [tf.constant(a) for a in content.values()]
            op = tf.raw_ops.SaveV2(prefix=prefix, tensor_names=names, shape_and_slices=[""] * len(names), tensors=values)
            tf.compat.v1.Session().run(op)
        return prefix
    return str(folder)


def read(form: str, folder: Path) -> Arrays:
    """All tensors of a checkpoint, by the format's own library."""
    if form == "safetensors":
        from safetensors.numpy import load_file

        return load_file(str(folder / "model.safetensors"))
    if form == "torch":
        import torch

        return {n: t.numpy() for n, t in torch.load(folder / "pytorch_model.bin", weights_only=True).items()}
    tf = pytest.importorskip("tensorflow")
    (index,) = folder.glob("*.index")
    reader = tf.train.load_checkpoint(str(index).removesuffix(".index"))
    return {n: reader.get_tensor(n) for n in reader.get_variable_to_shape_map()}


def same(have: Arrays, want: Arrays) -> bool:
    """Whether both hold the same names, types, shapes and bits."""
    return have.keys() == want.keys() and all(
        a.dtype == want[n].dtype and a.shape == want[n].shape and a.tobytes() == want[n].tobytes() for n, a in have.items()
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The path of the arrays in a form, written once."""
    made: dict[str, str] = {}

    def of(form: str) -> str:
        if form not in made:
            made[form] = write(form, tmp_path_factory.mktemp("many") / "source", arrays())
        return made[form]

    return of


def run(code: str, *argv: str, **env: str) -> str:
    """What a Python prints that knows this checkout and no more of ours."""
    paths = os.pathsep.join([str(Path(ckptkit.__file__).parent.parent)])
    done = subprocess.run(
        [sys.executable, "-c", code, *argv], env=os.environ | {"PYTHONPATH": paths, **env}, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("to", FORMS)
def test_each_pair_is_read_by_the_formats_own_libraries(form: str, to: str, source: Callable[[str], str], tmp_path: Path) -> None:
    code = "import sys, ckptkit; ckptkit.convert(sys.argv[1], sys.argv[2], container=sys.argv[3])"
    want = arrays()
    for name, env in (("compiled", {}), ("python", {"CKPTKIT_NO_NATIVE": "1"})):
        run(code, source(form), str(tmp_path / name), to, **env)
        assert same(read(to, tmp_path / name), want)
    told = json.loads((tmp_path / "compiled" / LEDGER).read_text())
    shape = {n: list(a.shape) for n, a in want.items()}
    assert {n: t["shape"] for n, t in told["source"]["tensors"].items()} == shape
    copied = {n: (t["shape"], t["from"], t["how"]) for n, t in told["target"]["tensors"].items()}
    assert copied == {n: (s, [n], "copied") for n, s in shape.items()}
    for path in (tmp_path / "python").iterdir():
        assert path.read_bytes() == (tmp_path / "compiled" / path.name).read_bytes()


@pytest.mark.parametrize("to", FORMS)
def test_nothing_imports_numpy_where_no_number_changes(to: str, source: Callable[[str], str], tmp_path: Path) -> None:
    code = (
        "import sys, ckptkit; ckptkit.convert(sys.argv[1], sys.argv[2], container=sys.argv[3]);"
        "print([m for m in ('numpy', 'logging', 'concurrent', 'random') if m in sys.modules])"
    )
    assert run(code, source("torch"), str(tmp_path / "out"), to) == "[]\n"


def test_what_was_done_is_counted_by_kind(source: Callable[[str], str], tmp_path: Path) -> None:
    done = ckptkit.convert(source("safetensors"), tmp_path / "out", container="torch", dtype="float16", dry_run=True)
    want = arrays()
    wide = [a for a in want.values() if a.dtype == np.float32]
    rest = [a for a in want.values() if a.dtype != np.float32]
    assert totals(done) == {
        "copied": (len(rest), sum(a.nbytes for a in rest)),
        "cast": (len(wide), sum(a.nbytes // 2 for a in wide)),
    }
