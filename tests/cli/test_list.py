"""`ckptkit list` shows the tables themselves."""

from __future__ import annotations

import json
from pathlib import Path

import commands
import oracles
import pytest
from commands import Done

import ckptkit


def run(*args: str) -> Done:
    return commands.run("list", *args)


def listed(what: str) -> list[dict[str, object]]:
    data = json.loads(run(what, "--format", "json").stdout)
    assert data["schema_version"] == 1
    entries: list[dict[str, object]] = data[what]
    return entries


def modules(folder: str) -> set[str]:
    here = Path(ckptkit.__file__).parent / folder
    found = {p.stem for p in here.glob("*.py")} | {p.parent.name for p in here.glob("*/__init__.py")}
    return {stem for stem in found if not stem.startswith("_")}


def test_every_file_of_the_folders_is_listed() -> None:
    assert len(listed("architectures")) == len(modules("arch"))
    assert len(listed("containers")) == len(modules("containers"))


def test_dialects_have_their_container_and_configuration_file() -> None:
    by_name = {(e["architecture"], e["name"]): e for e in listed("dialects")}
    google = by_name["bert", "google"]
    assert (google["container"], google["file"], google["config"]) == ("tf", "bert_model.ckpt", "bert_config.json")
    hf = by_name["bert", "hf"]
    assert (hf["container"], hf["file"], hf["config"]) == ("safetensors", "model.safetensors", "config.json")


def test_a_listed_dialect_is_what_inspect_calls_it() -> None:
    names = {(e["architecture"], e["name"]) for e in listed("dialects")}
    for case in ("bert_tf", "fairseq_roberta_old", "fairseq_roberta_new"):
        found = ckptkit.inspect(oracles.golden(case))
        assert (found.architecture, found.dialect) in names


def test_variants_have_their_sizes() -> None:
    large = next(e for e in listed("variants") if e["name"] == "bert-large")
    assert large["architecture"] == "bert" and large["sizes"] == {"layers": 24, "hidden": 1024, "heads": 16}


def test_a_container_that_is_only_read_says_so() -> None:
    by_name = {e["name"]: e for e in listed("containers")}
    assert by_name["tf"]["writes"] is True and by_name["safetensors"]["reads"] is True
    assert by_name["tf_v1"]["writes"] is False


@pytest.mark.parametrize("form", ["text", "markdown"])
@pytest.mark.parametrize("what", ["architectures", "dialects", "containers", "variants"])
def test_the_forms_name_the_same_entries(what: str, form: str) -> None:
    done = run(what, "--format", form)
    assert done.returncode == 0 and done.stderr == ""
    for entry in listed(what):
        assert str(entry["name"]).replace("_", "\\_" if form == "markdown" else "_") in done.stdout


def test_something_that_is_not_listed_is_one_line_and_status_2() -> None:
    done = run("nonsense")
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1


def test_the_matrix_says_of_every_naming_what_each_container_is_to_it() -> None:
    by_name = {(e["architecture"], e["naming"]): e for e in listed("matrix")}
    assert by_name.keys() == {(e["architecture"], e["name"]) for e in listed("dialects")}
    google = by_name["bert", "google"]
    assert (google["tf"], google["safetensors"], google["hdf5"], google["tf_v1"], google["openai-npy"], google["keras"]) == (
        "own",
        "yes",
        "yes",
        "read",
        "no",
        "no",
    )
    assert by_name["openai-gpt", "openai"]["openai-npy"] == "own"
