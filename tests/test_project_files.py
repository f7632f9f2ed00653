"""What surrounds the code: workflows, the site's configuration, the manual pages, the image, the citation, the templates."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import documented  # noqa: F401  (puts scripts/ on the path)
import manual
import oracles
import pytest
import yaml
from commands import run

import ckptkit

ROOT = oracles.ROOT
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [s for v in value.values() for s in strings(v)]
    return [s for v in value for s in strings(v)] if isinstance(value, list) else [value] if isinstance(value, str) else []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.name)
def test_workflows_pin_what_they_use_and_may_do_little(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    used = re.findall(r"uses: (\S+)(.*)", text)
    assert used and all(re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", what) and re.search(r"# v\d", rest) for what, rest in used), used
    parsed = yaml.safe_load(text)
    assert parsed["permissions"] == {"contents": "read"}
    for name, job in parsed["jobs"].items():
        assert "write" not in str(job.get("permissions", "")) or name == "release"
        for step in job["steps"]:
            assert "${{" not in step.get("run", ""), "what is not ours reaches a shell as a variable only"
            assert not step.get("uses", "").startswith("actions/checkout@") or step["with"]["persist-credentials"] is False
            for script in re.findall(r"\bscripts/[\w.]+", step.get("run", "")):
                assert (ROOT / script).exists(), script


def test_one_commit_for_each_action_everywhere() -> None:
    """And of each action that the pages show, too, a commit."""
    pins = {}
    for path in WORKFLOWS:
        for action, commit in re.findall(r"uses: ([\w./-]+)@(\S+)", path.read_text(encoding="utf-8")):
            assert pins.setdefault(action, commit) == commit
    assert all(re.fullmatch(r"[0-9a-f]{40}", c) for c in re.findall(r"^ +- uses: [^.@]\S*@(\S+)", read("docs/ci.md"), re.M))


def test_a_release_goes_to_the_repository_and_never_to_the_name_on_pypi() -> None:
    workflow = yaml.safe_load(read(".github/workflows/publish.yml"))
    said = " ".join(strings(workflow)).lower()
    assert "twine" not in said and "pypi" not in said and "gh release create" in said and "sha256sum" in said
    release = workflow["jobs"]["release"]
    assert release["if"] == "github.event_name == 'push'" and set(release["needs"]) == {"wheels", "sdist"}
    assert [s["uses"].partition("@")[0] for s in release["steps"] if "uses" in s] == ["actions/download-artifact", "actions/attest"]
    for text in (read("Dockerfile"), *(p.read_text() for p in WORKFLOWS)):
        assert not [m for m in re.findall(r"pip install[^\n]*\bckptkit\b", text) if "--no-index" not in m]


@pytest.mark.parametrize(("tag", "status"), [(f"v{ckptkit.__version__}", 0), ("v99.0.0", 1), (ckptkit.__version__, 1)])
def test_a_tag_that_is_not_the_version_is_not_released(tag: str, status: int) -> None:
    step = yaml.safe_load(read(".github/workflows/publish.yml"))["jobs"]["version"]["steps"][1]
    done = subprocess.run(["bash", "-e", "-c", step["run"]], cwd=ROOT, env={**os.environ, "TAG": tag}, check=False)
    assert done.returncode == status


def test_the_version_is_everywhere_the_same() -> None:
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["version"] == ckptkit.__version__ and citation["license"] == "Apache-2.0" and citation["authors"]
    assert re.search(rf"^## {re.escape(ckptkit.__version__)}\b", read("CHANGELOG.md"), re.M)


def test_forms_for_issues_ask_for_what_commands_give() -> None:
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        if path.name == "config.yml":
            continue
        assert {"name", "description", "body"} <= form.keys()
        ids = [b["id"] for b in form["body"] if b["type"] != "markdown"]
        assert len(ids) == len(set(ids)) > 2
        for command in re.findall(r"`ckptkit (\w+)", path.read_text(encoding="utf-8")):
            assert run(command, "--help").returncode == 0


def test_the_image_is_slim_and_runs_as_nobody() -> None:
    text = read("Dockerfile")
    stages = text.split("\nFROM ")
    last = stages[-1]
    assert all(re.search(r":\d\.\d+-slim\b", s.partition("\n")[0]) for s in stages[1:]) and "gcc" not in last
    assert re.search(r"^USER (?!0)\d+:\d+$", last, re.M) and 'ENTRYPOINT ["ckptkit"]' in last
    ignored = read(".dockerignore").splitlines()
    assert "*" in ignored and all((ROOT / line[1:]).exists() for line in ignored if line.startswith("!") and line != "!setup.py")


# ------------------------------------------------------------------------------------------------------------- the site


def test_every_page_has_its_place_in_the_site() -> None:
    config = yaml.safe_load(read("mkdocs.yml"))
    pages = {str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*.md")}
    assert set(strings(config["nav"])) == pages | {"index.md", "commands/", "changelog.md", "contributing.md", "reporting.md"}
    assert len(strings(config["nav"])) == len(pages) + 5
    assert all((ROOT / hook).exists() for hook in config["hooks"]) and config["theme"]["font"] is False
    for name in ("omitted_files", "not_found"):
        assert config["validation"]["nav"][name] == "warn"
    assert config["validation"]["links"]["not_found"] == config["validation"]["links"]["anchors"] == "warn"


def test_the_page_of_the_api_has_every_public_name() -> None:
    assert set(ckptkit.__all__) <= set(re.findall(r"^::: ckptkit\.(\w+)$", read("docs/api.md"), re.M))


def test_what_the_site_is_made_of_is_pinned() -> None:
    extra = re.search(r"^docs = \[(.*)\]$", read("pyproject.toml"), re.M)
    assert extra is not None
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in read("constraints.txt").splitlines() if "==" in line}
    assert set(re.findall(r'"([\w-]+)>=', extra[1])) <= pinned


@pytest.mark.skipif(not os.environ.get("CKPTKIT_SITE"), reason="the site is built with CKPTKIT_SITE=1, and by .github/workflows/docs.yml")
def test_the_site_is_built_strictly(tmp_path: Path) -> None:
    mkdocs = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(mkdocs, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    api = (tmp_path / "site" / "api.html").read_text(encoding="utf-8")
    assert all(f'id="ckptkit.{name}"' in api for name in ckptkit.__all__)
    assert "--max-shard-size" in (tmp_path / "site" / "commands" / "convert.html").read_text(encoding="utf-8")


# -------------------------------------------------------------------------------------------------- commands and manual


def test_manual_pages_are_of_every_command_and_option(tmp_path: Path) -> None:
    assert manual.main([str(tmp_path / "man1")]) == 0
    texts = {p.name: p.read_text(encoding="utf-8") for p in (tmp_path / "man1").iterdir()}
    listed = run("--help").stdout
    names = re.findall(r"^  ([a-z]+)  ", listed, re.M)
    assert len(names) > 12 and {f"ckptkit-{n}.1" for n in names} | {"ckptkit.1"} == set(texts)
    for name in names:
        shown = run(name, "--help").stdout
        options = set(re.findall(r"(?<![\w-])--[a-z][\w-]+", shown.partition("Options:")[2]))
        have = texts[f"ckptkit-{name}.1"].replace(r"\-", "-")
        assert options and all(o in have for o in options)
        assert f"ckptkit-{name}(1)" in texts["ckptkit.1"].replace(r"\-", "-")


def test_text_that_roff_would_interpret_is_escaped() -> None:
    assert manual.escaped(".so /etc/passwd\n'x \\fB `--to`") == "\\&.so /etc/passwd\n\\&'x \\efB \\-\\-to"
    assert manual.quoted('a "b"') == '"a \\(dqb\\(dq"'


@pytest.mark.skipif(shutil.which("groff") is None, reason="not tested: groff is not installed")
def test_groff_has_nothing_to_say_of_the_manual_pages() -> None:
    for name, text in manual.manual().items():
        done = subprocess.run(["groff", "-man", "-ww", "-z", "-Tutf8"], input=text.encode(), capture_output=True, check=False)
        assert done.returncode == 0 and not done.stderr, (name, done.stderr.decode())
