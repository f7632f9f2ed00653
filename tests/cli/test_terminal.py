"""What people see on a terminal, driven in real ones: widths, the pager, colours, help, completion, words that are misspelt."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from terminals import COLOUR, COMMAND, on_terminal

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
MODEL = FIXTURES / "made" / "roberta-large-shaped"
BERT = FIXTURES / "made" / "bert-hf"
ADAPTED = tuple(FIXTURES / "adapters" / "rslora" / n for n in ("base", "adapter"))


def plain(*words: object, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR")}
    return subprocess.run([*COMMAND, *map(str, words)], capture_output=True, text=True, env={**kept, **env}, check=False)


SHOWN = {
    "inspect": ("inspect", MODEL),
    "tensors": ("inspect", MODEL, "--tensors"),
    "tree": ("inspect", MODEL, "--tree"),
    "stats": ("inspect", MODEL, "--stats", "--include", "*.0.*"),
    "validate": ("validate", MODEL, "--expect", "layers=12"),
    "diff": ("diff", MODEL, FIXTURES / "golden" / "hf_roberta" / "safetensors"),
    "dry run": ("convert", MODEL, "/nonexistent/out", "--to", "fairseq", "--dry-run"),
    "folder": ("inspect", FIXTURES / "made"),
    "architectures": ("list", "architectures"),
    "variants": ("list", "variants"),
    "help": ("convert", "--help"),
    "every command": ("--help",),
    "environment": ("env",),
}


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.parametrize("what", SHOWN)
def test_lines_fit_the_terminal(what: str, columns: int) -> None:
    out, _ = on_terminal(*SHOWN[what], columns=columns)
    assert out.strip()
    lines = [COLOUR.sub("", line.rpartition("\r")[2]) for line in out.split("\n")]
    long = [line for line in lines if len(line) > columns and len(line.split()) > 1]
    assert not long


@pytest.mark.parametrize(("columns", "figures"), [(60, 3), (80, 4), (140, 8)])
def test_figures_are_shown_on_a_narrow_terminal_too(columns: int, figures: int) -> None:
    out, _ = on_terminal("inspect", MODEL, "--stats", "--include", "*.23.*", columns=columns, rows=200)
    lines = COLOUR.sub("", out.replace("\r", "\n")).splitlines()
    at = next(k for k, line in enumerate(lines) if line.split()[:1] == ["parameter"])
    shown = [w for w in lines[at].split() if w in ("minimum", "maximum", "mean", "deviation", "norm", "nan", "inf", "zeros")]
    assert len(shown) == figures and {"minimum", "maximum", "deviation"} <= {*shown}
    row = next(line for line in lines if line.split()[:1] and line.split()[0].endswith("query.weight"))
    assert ".23." in row and "…" not in row and len(row.split()) >= 1 + figures
    assert "more columns: on a wider terminal, or piped)" in out


def test_what_is_piped_is_whole() -> None:
    done = plain("inspect", MODEL, "--tensors")
    assert "…" not in done.stdout and "\x1b" not in done.stdout
    assert "roberta.encoder.layer.23.attention.output.LayerNorm.weight" in done.stdout


def test_words_are_not_broken() -> None:
    out, _ = on_terminal("validate", MODEL, "--expect", "layers=12", columns=60)
    whole = set(plain("validate", MODEL, "--expect", "layers=12").stdout.split())
    out = re.sub(r"[^\n]*\r", "", COLOUR.sub("", out))  # without the line of progress
    assert {w for w in out.split() if "…" not in w} <= whole


def test_what_is_longer_than_the_screen_goes_through_the_pager(tmp_path: Path) -> None:
    pager = tmp_path / "pager"
    pager.write_text(f"#!{sys.executable}\nimport sys\nprint(f'paged {{len(sys.stdin.read().splitlines())}} lines')\n")
    pager.chmod(0o755)
    out, status = on_terminal("inspect", MODEL, PAGER=str(pager))
    assert re.fullmatch(r"paged \d+ lines\n", out) and status == 0
    for words in (("inspect", MODEL, "--no-pager"), ("--no-pager", "inspect", MODEL)):
        out, _ = on_terminal(*words, PAGER=str(pager))
        assert "paged" not in out and "24 layers" in out
    out, _ = on_terminal("inspect", MODEL, rows=200, PAGER=str(pager))
    assert "paged" not in out  # it fits
    out, status = on_terminal("inspect", MODEL, PAGER="no-such-pager")
    assert "24 layers" in out and status == 0
    assert "paged" not in plain("inspect", MODEL, PAGER=str(pager)).stdout


@pytest.mark.parametrize(
    ("env", "coloured"),
    [
        ({}, True),
        ({"NO_COLOR": "1"}, False),
        ({"CLICOLOR": "0"}, False),
        ({"TERM": "dumb"}, False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
    ],
)
def test_colours_on_a_terminal(env: dict[str, str], coloured: bool) -> None:
    out, _ = on_terminal("inspect", MODEL, **env)
    assert ("\x1b[" in out) == coloured


FORCED = [({}, False), ({"FORCE_COLOR": "1"}, True), ({"CLICOLOR_FORCE": "1"}, True), ({"FORCE_COLOR": "0"}, False)]


@pytest.mark.parametrize(("env", "coloured"), FORCED)
def test_colours_where_output_is_piped(env: dict[str, str], coloured: bool) -> None:
    assert ("\x1b[" in plain("validate", MODEL, "--expect", "layers=12", **env).stdout) == coloured


def test_a_command_alone_shows_what_there_is() -> None:
    for words in ((), ("list",)):
        done = plain(*words)
        assert done.returncode == 0 and done.stdout.startswith("Usage: ckptkit") and not done.stderr


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_the_list_of_commands_is_whole(columns: int) -> None:
    """What a command is for is said to its end, and no usage breaks a word."""
    out, _ = on_terminal("--help", columns=columns, rows=200)
    listed = out.partition("Look:")[2]
    assert "..." not in listed and "…" not in listed and "list      Architectures, dialects, containers and" in listed
    usage = on_terminal("list", "--help", columns=columns, rows=200)[0]
    assert "Usage: ckptkit list [OPTIONS] WHAT" in usage


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_an_error_is_broken_between_words(columns: int) -> None:
    words = ("inspect", "/nonexistent/models/of/mine/checkpoint.safetensors")
    out, status = on_terminal(*words, columns=columns, NO_COLOR="1")
    lines = out.rstrip("\n").split("\n")
    assert status == 2 and all(len(line) <= columns for line in lines) and (columns < 200) == (len(lines) > 1)
    assert out.split() == plain(*words).stderr.split()


def test_names_are_told_apart_where_there_is_little_room() -> None:
    for columns in (60, 80):
        out, _ = on_terminal("inspect", MODEL, columns=columns, rows=200, NO_COLOR="1")
        rows = [line.split() for line in out.splitlines() if " F32 " in line]
        assert len(rows) > 16 and len({row[0] for row in rows}) == len(rows)
        for part in ("query", "key", "value"):
            assert any(part in row[0] for row in rows), part
    out, _ = on_terminal("inspect", MODEL, "--memory", columns=60, rows=200, NO_COLOR="1")
    assert "activations, buffers of libraries and fragmentation come on top." in " ".join(out.split())


def test_help_names_every_command_once() -> None:
    text = plain("--help").stdout.partition("Look:")[2]
    more = ("browse", "fix", "lock", "summary", "digest", "list", "merge", "env")
    for command in ("inspect", "validate", "convert", "verify", "diff", *more):
        assert len(re.findall(rf"^  {command} ", text, re.MULTILINE)) == 1
    help_ = plain("diff", "--help").stdout
    assert help_.index("Options:") < help_.index("How a source is read:") < help_.index("Any command:") < help_.index("--help")


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("conver",), "convert"),
        (("convert", MODEL, "/nonexistent/out", "--to", "hff"), "hf"),
        (("convert", MODEL, "/nonexistent/out", "--container", "safetensor"), "safetensors"),
        (("convert", MODEL, "/nonexistent/out", "--dtype", "bflot16"), "bfloat16"),
        (("validate", MODEL, "--expect", "layres=24"), "layers"),
        (("validate", MODEL, "--ignore", "layrs"), "layers"),
        (("inspect", MODEL, "--architecture", "robrta"), "roberta"),
        (("inspect", MODEL, "--dialect", "fairsek"), "fairseq"),
        (("inspect", MODEL, "--container", "safetensor"), "safetensors"),
        (("inspect", MODEL, "--format", "jsn"), "json"),
        (("inspect", MODEL, "--limit", "rnk=3"), "rank"),
        (("list", "archs"), "architectures"),
        (("inspect", BERT, "--set", "hedas=4"), "heads"),
        (("inspect", BERT, "--include", "*qery*"), "query"),
        (("inspect", BERT, "--histogram", "*qery*"), "query"),
        (("inspect", BERT, "--drop", "*qery*"), "query"),
        (("inspect", BERT, "--sort", "nrm"), "norm"),
        (("convert", BERT, "/nonexistent/out", "--to", "hf", "--dtype", "*qery*=float16"), "query"),
        (("convert", BERT, "/nonexistent/out", "--to", "hf", "--quantize", "fp8-blok"), "fp8-block"),
        (("convert", BERT, "/nonexistent/out", "--to", "hf", "--quantize", "fp8-block", "--keep", "*poler*"), "pooler"),
        (("convert", BERT, "/nonexistent/out", "--to", "hf", "--add", "clasifier"), "classifier"),
        (("convert", BERT, "/nonexistent/out", "--to", "hf", "--drop", "poler"), "pooler"),
        (("summary", BERT, "--freeze", "encodr"), "encoder"),
        (("validate", BERT, "--report", "sarf=x"), "sarif"),
        (("verify", BERT, BERT, "--engines", "trch"), "torch"),
        (("verify", BERT, BERT, "--against", "transfomers"), "transformers"),
        (("verify", BERT, BERT, "--level", "bit"), "bits"),
        (("diff", BERT, BERT, "--dialect-b", "fairsek"), "fairseq"),
        (("report", BERT, "-o", "/nonexistent/page.html", "--architecture", "brt"), "bert"),
        (("merge", *ADAPTED, "/nonexistent/out", "--container", "safetensor"), "safetensors"),
        (("merge", *ADAPTED, "/nonexistent/out", "--base-container", "safetensor"), "safetensors"),
        (("merge", *ADAPTED, "/nonexistent/out", "--dtype", "bfloat"), "bfloat16"),
    ],
)
def test_a_misspelt_word_is_told_what_was_meant(words: tuple[object, ...], meant: str) -> None:
    done = plain(*words)
    assert done.returncode == 2 and not done.stdout
    assert f"did you mean '{meant}'?" in done.stderr and done.stderr.count("\n") == 1


def test_a_word_that_is_expected_and_is_none_is_told_what_was_meant() -> None:
    cases = {"dtype=float23": "float32", "variant=bert-bse": "bert-base", "architecture=brt": "bert", "dialect=gogle": "google"}
    for said, meant in cases.items():
        done = plain("validate", BERT, "--no-integrity", "--expect", said)
        assert done.returncode == 1 and f"did you mean '{meant}'?" in " ".join(done.stdout.split()), done.stdout
    assert "did you mean" not in plain("validate", BERT, "--no-integrity", "--expect", "architecture=roberta").stdout


def test_findings_stand_under_one_another(tmp_path: Path) -> None:
    """Also where the name of a rule is a long one."""
    shutil.copytree(BERT, tmp_path / "m")
    (tmp_path / "m" / "generation_config.json").write_text('{"eos_token_id": 5000}')
    (tmp_path / "m" / "tokenizer_config.json").write_text('{"model_max_length": 5000}')
    lines = plain("validate", tmp_path / "m", "--no-integrity").stdout.splitlines()[1:]
    assert {line[:24].split()[1] for line in lines if line[0] != " "} == {"special-tokens", "tokenizer"}
    assert {len(line) - len(line.lstrip()) for line in lines if line[0] == " "} == {24}
    assert all(line[23] == " " and line[24] != " " for line in lines)


def test_keep_without_quantize_is_a_mistake() -> None:
    done = plain("convert", BERT, "/nonexistent/out", "--to", "hf", "--keep", "*pooler*")
    assert done.returncode == 2 and "Hint: --quantize NAME" in done.stderr


def test_a_word_of_a_policy_is_told_with_its_file(tmp_path: Path) -> None:
    for text in ('ignore = ["layrs"]', "severity = { layrs = 'off' }", "select = ['layrs']"):
        (tmp_path / "ckptkit.toml").write_text(f"{text}\n[[checkpoint]]\npath = '{MODEL}'\n")
        done = plain("validate", "--policy", tmp_path / "ckptkit.toml")
        assert f"{tmp_path / 'ckptkit.toml'}: " in done.stderr and "did you mean 'layers'?" in done.stderr and "--" not in done.stderr
    (tmp_path / "ckptkit.toml").write_text(f"[[checkpoint]]\npath = '{MODEL}'\nexpect = {{ layres = 24 }}\n")
    done = plain("validate", "--policy", tmp_path / "ckptkit.toml")
    assert "ckptkit.toml: expect layres: " in done.stderr and "did you mean 'layers'?" in done.stderr


def test_version_and_environment() -> None:
    import json

    import ckptkit

    assert plain("-V").stdout == plain("--version").stdout == f"ckptkit {ckptkit.__version__}\n"
    found = json.loads(plain("env", "--format", "json").stdout)
    assert found["ckptkit"] == ckptkit.__version__ and found["libraries"]["numpy"] and str(Path.home()) not in json.dumps(found)
    assert type(found["compiled"]) is bool


# --- completion ------------------------------------------------------------------------------------------------------


def completed(shell: str, line: str, folder: Path) -> str:
    """What a shell offers for a command line, with ckptkit's completion set up as README says."""
    script = plain(_CKPTKIT_COMPLETE=f"{shell}_source").stdout
    (folder / "completion").write_text(script)
    words = line.split(" ")
    command = folder / "bin" / "ckptkit"
    command.parent.mkdir(exist_ok=True)
    command.write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    command.chmod(0o755)
    if shell == "bash":
        quoted = " ".join(f"'{w}'" for w in words)
        drive = f"""
            compopt() {{ echo "$@"; }}
            . ./completion
            COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}
            _ckptkit_completion ckptkit
            printf '%s\\n' "${{COMPREPLY[@]}}"
        """
        run = ["bash", "--norc", "-c", drive]
    elif shell == "zsh":
        drive = f"""
            autoload -Uz compinit; compinit -D
            compadd() {{ local i; for i in "$@"; do print -r -- "$i"; done; for i in $completions; do print -r -- "$i"; done }}
            _describe() {{ print -rl -- "${{(@P)3}}" ${{completions}} ${{completions_with_descriptions}} }}
            _path_files() {{ print -r -- files }}
            . ./completion
            words=({" ".join(f"'{w}'" for w in words)}); CURRENT={len(words)}
            _ckptkit_completion
        """
        run = ["zsh", "-f", "-c", drive]
    else:
        run = ["fish", "--no-config", "-c", f"source ./completion; complete -C '{line}'"]
    env = {**os.environ, "PATH": f"{command.parent}:{os.environ['PATH']}", "HOME": str(folder)}
    return subprocess.run(run, capture_output=True, text=True, cwd=folder, env=env, check=False).stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "model.safetensors").touch()
    assert "inspect" in completed(shell, "ckptkit ins", tmp_path)
    assert "roberta" in completed(shell, "ckptkit inspect --architecture robe", tmp_path)
    for line, word in (
        ("ckptkit convert a b --to fairs", "fairseq"),
        ("ckptkit convert a b --container safet", "safetensors"),
        ("ckptkit convert a b --dtype bfl", "bfloat16"),
        ("ckptkit validate a --ignore lay", "layers"),
        ("ckptkit inspect a --format js", "json"),
        ("ckptkit list archi", "architectures"),
        ("ckptkit merge a b c --base-container safet", "safetensors"),
        ("ckptkit report a --dialect fairs", "fairseq"),
        ("ckptkit validate a --report sar", "sarif="),
        ("ckptkit verify a b --engines tor", "torch"),
        ("ckptkit inspect a --set hea", "heads="),
        ("ckptkit inspect a --part gen", "generator"),
    ):
        assert word in completed(shell, line, tmp_path), line
    for words in ("inspect mod", "inspect a --config mod", "diff a mod", "split mod", "validate a --base mod"):
        line = f"ckptkit {words}"
        offered = completed(shell, line, tmp_path)
        assert "model.safetensors" in offered or "files" in offered or "default" in offered or "bashdefault" in offered, line
