"""Wrong models, configurations and indexes: what each must give, and that nothing a file says takes the memory or the time of what it
says."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
from commands import run
from safetensors.numpy import load_file, save_file

BERT = oracles.FIXTURES / "hostile" / "corpus" / "semantic" / "ok_bert12"
GPT2 = oracles.FIXTURES / "hostile" / "corpus" / "semantic" / "gpt2_cfg12_w4"
CLASSES = oracles.hostile_cases("semantic", "config", "sharded")
Arrays = dict[str, np.ndarray]
Change = Callable[[Arrays], object]
L = "encoder.layer."
Q = L + "1.attention.self.query.weight"
TABLE, NORM = "embeddings.word_embeddings.weight", "embeddings.LayerNorm"


@pytest.mark.parametrize("case", CLASSES, ids=[c["id"] for c in CLASSES])
def test_a_case_of_the_corpus_is_as_its_manifest_expects(case: dict[str, Any]) -> None:
    done = run("validate", case["path"])
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    if case["expect"] == "reject":
        assert done.returncode in (1, 2)
    elif case["expect"] == "warn":
        assert re.search(r"(?m)^(error|warning) ", done.stdout) or done.returncode == 2
    elif case["expect"] == "accept":
        assert done.returncode == 0 and not re.search(r"(?m)^(error|warning) ", done.stdout)
    if case["mention"] and case["expect"] in ("reject", "warn"):
        assert re.search(case["mention"], said)


def found(folder: Path) -> list[tuple[str, str]]:
    """(severity, rule) of the errors and warnings; [("error", "unreadable")] where it cannot be read."""
    done = run("validate", folder, "--format", "json")
    if done.returncode == 2:
        assert len(done.stderr.splitlines()) == 1 and "\x1b" not in done.stderr
        return [("error", "unreadable")]
    told = [f for f in json.loads(done.stdout)["findings"] if f["severity"] != "info"]
    got = [(f["severity"], f["rule"]) for f in told]
    undecided = any(f["basis"] == "undecided" for f in told)  # a model that calls itself otherwise is not taken for this one
    assert done.returncode == (1 if any(s == "error" for s, _ in got) else 3 * undecided)
    return got


# --- configurations ------------------------------------------------------------------------------------------------

BIG = 10**30
CONFIGS: list[tuple[dict[str, Any], str]] = [  # what is changed -> "severity rule" of what must be found, "" where nothing may be
    *(({"num_hidden_layers": v}, "error config") for v in (12.0, "12", None, [12], True, -1)),
    *(({"num_hidden_layers": v}, "error layers") for v in (0, 11, 13, 10**9, BIG)),
    *(({"hidden_size": v}, "error config") for v in ("8", None, -8, 8.5, 0)),
    *(({"num_attention_heads": v}, "error heads") for v in (3, 16, 10**12)),
    *(({"num_attention_heads": v}, "error config") for v in (-2, None, True, 0)),
    *(({"vocab_size": v}, "error size") for v in (31, 33, 10**18)),
    *(({"vocab_size": v}, "error config") for v in (-1, 0, {}, False)),
    ({"max_position_embeddings": 512}, "error size"), ({"type_vocab_size": 1}, "error size"), ({"intermediate_size": 32}, "error size"),
    *(({"hidden_act": v}, "warning config") for v in ("frobnicate", "__import__('os')", ["gelu"])),
    *(({"hidden_act": v}, "error config") for v in (None, 3, {"a": 1})),
    *(({"layer_norm_eps": v}, "error config") for v in (-1e-12, "1e-12", None, [1], True)),
    *(({"layer_norm_eps": v}, "warning config") for v in (0, 10)),
    *(({"hidden_dropout_prob": v}, "warning config") for v in (-0.1, 2, "x")),
    ({"initializer_range": "a"}, "warning config"),
    *(({"model_type": v}, "error config") for v in (["bert"], 3)), *(({"model_type": v}, "warning config") for v in ("", None)),
    *(({"model_type": v}, "warning architecture") for v in ("bertish", "../../etc/passwd", "\x1b[31mbert\n")),
    ({"model_type": "gpt2"}, "error architecture"),
    *(({"architectures": v}, "warning config") for v in ("BertModel", [1], [["BertModel"]], ["GPT2Model"])),
    ({"architectures": ["BertForMaskedLM"]}, "warning head"),
    *(({"auto_map": v}, "warning remote-code") for v in ({"AutoModel": "m.X"}, "m.X", ["m.X"], {"AutoTokenizer": ["a.B", None]})),
    ({"trust_remote_code": True}, "warning remote-code"), ({"custom_pipelines": {"x": {"impl": "a.B"}}}, "warning remote-code"),
    ({"nested": {"auto_map": {"A": "m.X"}}}, "warning remote-code"),
    ({"tie_word_embeddings": "no"}, "error config"), ({"tie_word_embeddings": 1}, "warning config"),
    *(({"pad_token_id": v}, "warning config") for v in (99, -7, "0", True)), ({"eos_token_id": [1, 99]}, "warning config"),
    *(({"torch_dtype": v}, "warning dtype") for v in ("float99", "bfloat16", 5, ["float32"])),
    *(({"id2label": v}, "warning config") for v in (["a"], "a")), ({"num_labels": -3}, "warning config"),
    ({"num_labels": 3, "id2label": {"0": "a"}}, "warning config"),
    ({"id2label": {"0": "a"}, "label2id": {"b": 0}}, "warning config"),
    ({"quantization_config": {"quant_method": "gptq"}}, "error packing-config"),
    *(({"quantization_config": v}, "warning config") for v in ("gptq", ["gptq"], {})),
    ({"pruned_heads": {"0": [1]}}, "warning config"),
    ({"position_embedding_type": "relative_key"}, "warning config"), ({"add_cross_attention": True}, "warning config"),
    ({"ckptkit": {"values": {"layers": "x"}, "rest": 3, "form": ["x"], "model_type": 5}}, "error config"),
    ({"ckptkit": {"values": {"vocab": -1}}}, "error config"),
    *(({"ckptkit": v}, "") for v in ("x", 3, [], {"values": 7}, {"form": "google"})),
    *((v, "") for v in ({"unknown": {"a": 1}}, {"torch_dtype": None}, {"dtype": "auto"}, {"auto_map": {}}, {"pad_token_id": None},
        {"pad_token_id": -1}, {"pruned_heads": {}})),
    *((v, "") for v in ({"_name_or_path": "https://h/x"}, {"num_labels": 3}, {"transformers_version": "9.9"}, {"quantization_config": None},
        {"is_decoder": True})),
]  # fmt: skip


def written(tmp: Path, text: bytes) -> Path:
    shutil.copytree(BERT, tmp / "m")
    (tmp / "m" / "config.json").write_bytes(text)
    return tmp / "m"


@pytest.mark.parametrize(("change", "wanted"), CONFIGS, ids=[str(c)[:60] for c, _ in CONFIGS])
def test_a_changed_configuration_is_told(tmp_path: Path, change: dict[str, Any], wanted: str) -> None:
    raw = json.loads((BERT / "config.json").read_text())
    got = found(written(tmp_path, json.dumps({**raw, **change}).encode()))
    assert got == [] if not wanted else tuple(wanted.split()) in got, got
    assert wanted.startswith("error") or not any(s == "error" for s, _ in got)


GOOD = (BERT / "config.json").read_bytes()
TEXTS: list[tuple[str, bytes, bool]] = [  # what it is, the file, whether it is read
    ("empty", b"", False), ("spaces", b" \n", False), ("a list", b"[]", False), ("a string", b'"x"', False), ("NaN", b'{"a":NaN}', False),
    ("too large a number", b'{"hidden_size":1e999}', False),
    ("a key twice", GOOD.replace(b'"hidden_size": 8,', b'"hidden_size": 8, "hidden_size": 16,'), False),
    ("more after it", GOOD + b" {}", False), ("a comment", b"// c\n" + GOOD, False),
    ("cut", GOOD[:60], False), ("half a pair", b'{"model_type":"\\ud800"}', False),
    ("endless digits", b'{"hidden_size":' + b"9" * 5000 + b"}", False), ("bytes", bytes(range(256)), False),
    ("a pickle", b"\x80\x04K\x01.", False), ("a page", b"<!DOCTYPE html>", False), ("a pointer",
        b"version https://git-lfs.github.com/spec/v1\n",
                                                                                                 False), ("deep", b"[" * 10**5, False),
    ("a mark", b"\xef\xbb\xbf" + GOOD, True), ("UTF-32", GOOD.decode().encode("utf-32"), True),
    ("old line ends", GOOD.replace(b"\n", b"\r"), True),
]  # fmt: skip


@pytest.mark.parametrize(("text", "read"), [t[1:] for t in TEXTS], ids=[t[0] for t in TEXTS])
def test_a_configuration_that_is_none_is_an_error_and_the_weights_are_looked_at_all_the_same(
    tmp_path: Path, text: bytes, read: bool
) -> None:
    assert found(written(tmp_path, text)) == ([] if read else [("error", "config")])


@pytest.mark.parametrize("kind", ["directory", "link to another file", "link to itself", "endless", "pipe"])
def test_a_configuration_that_is_no_file_is_an_error(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path, b"") / "config.json"
    path.unlink()
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to({"link to another file": "/etc/passwd", "link to itself": "config.json", "endless": "/dev/zero"}[kind])
    assert found(path.parent) == [("error", "config")]


# --- weights -------------------------------------------------------------------------------------------------------


def put(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Change:
    return lambda a: a.update({name: change(a[name])})


def drop(*words: str) -> Change:
    return lambda a: [a.pop(n) for n in list(a) if any(w in n for w in words)]


def rename(change: Callable[[str], str]) -> Change:
    def apply(a: Arrays) -> None:
        kept = dict(a)
        a.clear()
        a.update({change(n): x for n, x in kept.items()})

    return apply


def numbered(n: str) -> str:
    numbered = re.fullmatch(r"(encoder\.layer\.)(\d+)(.*)", n)
    head, number, tail = numbered.groups() if numbered else (n, None, "")
    return n if number is None else f"{head}{int(number) + 1}{tail}"


def copied(number: str) -> Change:
    return lambda a: a.update({n.replace("11.", number + ".", 1): x for n, x in list(a.items()) if n.startswith(L + "11.")})


def element(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(x: np.ndarray) -> np.ndarray:
        x = x.copy()
        x.flat[3] = value
        return x

    return change


WEIGHTS: list[tuple[str, Change, str]] = [
    ("first layer gone", drop(L + "0."), "error layers"), ("last layer gone", drop(L + "11."), "error layers"),
    ("two gone", drop(L + "3.", L + "7."), "error layers"),
    ("no layer", drop(L), "error architecture"), ("numbered from one", rename(numbered), "error layers"),
    ("a layer far off", copied("999999999"), "error layers"),
    ("one more", copied("12"), "error layers"), ("a layer 01 for 1", rename(lambda n: n.replace(L + "1.", L + "01.")), "error layers"),
    ("layer -1", lambda a: a.update({Q.replace("1.", "-1.", 1): a[Q]}), "warning unexpected"),
    ("no table", drop(TABLE), "error missing"), ("half a pooler", drop("pooler.dense.bias"), "error missing"),
    ("no biases", drop(".bias"), "error missing"), ("no queries", drop("self.query"), "error missing"),
    ("all twice", lambda a: a.update({"bert." + n: x + 1 for n, x in list(a.items())}), "error duplicate"),
    ("one twice", lambda a: a.update({"bert." + Q: a[Q]}), "error duplicate"),
    ("gamma and weight", lambda a: a.update({NORM + ".gamma": a[NORM + ".weight"] + 1}), "error duplicate"),
    ("half with a prefix", rename(lambda n: ("bert." if ".1." in n else "") + n), "error layers"),
    ("an adapter", lambda a: a.update({"x.lora_A.weight": np.eye(3, dtype=np.float32)}), "warning unexpected"),
    ("NaN", put(Q, element(np.nan)), "error nan"), ("-Inf", put(Q, element(-np.inf)), "error inf"),
    ("NaN in a norm", put(NORM + ".weight", element(np.nan)), "error nan"),
    ("1e30", put(Q, element(1e30)), "warning extreme"), ("zeros", put(Q, np.zeros_like), "warning zero"),
    ("a table of zeros", put(TABLE, np.zeros_like), "warning zero"),
    ("ones", put(Q, np.ones_like), "warning constant"), ("all zero", lambda a: a.update({n: x * 0 for n, x in a.items()}), "warning zero"),
    ("all NaN", lambda a: a.update({n: x * np.nan for n, x in a.items()}), "error nan"),
    ("a norm of zeros", put(NORM + ".weight", np.zeros_like), "warning norm"),
    ("a norm below zero", put(NORM + ".weight", lambda x: -x - 1), "warning norm"),
    ("a norm of hundreds", put(NORM + ".weight", lambda x: x * 0 + 300), "warning norm"),
    ("a shift of hundreds", put(NORM + ".bias", lambda x: x * 0 + 300), "warning norm"),
    ("one more dimension", put(Q, lambda x: x[None]), "error shape"), ("flat", put(Q, np.ravel), "error shape"),
    ("a bias of one", put(L + "1.output.dense.bias", lambda x: x[:1]), "error shape"),
    ("no rows", put(Q, lambda x: x[:0]), "error empty"), ("no vocabulary", put(TABLE, lambda x: x[:0]), "error empty"),
    ("no columns", put(Q, lambda x: x[:, :0]), "error empty"),
    ("table transposed", put(TABLE, lambda x: x.T), "error shape"), ("one layer wide",
        lambda a: a.update({n: np.tile(x, 2) for n, x in a.items() if n.startswith(L + "3.")}), "error shape"),
    ("512 positions", put("embeddings.position_embeddings.weight", lambda x: np.tile(x, (32, 1))), "error size"),
    ("a row too few", put(TABLE, lambda x: x[:-1]), "error size"),
    *((f"one of {t}", put(Q, lambda x, t=t: x.astype(t)), "error dtype") for t in ("i4", "i8", "u1", "?", "i1")),
    *((f"one of {t}", put(Q, lambda x, t=t: x.astype(t)), "warning dtype") for t in ("f8", "f2")),
    ("all of i4", lambda a: a.update({n: x.astype("i4") for n, x in a.items()}), "error dtype"),
    ("all of f2", lambda a: a.update({n: x.astype("f2") for n, x in a.items()}), "warning dtype"),
    ("positions backwards", lambda a: a.update({"embeddings.position_ids": np.arange(16)[None, ::-1]}), "warning derived"),
    *((f"prefix {p}", rename(lambda n, p=p: p + n), "") for p in ("module.", "bert.", "_orig_mod.module.")),
    ("prefix model.bert.", rename(lambda n: f"model.bert.{n}"), "warning architecture"),  # transformers finds none of them
    ("gamma and beta", rename(lambda n: n.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta")), ""),
    ("no pooler", drop("pooler"), ""),
    ("transposed square", put(Q, lambda x: x.T), ""), ("half zero", put(Q, lambda x: np.concatenate([x[:4], x[4:] * 0])), ""),
    ("a bias of zeros", put(L + "1.attention.self.query.bias", np.zeros_like), ""),
    ("a small number", put(Q, element(1e-42)), ""), ("positions", lambda a: a.update({"embeddings.position_ids": np.arange(512)[None]}),
        ""),
    ("moments", lambda a: a.update({n + ".exp_avg_sq": x for n, x in list(a.items())}), ""),
]  # fmt: skip


@pytest.mark.parametrize(("change", "wanted"), [w[1:] for w in WEIGHTS], ids=[w[0] for w in WEIGHTS])
def test_changed_weights_are_told(tmp_path: Path, change: Change, wanted: str) -> None:
    shutil.copytree(BERT, tmp_path / "m")
    arrays = load_file(BERT / "model.safetensors")
    change(arrays)
    save_file({n: np.ascontiguousarray(x) for n, x in arrays.items()}, tmp_path / "m" / "model.safetensors")
    got = found(tmp_path / "m")
    assert got == [] if not wanted else tuple(wanted.split()) in got, got
    assert wanted.startswith("error") or not any(s == "error" for s, _ in got)


@pytest.mark.parametrize(
    ("config", "head", "wanted"),
    [
        ({}, lambda x: x, ""), ({}, lambda x: x + 1, "warning tie"), ({}, lambda x: x.T, "error shape"),
        ({}, lambda x: x[:-1], "error shape"), ({"tie_word_embeddings": False}, lambda x: x + 1, ""),
        ({"tie_word_embeddings": False}, lambda x: x, "warning tie"), ({"tie_word_embeddings": False, "architectures": ["GPT2LMHeadModel"]},
            None, "error tie"), ({"n_head": 3}, None, "error heads"),
    ],
)  # fmt: skip
def test_an_output_is_held_against_the_table_and_the_flag(
    tmp_path: Path, config: dict[str, Any], head: Callable[[np.ndarray], np.ndarray] | None, wanted: str
) -> None:
    shutil.copytree(GPT2, tmp_path / "m")
    arrays = load_file(GPT2 / "model.safetensors")
    if head is not None:
        arrays["lm_head.weight"] = np.ascontiguousarray(head(arrays["transformer.wte.weight"]))
    save_file(arrays, tmp_path / "m" / "model.safetensors")
    raw = json.loads((GPT2 / "config.json").read_text())
    (tmp_path / "m" / "config.json").write_text(json.dumps({**raw, "n_layer": 4, **config}))
    got = found(tmp_path / "m")
    assert got == [] if not wanted else tuple(wanted.split()) in got, got
    if wanted == "error shape":  # the table is right: its size is the configuration's
        assert ("error", "size") not in got


VOCABULARIES: list[tuple[dict[str, str], str]] = [
    ({"vocab.txt": "a\n" * 32}, ""), ({"vocab.txt": "a\n" * 31 + "b"}, ""), ({"vocab.txt": "a\n" * 30}, ""),
    ({"vocab.txt": "a\n" * 33}, "error vocabulary"), ({"vocab.txt": ""}, "warning vocabulary"),
    ({"tokenizer.json": json.dumps({"model": {"vocab": {str(i): i for i in range(40)}}})}, "error vocabulary"),
    ({"tokenizer.json": "{"}, "warning vocabulary"), ({"vocab.json": '{"a": 40}'}, "error vocabulary"),
    ({"vocab.txt": "a\n" * 32, "added_tokens.json": '{"x": 32}'}, "error vocabulary"),
    ({"vocab.txt": "a\n" * 32, "tokenizer_config.json":
        '{"added_tokens_decoder": {"33": {}}}'}, "error vocabulary"),
    ({"vocab.txt": "a\n" * 32, "tokenizer.json": json.dumps({"model": {"vocab": [["a", -1.0]] * 33}})}, "error vocabulary"),
    ({"tokenizer_config.json": '{"auto_map": {"AutoTokenizer": ["t.T", null]}}'}, "warning remote-code"),
    ({"tokenizer_config.json": "["}, ""),
]  # fmt: skip


@pytest.mark.parametrize(("files", "wanted"), VOCABULARIES)
def test_every_vocabulary_beside_is_held_against_the_rows(tmp_path: Path, files: dict[str, str], wanted: str) -> None:
    shutil.copytree(BERT, tmp_path / "m")
    for name, text in files.items():
        (tmp_path / "m" / name).write_text(text)
    assert found(tmp_path / "m") == ([tuple(wanted.split())] if wanted else [])


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("roberta-large", True), ("bert-24-layers", True), ("my-6layer-bert", True), ("all-MiniLM-L6-v2", True),
        ("uncased_L-24_H-1024_A-16", True), ("models--roberta-large/snapshots/0123456789abcdef", True),
        ("bert-large/checkpoint-500", True), ("bert", False), ("tiny-12-layers", False), ("bert-large-12-layers", False), ("L12-x", False),
        ("bert-large/notes", False),
    ],
)  # fmt: skip
def test_a_name_that_promises_other_layers_is_told(tmp_path: Path, path: str, told: bool) -> None:
    shutil.copytree(BERT, tmp_path / path)
    assert found(tmp_path / path) == ([("warning", "variant")] if told else [])


def test_a_layer_far_off_is_refused_by_a_forced_conversion_too(tmp_path: Path) -> None:
    shutil.copytree(BERT, tmp_path / "m")
    arrays = load_file(BERT / "model.safetensors")
    copied("999999999")(arrays)
    save_file(arrays, tmp_path / "m" / "model.safetensors")
    done = run("convert", tmp_path / "m", tmp_path / "out", "--to", "google", "--force")
    assert done.returncode == 2 and "over the limit tensors" in done.stderr and not (tmp_path / "out").exists()
