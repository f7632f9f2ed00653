"""The house: which folder may import which, what stays out of `inspect`, and how large files and functions may be.

Everything is read off the source (`ast`), imports for type checkers and inside functions included, so that an arrow back cannot hide.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import oracles
import pytest

PACKAGE = oracles.ROOT / "ckptkit"

# from the ground up: a folder imports only folders that stand before it. The modules beside them (errors, limits, ...) stand before all
ORDER = (
    "support", "schema", "packing", "store", "containers", "arch", "configuration", "vocabulary", "graph", "scan", "rules", "plan",
    "engine", "fleet", "comparison",
    "runtime", "verbs", "gate", "report", "browse", "cli",
)  # fmt: skip
FLAT = {"__init__", "__main__", "_typing", "_version", "errors", "findings", "limits", "tensors"}
EVERYWHERE = {"ckptkit", "ckptkit.__main__"}  # the front doors, which load everything late

FRAMEWORKS = {
    "numpy",
    "torch",
    "tensorflow",
    "keras",
    "keras_hub",
    "tf_keras",
    "jax",
    "flax",
    "transformers",
    "safetensors",
    "h5py",
    "ml_dtypes",
}

# loops over opcodes, where one branch after another is the clearest form
OPCODE_LOOPS = {("ckptkit/containers/_pickle/interpreter.py", "_run")}

COLUMNS, LINES, FUNCTION, PARAMETERS, WITH_MORE = 140, 450, 80, 7, 15


class Import:
    """One imported thing: by which module, in which line, the module it is of and, if it is none itself, its name there."""

    def __init__(self, importer: str, line: int, module: str, name: str) -> None:
        self.importer, self.line, self.module, self.name = importer, line, module, name

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.module}{':' * bool(self.name)}{self.name}"


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    files = sorted(PACKAGE.rglob("*.py"))
    return {".".join(f.relative_to(oracles.ROOT).with_suffix("").parts).removesuffix(".__init__"): f for f in files}


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text(encoding="utf-8"))


def base_of(module: str, node: ast.ImportFrom) -> str:
    """The module that a `from` names, in full."""
    if not node.level:
        return node.module or ""
    parts = module.split(".") if modules()[module].name == "__init__.py" else module.split(".")[:-1]
    return ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [node.module])])


@cache
def imports(module: str) -> tuple[Import, ...]:
    """Whatever of the package a module imports, anywhere in it: also for type checkers, in functions, and late (`support.lazy`)."""
    out = []
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            out += [Import(module, node.lineno, a.name, "") for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = base_of(module, node)
            whole = {a.name: f"{base}.{a.name}" for a in node.names}
            out += [Import(module, node.lineno, *((w, "") if w in modules() else (base, n))) for n, w in whole.items()]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "later":
            said = [k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)]
            package = module if modules()[module].name == "__init__.py" else module.rpartition(".")[0]
            for text in map(str, said):
                dots = len(text) - len(text.lstrip("."))
                parts = package.split(".")
                out.append(Import(module, node.lineno, ".".join([*parts[: len(parts) - dots + 1], text.lstrip(".")]), ""))
    return tuple(i for i in out if i.module.split(".")[0] == "ckptkit")


def folder_of(module: str) -> str:
    """The folder of the package that a module is in; "" for the modules beside the folders."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ORDER else ""


def every_import() -> Iterator[Import]:
    for module in modules():
        yield from imports(module)


