"""The action, the hooks and the documented snippets: parsed, and their commands run; the exit status of every command as a table."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
import yaml
from commands import run
from safetensors.numpy import load_file, save_file
from test_gate import SCHEMA, conforms

HF = oracles.made("bert-hf")


def load(name: str) -> Any:
    return yaml.safe_load((oracles.ROOT / name).read_text(encoding="utf-8"))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with a fine and a wrong model, a policy of the fine one, and a `ckptkit` to call."""
    shutil.copytree(HF, tmp_path / "models" / "fine")
    shutil.copytree(HF, tmp_path / "models" / "wrong")
    config = tmp_path / "models" / "wrong" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "num_hidden_layers": 12}))
    (tmp_path / "ckptkit.toml").write_text('[[checkpoint]]\npath = "models/fine"\nexpect = { layers = 4 }\n')
    (tmp_path / "bin").mkdir()
    tool = tmp_path / "bin" / "ckptkit"
    tool.write_text(f'#!/bin/sh\nexec {sys.executable} -m ckptkit "$@"\n')
    tool.chmod(0o755)
    return tmp_path


def shell(script: str, project: Path, **env: str) -> subprocess.CompletedProcess[str]:
    path = f"{project / 'bin'}{os.pathsep}{os.environ['PATH']}"
    full = {**os.environ, "PYTHONPATH": str(oracles.ROOT), "PATH": path, **env}
    return subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", script], cwd=project, env=full, capture_output=True, text=True, timeout=120, check=False
    )


def acted(project: Path, **given: str) -> subprocess.CompletedProcess[str]:
    """The action's second step with these inputs."""
    action = load("action.yml")
    inputs = {k: v["default"] for k, v in action["inputs"].items()} | {"python": isolated(project)} | given
    validate = action["runs"]["steps"][1]
    env = {k: re.sub(r"\$\{\{ inputs\.(\w+) \}\}", lambda m: inputs[m[1]], v) for k, v in validate["env"].items()}
    assert not any("${{" in v for v in env.values())
    return shell(validate["run"], project, GITHUB_STEP_SUMMARY=str(project / "summary.md"), **env)


def isolated(project: Path) -> str:
    """A Python for `python -I -m MODULE` in whose library this ckptkit is, wherever the tests run."""
    code = (
        f"import sys, runpy; sys.path.insert(0, {str(oracles.ROOT)!r}); sys.argv[:3] = []; "
        "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
    )
    python = project / "bin" / "isolated-python"
    python.write_text(f'#!/bin/sh\n[ "$1 $2" = \'-I -m\' ] || exec {sys.executable} "$@"\nexec {sys.executable} -I -c "{code}" "$@"\n')
    python.chmod(0o755)
    return str(python)


EVIL = "open('executed', 'w').close()\n"


def test_the_action_runs_nothing_of_the_checkout(project: Path) -> None:
    """Modules of the checkout with the names of those that pip and ckptkit import. Without -I the first of them would run."""
    evil = ("pip", "numpy", "json", "ckptkit", "re", "encodings", "sitecustomize", "usercustomize", "zlib", "_bootlocale", "torch")
    for name in evil:
        (project / f"{name}.py").write_text(EVIL)
    subprocess.run([sys.executable, "-m", "pip", "--version"], cwd=project, capture_output=True, check=False)
    assert (project / "executed").exists(), "the trap does not work"
    (project / "executed").unlink()
    install = load("action.yml")["runs"]["steps"][0]
    shell(install["run"], project, PYTHON=sys.executable, PACKAGE="./no-such-package", OWN="", PYTHONPATH="")
    done = acted(project, paths="models/fine")
    assert done.returncode == 0, done.stdout + done.stderr
    for hook in load(".pre-commit-hooks.yaml"):
        assert "python" not in hook["entry"]
    assert not (project / "executed").exists()


