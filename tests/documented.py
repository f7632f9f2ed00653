"""What the commands of README.md and docs/ are run on (tests/test_documentation.py)."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import oracles
from safetensors.numpy import load_file, save_file

sys.path.insert(0, str(oracles.ROOT / "scripts"))  # command_pages

FIXTURES = oracles.FIXTURES
Maker = Callable[[Path], object]


def linked(where: str) -> Maker:
    """The name is a file or folder of fixtures/."""
    return lambda path: path.symlink_to(FIXTURES / where)


def prefix(where: str) -> Maker:
    """The name is a TensorFlow prefix, with what lies beside it."""
    return lambda path: shutil.copytree(FIXTURES / where, path.parent, dirs_exist_ok=True)


def converted(where: str, *how: str) -> Maker:
    """The name is what `convert` makes of a fixture."""

    def make(path: Path) -> None:
        from commands import run

        done = run("convert", FIXTURES / where, path, *how)
        assert done.returncode == 0, done.stderr

    return make


def llama(layers: int = 4) -> Maker:
    """A Llama of so many layers: llama_whole's first one again and again, on a configuration that says so."""

    def make(path: Path) -> None:
        whole = FIXTURES / "forms" / "llama_whole"
        arrays = dict(load_file(whole / "model.safetensors"))
        for name in [n for n in arrays if ".layers." in n]:
            del arrays[name]
        first = {n: a for n, a in load_file(whole / "model.safetensors").items() if ".layers.0." in n}
        arrays |= {n.replace(".layers.0.", f".layers.{k}."): np.roll(a, k) for k in range(layers) for n, a in first.items()}
        path.mkdir()
        save_file(arrays, path / "model.safetensors")
        config = json.loads((whole / "config.json").read_text())
        (path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": layers}))

    return make


def incomplete(path: Path) -> None:
    """A BERT without the output matrix of its second layer."""
    source = oracles.made("bert-hf")
    arrays = dict(load_file(source / "model.safetensors"))
    del arrays["bert.encoder.layer.1.output.dense.weight"]
    path.mkdir()
    save_file(arrays, path / "model.safetensors")
    shutil.copyfile(source / "config.json", path / "config.json")


def several(path: Path) -> None:
    path.mkdir()
    for name in ("first", "second"):
        shutil.copytree(FIXTURES / "made" / "bert-hf", path / name)


def wrapped(path: Path) -> None:
    """A model that was saved with its adapter around it, and the adapter's configuration beside it."""
    shutil.copytree(FIXTURES / "faults" / "peft" / "unmerged", path)
    shutil.copyfile(FIXTURES / "faults" / "peft" / "adapter" / "adapter_config.json", path / "adapter_config.json")


BERT, RUN, LLAMA = linked("made/bert-hf"), linked("forms/dcp_llama_tp2d/checkpoint"), linked("forms/llama_whole")

# what a page's names are, where they stand for the reader's own
NAMES: dict[str, dict[str, Maker]] = {
    "README.md": {"bert_model.ckpt": prefix("made/bert-google"), "roberta-large/": linked("made/roberta-large-shaped")},
    "docs/adapters.md": {
        "lora/": linked("adapters/rslora/adapter"), "llama/": linked("adapters/rslora/base"), "wrapped/": wrapped,
    },
    "docs/convert.md": {
        "bert_model.ckpt": prefix("made/bert-google"), "bert-hf/": BERT,
        "roberta.large/model.pt": linked("golden/fairseq_roberta_old/model.pt"),
        "big/": BERT, "model.pt": linked("golden/hf_bert/bin_zip/pytorch_model.bin"), "model.keras": linked("containers/keras-2.3.1.h5"),
        "saved_model/": linked("golden/tf2_small_bert_keras3/saved_model"), "run/": linked("golden/tf2_small_bert_keras3/manager"),
        "narrow/": linked("made/model_garden/factored"), "RUN": RUN, "config.json": linked("forms/llama_whole/config.json"),
        "model/": llama(),
    },
    "docs/models.md": {"incomplete/": incomplete},
    "docs/packed.md": {"q/": converted("forms/llama_whole", "--to", "hf", "--quantize", "fp8-block"), "hf/": LLAMA},
    "docs/report.md": {"bert-hf/": BERT, "base/": BERT, "fine-tuned/": BERT, "runs/": several},
}  # fmt: skip

# (page, command) -> the exit status that the page says it has, where it is not 0
STATUS: dict[tuple[str, str], int] = {}

# (page, what the line matches) -> the test that runs it; "" for what is no command, or could not be run without a network
ELSEWHERE: dict[tuple[str, str], str] = {
    ("README.md", r"^path -- "): "",  # a diagram
    ("README.md", r"^ +\(bytes, extents\)"): "",
    ("README.md", r"^scripts/"): "",  # one makes an environment over the network, the other is what runs this test
    ("README.md", r"^python3 -m pip install \.$"): "",
    ("README.md", r"_CKPTKIT_COMPLETE"): "tests/cli/test_terminal.py",
    ("CONTRIBUTING.md", r"^scripts/test.sh"): "",
    ("CONTRIBUTING.md", r"^python benchmarks/"): "tests/test_benchmarks.py",  # minutes, on a machine that does nothing else
    ("CONTRIBUTING.md", r"^python -m ckptkit.rules"): "tests/test_rules.py",
    ("CONTRIBUTING.md", r"^python scripts/(readme_tables|picture).py"): "tests/test_readme.py",
    ("CONTRIBUTING.md", r"^python scripts/index_architectures.py"): "tests/test_architecture_index.py",
    ("CONTRIBUTING.md", r"^python scripts/index_containers.py"): "tests/containers/test_index.py",
    ("docs/ci.md", r"^```(toml|yaml|groovy)"): "tests/test_ci.py",
    ("docs/digest.md", r"^ckptkit1:"): "",  # what one looks like
    ("docs/first-steps.md", r"^git clone|^cd |^python3 -m pip install \.$"): "",
    ("docs/how-it-works.md", r"^path -- |^ +\|"): "",
    ("docs/how-it-works.md", r"^```python"): "tests/test_adding_an_architecture.py",
    ("docs/how-to/gate-in-ci.md", r"^```toml"): "",
    ("docs/report.md", r"^ckptkit browse "): "tests/test_browse.py",
    ("docs/fleet.md", r"^```python| --on (ray|dask)"): "tests/test_fleet.py",
    ("docs/fleet.md", r"s3://|--on local"): "tests/test_fleet_array.py",
    ("docs/stores.md", r"^```console"): "tests/test_stores.py",  # against servers of its own: these are other people's
    ("docs/packed.md", r"gpt-oss/ m.gguf"): "tests/test_gguf_mxfp4.py",
    ("docs/packed.md", r"gpt-oss/original/"): "tests/test_gpt_oss_original.py",
    ("docs/models.md", r"^```python"): "tests/runtime/test_docs.py",
    ("docs/models.md", r"--to (onnx|pt2|savedmodel|keras)$"): "tests/runtime/test_export.py",
    ("docs/models.md", r"^python examples/"): "tests/runtime/test_examples.py",
}

OPTIONS_OF_OTHERS = {
    *("--corpus", "--variants", "--kills", "--megabytes", "--signals"),  # of programs in tests/
    *("--generate-hashes", "--require-hashes"),  # pip's
    *("--epochs", "--model", "--rate", "--vocab", "--task", "--length", "--no-dropout"),  # of examples/
    *("--only", "--rounds", "--peer-rounds", "--no-memory", "--against"),  # benchmarks/run.py's
    "--strict",  # mkdocs'
}



def _is(have: object, want: object) -> None:
    assert have == want


def _readme(names: dict[str, Any], out: str) -> None:
    assert "BertForPreTraining" in out and Path("bert-hf/model.safetensors").exists()
    assert [f.rule for f in names["report"].findings if f.severity == "error"] == []


def _digest(names: dict[str, Any], out: str) -> None:
    """The page's definition gives what ckptkit gives, of arrays that torch's naming has as they are: a BERT's in canonical names."""
    import ckptkit
    from ckptkit.graph.canonical_arrays import Weights

    with ckptkit.examine(oracles.made("bert-hf")) as subject:
        weights = Weights(subject)
        arrays = {n: np.ascontiguousarray(weights.get(n)) for n in subject.graph.params}
    own = ckptkit.digest(oracles.made("bert-hf"))
    assert names["digest"]({n: ("F32", a) for n, a in arrays.items() if n in own.parameters}) == own.whole


def _measured(names: dict[str, Any], out: str) -> None:
    assert re.search(r"^3 \S+ 0\.\d+ 0$", out, re.M), "the figures of a tensor of layer 3"
    assert names["m"].digest and len(names["m"].tensors) > 60


# page -> what must be so after its Python has run: (its names, what was printed)
PYTHON: dict[str, Callable[[dict[str, Any], str], None]] = {
    "README.md": _readme,
    "docs/digest.md": _digest,
    "docs/first-steps.md": lambda names, out: _is(out, "(2, 32)\n"),
    "docs/how-to/bert-from-tensorflow.md": lambda names, out: _is(out, "4\n"),
    "docs/report.md": _measured,
}

VERBS = {"convert": 1, "merge": 1, "split": 2, "fix": 1}  # how many of the last arguments are written


def put(page: str, words: Sequence[str], folder: Path) -> None:
    """Make those of the page's names that `words` read, in `folder`."""
    plain = [w for w in words if not w.startswith("-")]
    written = set()
    if plain and plain[0] in VERBS:
        ends = [k for k, w in enumerate(words) if w.startswith("-")]
        arguments = list(words[1 : ends[0] if ends else None])
        written = set(arguments[-VERBS[plain[0]] :])
    if "-o" in words:
        written.add(words[list(words).index("-o") + 1])
    for name, make in NAMES.get(page, {}).items():
        path = folder / name
        if name in words and name not in written and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            make(path)