def test_every_module_has_its_place_in_the_order() -> None:
    found = {p.stem if p.suffix == ".py" else p.name for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert found - {*ORDER, *FLAT} == set()
    assert len(list(every_import())) > 800  # what these tests read is read at all


def test_a_folder_imports_only_folders_that_stand_before_it() -> None:
    back = [
        str(i)
        for i in every_import()
        if i.importer not in EVERYWHERE and folder_of(i.module) and (
            not folder_of(i.importer) or ORDER.index(folder_of(i.module)) > ORDER.index(folder_of(i.importer))
        )
    ]  # fmt: skip
    assert back == []


def test_what_is_imported_is_there() -> None:
    lost = [str(i) for i in every_import() if i.module not in modules()]
    assert lost == []


def circles() -> list[list[str]]:
    """The sets of modules each of which imports, over others, itself (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    out = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in {i.module for i in imports(module)} - {module}:
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            ring = stack[stack.index(module) :]
            del stack[-len(ring) :]
            if len(ring) > 1:
                out.append(sorted(ring))

    for module in modules():
        if module not in EVERYWHERE and module not in index:
            visit(module)
    return out


def test_no_module_imports_itself_over_others() -> None:
    assert circles() == []


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def test_no_private_module_and_no_private_name_is_used_in_another_folder() -> None:
    used = [
        str(i)
        for i in every_import()
        if folder_of(i.importer) != folder_of(i.module)
        and folder_of(i.module)
        and any(map(is_private, [*i.module.split(".")[2:], *filter(None, [i.name])]))
    ]
    for module in modules():
        bound = {
            a.asname or a.name: f"{base_of(module, node)}.{a.name}"
            for node in ast.walk(tree_of(module))
            if isinstance(node, ast.ImportFrom)
            for a in node.names
            if f"{base_of(module, node)}.{a.name}" in modules()
        }
        used += [
            f"{module}:{node.lineno} uses {node.value.id}.{node.attr}"
            for node in ast.walk(tree_of(module))
            if isinstance(node, ast.Attribute) and is_private(node.attr) and isinstance(node.value, ast.Name)
            if node.value.id in bound and folder_of(bound[node.value.id]) != folder_of(module)
        ]
    assert used == []


def at_once(body: list[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports that run when a module is imported: not those in functions, nor those for type checkers alone."""
    for node in body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif isinstance(node, ast.If):
            yield from at_once(node.orelse if "TYPE_CHECKING" in ast.unparse(node.test) else [*node.body, *node.orelse])
        elif isinstance(node, (ast.Try, ast.With, ast.ClassDef)):
            inner = [*node.body, *(s for h in getattr(node, "handlers", []) for s in h.body)]
            yield from at_once([*inner, *getattr(node, "orelse", []), *getattr(node, "finalbody", [])])


def test_only_runtime_imports_a_framework_or_numpy_at_its_top() -> None:
    found = [
        f"{module}:{node.lineno} {name}"
        for module in modules()
        if folder_of(module) != "runtime"
        for node in at_once(tree_of(module).body)
        for name in ([a.name for a in node.names] if isinstance(node, ast.Import) else [base_of(module, node)])
        if name.split(".")[0] in FRAMEWORKS
    ]
    assert found == []


def test_no_function_is_longer_than_a_page_but_the_loops_over_opcodes() -> None:
    assert len(OPCODE_LOOPS) <= 2
    long = {(where, f.name): n for where, f in functions() if (n := (f.end_lineno or 0) - f.lineno + 1) > FUNCTION}
    assert {k: n for k, n in long.items() if k not in OPCODE_LOOPS} == {}
    assert long.keys() >= OPCODE_LOOPS  # what has become short needs no exception


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for module, path in modules().items():
        for node in ast.walk(tree_of(module)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield path.relative_to(oracles.ROOT).as_posix(), node


def test_few_functions_take_more_than_seven_parameters() -> None:
    found = []
    for where, f in functions():
        a = f.args
        n = len(a.posonlyargs) + len(a.args) + len(a.kwonlyargs) - (bool(a.args) and a.args[0].arg in ("self", "cls"))
        if n > PARAMETERS and not where.startswith("ckptkit/cli/"):  # a command has as many as it has options
            found.append(f"{where}:{f.lineno} {f.name} ({n})")
    assert len(found) <= WITH_MORE, "\n".join(found)


def sources() -> list[Path]:
    folders = ("ckptkit", "tests", "benchmarks", "examples", "scripts")
    return [p for f in folders for p in sorted((oracles.ROOT / f).rglob("*.py"))]


def test_no_line_is_wider_than_the_page() -> None:
    wide = [
        f"{p.relative_to(oracles.ROOT)}:{i}"
        for p in sources()
        for i, line in enumerate(p.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > COLUMNS
    ]
    assert wide == []


def test_no_file_is_longer_than_it_can_be_read() -> None:
    long = {str(p.relative_to(oracles.ROOT)): n for p in sources() if (n := len(p.read_text(encoding="utf-8").splitlines())) > LINES}
    assert long == {}


# --- inspect ---------------------------------------------------------------------------------------------------------------------

LOOK = """
import json, sys
from ckptkit.cli import main
sys.argv = ["ckptkit", "inspect", sys.argv[1], "--format", "json"]
try:
    main()
except SystemExit as e:
    print(json.dumps({"status": e.code, "modules": sorted(m for m in sys.modules if "." not in m)}), file=sys.stderr)
"""


def keras_archive(folder: Path) -> Path:
    import h5py

    with h5py.File(folder / "model.weights.h5", "w") as f:
        f["layers/dense/vars/0"] = np.zeros((2, 3), "f4")
    config = {"module": "keras", "class_name": "Sequential", "config": {"name": "sequential", "layers": []}}
    with zipfile.ZipFile(folder / "model.keras", "w") as z:
        z.writestr("metadata.json", json.dumps({"keras_version": "3.0.0"}))
        z.writestr("config.json", json.dumps(config))
        z.write(folder / "model.weights.h5", "model.weights.h5")
    return folder / "model.keras"


def array(folder: Path) -> Path:
    np.save(folder / "w.npy", np.zeros((2, 3), "f4"))
    return folder / "w.npy"


INSPECTED: dict[str, Path | Callable[[Path], Path]] = {
    "consolidated": oracles.FIXTURES / "forms" / "meta_llama_tp2",
    "dcp": oracles.FIXTURES / "forms" / "dcp_llama_tp2d" / "checkpoint",
    "deepspeed": oracles.FIXTURES / "forms" / "deepspeed_llama_z3" / "checkpoint",
    "fsdp": oracles.FIXTURES / "made" / "fsdp" / "run",
    "flax": oracles.FIXTURES / "containers" / "flax_model.msgpack",
    "gguf": oracles.FIXTURES / "forms" / "gguf_llama" / "llama-q8_0.gguf",
    "hdf5": oracles.FIXTURES / "containers" / "keras-2.3.1.h5",
    "joblib": oracles.golden("gpt1_npy") / "finetuned_best_params.jl",
    "keras": keras_archive,
    "megatron": oracles.FIXTURES / "forms" / "megatron_legacy_llama_tp2pp2" / "checkpoint",
    "npy": array,
    "orbax": oracles.FIXTURES / "containers" / "orbax" / "plain_files_zarr2",
    "npz": oracles.golden("bert_tf") / "outputs.npz",
    "onnx": oracles.FIXTURES / "containers" / "onnx" / "model.onnx",
    "paddle": oracles.FIXTURES / "containers" / "paddle" / "net_protocol4.pdparams",
    "openai-npy": oracles.golden("gpt1_npy") / "model",
    "safetensors": oracles.golden("hf_bert") / "safetensors",
    "savedmodel": oracles.golden("tf2_small_bert_keras3") / "saved_model",
    "tf": oracles.golden("bert_tf"),
    "tf_v1": oracles.golden("bert_tf_v1") / "bert_model.ckpt",
    "torch": oracles.golden("hf_bert") / "bin_zip",
}


@pytest.mark.parametrize("container", INSPECTED)
def test_inspecting_imports_neither_numpy_nor_a_framework(container: str, tmp_path: Path) -> None:
    at = INSPECTED[container]
    path = at if isinstance(at, Path) else at(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", LOOK, str(path)], capture_output=True, text=True, timeout=120, check=True, cwd=oracles.ROOT
    )
    said = json.loads(done.stderr.splitlines()[-1])
    assert said["status"] == 0 and json.loads(done.stdout)["container"]["name"] == container
    assert "ckptkit" in said["modules"] and FRAMEWORKS.intersection(said["modules"]) == set()


def test_every_container_is_inspected_above() -> None:
    from ckptkit.containers import containers

    assert INSPECTED.keys() == containers().keys()