@pytest.mark.parametrize("how", ["lines", "words"])
def test_names_of_files_are_never_options_and_may_have_blanks(project: Path, how: str) -> None:
    """As from a list of changed files: names that are options, that have blanks, that are patterns for the shell."""
    odd = ["--write-baseline=x.safetensors", "--report=html=x.pt", "-h", "--ignore=layers"]
    odd += ["with blanks", "*", "$(touch executed)", "`touch executed`"] if how == "lines" else []
    for name in odd:
        shutil.copyfile(project / "models" / "wrong" / "model.safetensors", project / name)
    before = {p.name for p in project.iterdir()}
    done = acted(project, paths="\n".join([*odd, "models/wrong"]) + "\n" if how == "lines" else " ".join([*odd, "models/wrong"]))
    assert done.returncode == 1 and "12 layers" in done.stdout, done.stdout + done.stderr
    results = json.loads((project / "ckptkit.sarif").read_text())["runs"][0]["results"]
    assert results and {p.name for p in project.iterdir()} - before == {"ckptkit.sarif", "summary.md"}


def test_the_hook_takes_names_of_files_for_nothing_else(project: Path) -> None:
    hook = next(h for h in load(".pre-commit-hooks.yaml") if h["id"] == "ckptkit-validate")
    for name in ("--write-baseline=x.safetensors", "--report=html=x.pt", "--policy=x.pt", "--no-integrity.pt"):
        assert re.search(hook["files"], name)
        shutil.copyfile(project / "models" / "wrong" / "model.safetensors", project / name)
        done = shell(f"{hook['entry']} '{name}' models/wrong", project)
        assert done.returncode == 1 and "12 layers" in done.stdout and not list(project.glob("x.*"))


def test_the_hook_looks_at_every_kind_of_file_that_holds_weights() -> None:
    hook = next(h for h in load(".pre-commit-hooks.yaml") if h["id"] == "ckptkit-validate")
    looked = lambda name: bool(re.search(hook["files"], name)) and not re.search(hook["exclude"], name)  # noqa: E731
    for name in (
        "a/m.npz",
        "m.npy",
        "m.h5",
        "m.weights.h5",
        "m.pth",
        "model.ckpt-1000.index",
        "a.ckpt.index",
        "adapter.bin",
        "m.msgpack",
        "m.keras",
    ):
        assert looked(name), name
    for name in ("README.md", "optimizer.pt", "a/training_args.bin", "rng_state_0.pth", "model-00001-of-00002.safetensors", "config.json"):
        assert not looked(name), name


@pytest.mark.parametrize(("paths", "status"), [("", 0), ("models/fine models/wrong", 1), ("models/none", 2)])
def test_the_action_annotates_writes_sarif_and_a_summary_and_ends_with_the_status(project: Path, paths: str, status: int) -> None:
    action = load("action.yml")
    assert action["runs"]["using"] == "composite"
    install, validate = action["runs"]["steps"]
    assert "pip install" in install["run"] and validate["shell"] == "bash"
    summary = project / "summary.md"
    done = acted(project, paths=paths)
    assert done.returncode == status, done.stdout + done.stderr
    log = json.loads((project / "ckptkit.sarif").read_text())
    assert conforms(log, SCHEMA) == [] and bool(log["runs"][0]["results"]) == (status > 0)
    assert ("::error file=models/" in done.stdout) == (status > 0)
    assert summary.read_text().startswith("**") and not (project / "ckptkit.sarif.md").exists()


@pytest.mark.parametrize(("package", "installed"), [("", "/own/path"), ("wheels/ckptkit.whl", "wheels/ckptkit.whl")])
def test_the_action_installs_itself_and_never_a_namesake(project: Path, package: str, installed: str) -> None:
    action = load("action.yml")
    step = action["runs"]["steps"][0]
    assert step["if"] == "inputs.package != 'none'" and action["inputs"]["package"]["default"] == ""
    python = project / "bin" / "python"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    values = {"inputs.package": package, "inputs.python": str(python), "github.action_path": "/own/path"}
    env = {k: re.sub(r"\$\{\{ ([\w.]+) \}\}", lambda m: values[m[1]], v) for k, v in step["env"].items()}
    assert shell(step["run"], project, **env).stdout.split() == ["-I", "-m", "pip", "install", "--quiet", installed]


def test_the_documents_name_no_repository_that_is_not_this_one() -> None:
    text = (oracles.ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    assert "OWNER" not in text and "github.com/" not in text and not re.search(r"pip install (-\S+ )*ckptkit", text)


def test_inputs_of_the_action_reach_the_shell_as_variables_only() -> None:
    for step in load("action.yml")["runs"]["steps"]:
        assert "${{" not in step["run"]


def test_the_hooks_run_and_fail_when_they_should(project: Path) -> None:
    hooks = {h["id"]: h for h in load(".pre-commit-hooks.yaml")}
    assert all(h["language"] == "python" and h["entry"].split()[0] == "ckptkit" for h in hooks.values())
    assert shell(hooks["ckptkit-policy"]["entry"], project).returncode == 0
    changed = ["models/fine/model.safetensors", "models/wrong/model.safetensors", "models/x/model-00001-of-00002.safetensors", "README.md"]
    hook = hooks["ckptkit-validate"]
    files = [f for f in changed if re.search(hook["files"], f) and not re.search(hook["exclude"], f)]
    assert files == changed[:2]
    assert shell(f"{hook['entry']} {files[0]}", project).returncode == 0
    done = shell(f"{hook['entry']} {' '.join(files)}", project)
    assert done.returncode == 1 and "12 layers" in done.stdout


def test_the_documented_jobs_install_from_a_repository_and_run(project: Path) -> None:
    if not (oracles.ROOT / ".git").exists():
        pytest.skip("pip installs from a git repository, and this is a copy without one")
    text = (oracles.ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    gitlab = yaml.safe_load(re.search(r"## GitLab\n\n```yaml\n(.*?)```", text, re.S)[1])  # type: ignore[index]
    jenkins = re.findall(r"sh '(.*)'", text[text.index("## Jenkins") :])
    assert len(jenkins) == 2 and "pip install" in jenkins[0] and "pip install" in gitlab["weights"]["script"][0]
    (project / "bin" / "ckptkit").unlink()  # what the jobs install is what they call
    commit = shell("git rev-parse HEAD", oracles.ROOT).stdout.strip()
    # what ckptkit needs is lent by this environment: that it can be installed is shown where the tests' own is made
    lent = os.pathsep.join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    tools = {"CC": "false", "PIP_CONSTRAINT": "", "PIP_NO_DEPS": "1"}  # without a compiler: the wheel does without its module
    where = {"CKPTKIT_URL": oracles.ROOT.as_uri(), "CKPTKIT_REF": commit, "PYTHONPATH": lent, **tools}
    for line in jenkins:
        done = shell(line, project, **where)
        assert done.returncode == 0, done.stdout + done.stderr
    assert ET.fromstring((project / "ckptkit.xml").read_text()).tag == "testsuites" and (project / "ckptkit.sarif").exists()
    (project / "ckptkit.xml").unlink()
    where["PATH"] = f"{project / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    for line in gitlab["weights"]["script"]:
        done = shell(line, project, **where)
        assert done.returncode == 0, done.stdout + done.stderr
    assert ET.fromstring((project / gitlab["weights"]["artifacts"]["reports"]["junit"]).read_text()).tag == "testsuites"


def test_the_documented_snippets_are_what_they_should_be(project: Path) -> None:
    text = (oracles.ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    for block in re.findall(r"```yaml\n(.*?)```", text, re.S):
        yaml.safe_load(block)
    policy = re.search(r"```toml\n(.*?)```", text, re.S)
    assert policy is not None
    (project / "ckptkit.toml").write_text(
        re.sub(r"(?m)^(baseline|lock) .*\n", "", policy[1]).replace("models/bert-*/", "models/fine").replace("layers = 12", "layers = 4")
    )
    done = shell("ckptkit validate", project)
    assert done.returncode == 0, done.stdout + done.stderr


TABLE = [
    ("inspect {fine}", 0), ("inspect {none}", 2), ("inspect {junk}", 2), ("inspect {fine} --container nothing", 2), ("inspect", 2),
    ("validate {fine}", 0), ("validate {wrong}", 1), ("validate {wrong} --ignore layers", 0), ("validate {junk}", 2),
    ("validate {none}", 2),
    ("validate {fine} --expect labels=3", 3), ("validate {fine} --expect layers=4", 0), ("validate {fine} --expect layers=5", 1),
    ("validate {fine} --on local:1", 0), ("validate {fine} --on none:1", 2), ("validate {fine} --on local:1 --no-integrity", 2),
    ("validate {fine} --select nonsense", 2), ("validate {fine} --fail-on never", 2), ("validate {fine} --report pdf=x", 2),
    ("validate {fine} --lock {none}", 2),
    ("validate --expect layers=4", 2), ("validate", 0), ("validate {wrong} {junk}", 2), ("validate {code}", 0),
    ("validate {code} --fail-on warning", 1),
    ("convert {fine} {out} --to google", 0), ("convert {wrong} {out} --to google", 1), ("convert {wrong} {out} --to google --force", 0),
    ("convert {fine} {out} --to nothing", 2), ("convert {junk} {out} --to hf", 2), ("convert {fine} {fine} --to google", 2),
    ("convert {bare} {out} --to hf", 3),
    ("list architectures", 0), ("list dialects", 0), ("list containers", 0), ("list variants", 0), ("list nothing", 2),
    ("diff {fine} {fine}", 0), ("diff {fine} {google}", 0), ("diff {fine} {wrong}", 1), ("diff {fine} {junk}", 2),
    ("diff {fine} {fine} --atol -1", 2),
    ("diff {joined} {fine}", 3), ("digest {fine}", 0), ("digest {none}", 2), ("digest {joined}", 3),
    ("clean {fine}", 0), ("clean {none}", 2), ("clean", 2),
    ("work {plan}", 0), ("work {junk}", 2), ("finish {plan}", 2), ("finish {done}", 0), ("finish {lost}", 1),
    ("convert {fine} {out} --to google --on local:1", 0), ("convert {fine} {out} --to google --on none:1", 2),
    ("lock {fine}", 0), ("lock {junk}", 2), ("lock {joined}", 3), ("lock {fine} -o {fine}", 2),
    ("fix {fine} {out}", 0), ("fix {wrong} {out}", 0), ("fix {wrong} {out} --dry-run", 0), ("fix {cut} {out}", 1),
    ("fix {cut} {out} --dry-run", 1),
    ("fix {junk} {out}", 2), ("fix {wrong} {fine}", 2), ("fix {wrapped} {out}", 0), ("fix {part} {out}", 3),
    ("verify {fine} {google} --level values", 0), ("verify {fine} {other} --level values", 1), ("verify {fine} {junk}", 2),
    ("verify {fine} {other} --probes -1", 2),
    ("verify {fine} {bert24} --level bits", 1), ("verify {fine} {gpt2} --level bits", 3), ("summary {fine}", 0), ("summary {none}", 2),
    ("summary {fine} --format dot", 2), ("summary {bare}", 3),
    ("merge {base} {adapter} {out}", 0), ("merge {fine} {adapter} {out}", 1), ("merge {wrong} {adapter} {out}", 1),
    ("merge {base} {junk} {out}", 2), ("merge {base}", 2),
    ("split {around} {out} {out}2 --alpha 8", 0), ("split {halved} {out} {out}2 --alpha 8", 1), ("split {fine} {out} {out}2", 2),
    ("report {fine} -o {out}.html", 0), ("report {junk} -o {out}.html", 2), ("env", 0), ("env --nonsense", 2),
    ("browse {fine}", 2),
    ("nonsense", 2), ("--version", 0), ("", 0), ("validate --nonsense", 2),
]  # fmt: skip


def test_the_table_has_every_command_and_every_status_that_is_documented() -> None:
    text = (oracles.ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    wanted = set()
    for row in re.findall(r"^\| (`.*)\|$", text, re.M):
        names, *cells = [c.strip() for c in row.split("|")]
        wanted |= {(n, status) for n in re.findall(r"`(\w+)`", names) for status, cell in enumerate(cells) if cell}
    tried = {(line.split()[0], status) for line, status in TABLE if line and line.split()[0] in {n for n, _ in wanted}}
    assert tried == wanted
    commands = {p.stem for p in (oracles.ROOT / "ckptkit" / "cli").glob("[a-z]*.py")}
    assert {n for n, _ in wanted} == commands


def planned(folder: Path, name: str) -> Path:
    """A plan that was begun; "done": whose work is done; "lost": with values too large for their type."""
    plan, source = folder / f"{name}.json", HF
    words = ["--to", "google", "--plan-to", plan]
    if name == "lost":
        source = folder / "large.safetensors"
        save_file({"w": np.full((10, 10), 1e30, np.float32)}, source)
        words = ["--container", "safetensors", "--dtype", "float16", "--force", "--plan-to", plan]
    assert run("convert", source, folder / f"{name}-target", *words).returncode == 0
    if name != "plan":
        assert run("work", plan).returncode == 0
    return plan


def make_others(models: Path) -> None:
    """The model without configuration, the same in a wrapper, the same with a configuration that says no heads, one with
    other weights, one that names code."""
    weights = load_file(HF / "model.safetensors")
    changed = {n: x + 1 if n.endswith("pooler.dense.bias") else x for n, x in weights.items()}
    for name, arrays in (
        ("bare", weights),
        ("wrapped", {"module." + n: x for n, x in weights.items()}),
        ("part", {"module." + n: x for n, x in weights.items()}),
        ("other", changed),
        ("code", weights),
    ):
        (models / name).mkdir()
        save_file(arrays, models / name / "model.safetensors")
    config = json.loads((HF / "config.json").read_text())
    (models / "part" / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k != "num_attention_heads"}))
    (models / "other" / "config.json").write_text(json.dumps(config))
    (models / "code" / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "m.M"}}))


@pytest.mark.parametrize(("line", "status"), TABLE)
def test_every_command_ends_with_the_documented_status(project: Path, line: str, status: int) -> None:
    junk = project / "junk.safetensors"
    junk.write_bytes(b"junk")
    places = {
        "fine": project / "models" / "fine", "wrong": project / "models" / "wrong", "junk": junk, "none": project / "none",
        "out": project / "out",
        **{n: planned(project, n) for n in ("plan", "done", "lost") if f"{{{n}}}" in line},
        "google": oracles.made("bert-google"), "cut": oracles.FIXTURES / "hostile" / "corpus" / "semantic" / "missing_layer_5",
        "joined": oracles.golden("gpt1_npy") / "finetuned_best_params.jl", "gpt2": oracles.golden("hf_gpt2") / "safetensors",
        "bert24": oracles.golden("hf_bert") / "safetensors",
        "around": oracles.FIXTURES / "adapters" / "patterns" / "wrapped.safetensors", "halved": project / "halved.safetensors",
        **{name: oracles.FIXTURES / "adapters" / "rslora" / name for name in ("base", "adapter")},
        **{name: project / "models" / name for name in ("bare", "wrapped", "part", "other", "code")},
    }  # fmt: skip
    if any("{" + name + "}" in line for name in ("bare", "wrapped", "part", "other", "code")):
        make_others(project / "models")
    if "{halved}" in line:
        arrays = load_file(places["around"])
        first = next(n for n in arrays if "lora_B" in n)
        save_file({n: x for n, x in arrays.items() if n != first}, places["halved"])
    done = run(*[word.format(**places) for word in line.split()], cwd=project)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    if status == 2 and line != "validate {wrong} {junk}":  # of several, each is shown
        assert len(done.stderr.splitlines()) == 1 and done.stdout == ""


def test_every_library_is_pinned_once() -> None:
    lines = (Path(__file__).parents[1] / "constraints.txt").read_text().split("\n")
    names = [re.sub("[_.]", "-", re.split(r"[=<>;\[ ]", line)[0].lower()) for line in lines]
    named = [n for n in names if n and not n.startswith("#")]
    assert len(named) == len(set(named)), sorted(n for n in named if named.count(n) > 1)
