"""diff, digest and lock: what counts is the weights, whatever holds them. Figures are checked against numpy in float64."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import oracles
import pytest
from blake3 import blake3
from commands import run
from safetensors.numpy import load_file, save_file

import ckptkit
from ckptkit.graph.examine import examine
from ckptkit.report.diff import conclusion
from ckptkit.verbs import diff as compare
from ckptkit.verbs.diff import diff
from ckptkit.verbs.digest import canonical_digest

HF, GOOGLE = oracles.made("bert-hf"), oracles.made("bert-google")
PAIRS = [
    ("fairseq_roberta_new/model.pt", "fairseq_roberta_new/expected_hf_state_dict.bin"),  # which has a row of segments, all zero
    ("bert_tf", "bert_tf/hf430_converted"),
    ("bert_tf_sharded", "bert_tf_sharded/hf430_converted"),
    ("hf_bert/bin_legacy", "hf_bert/safetensors_sharded"),
    ("hf_bert/bin_sharded", "hf_bert/bin_zip"),
    ("t5_orig_v11", "t5_orig_v11/hf430_converted"),
]


def golden(case: str) -> Path:
    return oracles.FIXTURES / "golden" / case


def altered(folder: Path, **changes: np.ndarray | None) -> Path:
    """A copy of bert-hf with some tensors replaced (or left out: None)."""
    shutil.copytree(HF, folder)
    arrays = load_file(folder / "model.safetensors")
    for name, x in changes.items():
        arrays.pop(name, None)
        if x is not None:
            arrays[name] = np.ascontiguousarray(x)
    save_file(arrays, folder / "model.safetensors")
    return folder


def differ(a: Path, b: Path, **options: float) -> compare.Diff:
    with examine(a) as x, examine(b) as y:
        return diff(x, y, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_a_model_and_its_conversion_by_another_program_are_the_same(a: str, b: str) -> None:
    d = differ(golden(a), golden(b))
    assert d.different == [] and d.exit_code == 0 and conclusion(d).startswith("the same weights"), conclusion(d)
    digests = []
    for path in (a, b):
        with examine(golden(path)) as s:
            digests.append(canonical_digest(s).whole)
    assert digests[0] == digests[1]


def test_figures_are_numpys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "BLOCK", 100)
    name = "bert.encoder.layer.1.intermediate.dense.weight"
    old = load_file(HF / "model.safetensors")[name]
    rng = np.random.default_rng(5)
    new = old.copy()
    at = rng.choice(old.size, 40, replace=False)
    new.reshape(-1)[at] += rng.standard_normal(40).astype(np.float32)
    b = altered(tmp_path / "b", **{name: new})
    for source in (HF, GOOGLE):  # the google form is transposed
        d = differ(source, b)
        (c,) = d.different
        x, y = old.astype(np.float64).ravel(), new.astype(np.float64).ravel()
        want = [
            np.abs(x - y).max(),
            np.abs(x - y).mean(),
            np.linalg.norm(x - y) / np.linalg.norm(x),
            x @ y / np.linalg.norm(x) / np.linalg.norm(y),
        ]
        np.testing.assert_allclose([c.largest, c.mean, c.relative, c.cosine], want, rtol=1e-5)
        assert (c.changed, c.kind, d.exit_code) == (40, "changed", 1)
        assert conclusion(d) == "only layer 1 changed: a fine-tune of A"
    tol = float(np.abs(x - y).max())
    assert differ(HF, b, atol=tol).exit_code == 0
    (c,) = differ(HF, b, atol=tol / 2).different
    assert c.changed == int((np.abs(x - y) > tol / 2).sum())


def test_nan_and_infinity_are_differences_and_do_not_hide_the_rest(tmp_path: Path) -> None:
    name = "bert.encoder.layer.0.output.dense.bias"
    new = load_file(HF / "model.safetensors")[name].copy()
    new[3], new[4] = np.nan, np.inf
    (c,) = differ(HF, altered(tmp_path / "b", **{name: new})).different
    assert c.changed == 2 and c.largest == float("inf")
    assert differ(tmp_path / "b", tmp_path / "b").exit_code == 0
    json.loads(run("diff", HF, tmp_path / "b", "--format", "json").stdout, parse_constant=lambda c: pytest.fail(c))


def test_a_cast_is_told_from_a_change(tmp_path: Path) -> None:
    ckptkit.convert(HF, tmp_path / "half", to="hf", dtypes=[("*", "BF16")])
    d = differ(HF, tmp_path / "half")
    assert d.exit_code == 1 and conclusion(d) == "the same weights, cast from F32 to BF16" and all(c.rounded for c in d.different)
    assert differ(HF, tmp_path / "half", rtol=0.01, atol=1e-6).exit_code == 0
    arrays = load_file(HF / "model.safetensors")
    changed = {n: (x + 0.1).astype(np.float16) for n, x in arrays.items() if n.endswith("query.weight")}
    d = differ(HF, altered(tmp_path / "c", **changed))
    assert not any(c.rounded for c in d.different) and "layers 0-3 changed" in conclusion(d)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"bert.pooler.dense.weight": np.ones((32, 32), np.float32), "bert.pooler.dense.bias": np.ones(32, np.float32)},
            "only the head differs: the pooler changed",
        ),
        (dict.fromkeys(("cls.seq_relationship.weight", "cls.seq_relationship.bias")), "only the head differs: B lacks the nsp"),
        ({"adapter.down": np.ones((3, 4), np.float32)}, "what both hold is the same; B has adapter"),
        (
            {"bert.pooler.dense.bias": np.ones(32, np.float32), "cls.seq_relationship.weight": None, "cls.seq_relationship.bias": None},
            "only the heads differ: the pooler changed, B lacks the nsp",
        ),
        (
            {"bert.encoder.layer.3.output.dense.bias": np.ones(32, np.float32), "bert.pooler.dense.bias": np.ones(32, np.float32)},
            "only the pooler and layer 3 changed: a fine-tune of A",
        ),
        (
            {"bert.embeddings.position_embeddings.weight": np.ones((128, 32), np.float32)},
            "1 parameter has another shape (embeddings.position.weight [64, 32] to [128, 32])",
        ),
    ],
)
def test_the_conclusion_says_what_it_amounts_to(tmp_path: Path, changes: dict[str, np.ndarray | None], says: str) -> None:
    d = differ(GOOGLE, altered(tmp_path / "b", **changes))
    assert conclusion(d).startswith(says), conclusion(d)


def test_two_seeds_are_two_models_and_two_sizes_are_said_to_be(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = load_file(HF / "model.safetensors")
    b = altered(tmp_path / "b", **{n: rng.standard_normal(x.shape).astype(x.dtype) for n, x in arrays.items()})
    assert conclusion(differ(HF, b)).endswith("two different models")
    assert conclusion(differ(golden("bert_tf"), golden("roberta_wwm_large_tf"))).startswith("two models of different sizes")
    assert conclusion(differ(HF, golden("t5_orig_v10"))).startswith("two architectures, bert and t5")


def test_the_digest_is_what_its_definition_says() -> None:
    with examine(HF) as s:
        d = canonical_digest(s)
    stored = load_file(HF / "model.safetensors")
    name, x = "encoder.layers.2.attention.query.weight", stored["bert.encoder.layer.2.attention.self.query.weight"]
    head = f'{{"dtype":"F32","name":"{name}","shape":[{x.shape[0]},{x.shape[1]}]}}\n'
    assert d.parameters[name] == blake3(head.encode() + x.tobytes()).hexdigest()
    lines = "".join(f"{v} {n}\n" for n, v in sorted(d.parameters.items()))
    assert d.whole == "ckptkit1:" + blake3(lines.encode()).hexdigest()
    assert "mlm.decoder.weight" not in d.parameters  # tied


def test_optimizer_state_does_not_count(tmp_path: Path) -> None:
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(GOOGLE / "bert_model.ckpt"))
    names = sorted(reader.get_variable_to_shape_map())
    arrays = {n: reader.get_tensor(n) for n in names}
    arrays |= {f"{n}/adam_m": np.zeros_like(x) for n, x in list(arrays.items())} | {"global_step": np.int64(3)}
    order = sorted(arrays)
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "model.ckpt"),
        tensor_names=order,
        shape_and_slices=[""] * len(order),
        tensors=[tf.constant(arrays[n]) for n in order],
    )
    shutil.copy(GOOGLE / "bert_config.json", tmp_path)
    assert differ(GOOGLE, tmp_path / "model.ckpt").exit_code == 0


def test_a_lock_tells_converted_from_changed(tmp_path: Path) -> None:
    lock = tmp_path / "m.lock.json"
    assert run("lock", GOOGLE, "-o", lock).returncode == 0
    done = run("validate", GOOGLE, "--lock", lock)
    assert done.returncode == 0 and "lock" not in done.stdout
    done = run("validate", HF, "--lock", lock, "--format", "json")
    found = [f for f in json.loads(done.stdout)["findings"] if f["rule"] == "lock"]
    assert done.returncode == 0 and [f["severity"] for f in found] == ["info"] and "same weights" in found[0]["message"]
    new = load_file(HF / "model.safetensors")["bert.pooler.dense.bias"] + 1
    b = altered(tmp_path / "b", **{"bert.pooler.dense.bias": new, "bert.extra": np.ones(3, np.float32)})
    done = run("validate", b, "--lock", lock, "--format", "json")
    found = [f for f in json.loads(done.stdout)["findings"] if f["rule"] == "lock"]
    assert done.returncode == 1 and [f["where"] for f in found] == ["pooler.bias", "bert.extra"]
    assert "changed" in found[0]["message"] and "new" in found[1]["message"]
    c = altered(tmp_path / "c")
    raw = json.loads((HF / "config.json").read_text())
    (c / "config.json").write_text(json.dumps({**raw, "num_attention_heads": 2, "vocab_size": 101, "unknown": 3}))
    done = run("validate", c, "--lock", lock, "--select", "lock", "--format", "json")
    found = [f for f in json.loads(done.stdout)["findings"] if f["severity"] == "error"]
    assert (
        done.returncode == 1
        and [f["where"] for f in found] == ["num_attention_heads"]
        and "2; when m.lock.json was written it was 4" in found[0]["message"]
    )
    d = altered(tmp_path / "d", **{"bert.pooler.dense.bias": new})
    (d / "config.json").write_text((c / "config.json").read_text())
    done = run("validate", d, "--lock", lock, "--select", "lock", "--format", "json")
    assert [f["where"] for f in json.loads(done.stdout)["findings"] if f["severity"] == "error"] == ["num_attention_heads", "pooler.bias"]
    lock.write_text("{}")
    assert run("validate", HF, "--lock", lock).returncode == 2


def test_a_lock_misses_what_a_configuration_no_longer_says_where_a_loader_takes_something_else(tmp_path: Path) -> None:
    (tmp_path / "a.lock").write_text(ckptkit.lock(HF))
    raw = json.loads((HF / "config.json").read_text())
    assert raw["hidden_act"] == "gelu_new" and raw["layer_norm_eps"] == 1e-12  # transformers takes gelu, and the same number
    for key, code in (("hidden_act", 1), ("layer_norm_eps", 0)):
        b = altered(tmp_path / key)
        (b / "config.json").write_text(json.dumps({k: v for k, v in raw.items() if k != key}))
        done = run("validate", b, "--lock", tmp_path / "a.lock", "--select", "lock", "--format", "json")
        found = [f for f in json.loads(done.stdout)["findings"] if f["severity"] == "error"]
        assert done.returncode == code and [(f["where"], "takes 'gelu' there" in f["message"]) for f in found] == [(key, True)] * code


def test_a_policy_holds_digest_and_lock(tmp_path: Path) -> None:
    digest = run("digest", GOOGLE).stdout.split()[0]
    (tmp_path / "ckptkit.toml").write_text(f'[[checkpoint]]\npath = "{HF}"\ndigest = "{digest}"\n')
    assert run("validate", cwd=tmp_path).returncode == 0
    (tmp_path / "ckptkit.toml").write_text(f'[[checkpoint]]\npath = "{golden("bert_tf")}"\ndigest = "{digest}"\n')
    done = run("validate", cwd=tmp_path)
    assert done.returncode == 1 and digest in done.stdout


def test_what_a_naming_has_no_place_for_counts_where_it_holds_something(tmp_path: Path) -> None:
    """ALBERT as wide as its embeddings has no projection; another program's copy of it has one, drawn at random."""
    d = differ(golden("albert_tf_relu"), golden("albert_tf_relu/hf430_converted"))
    assert [c.name for c in d.different] == ["embeddings.project.weight"] and d.exit_code == 1  # its bias is all zero
    assert conclusion(d) == "what both hold is the same; B has embeddings.project.weight"
    ckptkit.convert(golden("albert_tf_relu"), tmp_path / "hf", to="hf")  # writes the identity and zeros
    d = differ(golden("albert_tf_relu"), tmp_path / "hf")
    assert d.different == [] and d.exit_code == 0 and conclusion(d).startswith("the same weights")
    assert ckptkit.digest(tmp_path / "hf").whole == ckptkit.digest(golden("albert_tf_relu")).whole
    path = tmp_path / "hf" / "model.safetensors"
    arrays = load_file(path)
    name = next(n for n in arrays if n.endswith("embedding_hidden_mapping_in.bias"))
    save_file({**arrays, name: -arrays[name]}, path)  # minus zero is another bit
    assert [c.name for c in differ(golden("albert_tf_relu"), tmp_path / "hf").different] == ["embeddings.project.bias"]


@pytest.mark.parametrize("form", ["json", "markdown", "text"])
def test_only_changed_and_metadata_show_what_they_say(tmp_path: Path, form: str) -> None:
    b = altered(tmp_path / "b", **{"bert.encoder.layer.2.output.dense.bias": np.ones(32, np.float32)})
    raw = {**json.loads((HF / "config.json").read_text()), "initializer_range": 0.5, "my_key": 7}
    (b / "config.json").write_text(json.dumps(raw))
    every, some, meta = (
        run("diff", HF, b, "--format", form, *more).stdout.replace("\\_", "_") for more in ((), ("--only-changed",), ("--metadata",))
    )
    assert len(some) < len(every) < len(meta) and "my_key" in meta and "my_key" in every and "initializer_range" in every
    if form == "json":
        assert [p["name"] for p in json.loads(some)["parameters"]] == ["encoder.layers.2.ffn.output.bias"]
        (p,) = json.loads(some)["parameters"]
        assert (
            p["kind"] == "changed"
            and {"max_abs", "mean_abs", "relative_norm", "cosine", "changed", "elements", "place"} <= p.keys()
            and p["place"] == "layer 2"
        )
        assert json.loads(meta)["metadata"]["my_key"] == [None, 7]
    else:
        assert "layer 2" in some and "layer 1" not in some and "layer 1" in every


def test_what_a_configuration_calls_the_model_counts_and_our_own_note_of_it_does_not(tmp_path: Path) -> None:
    """Whoever leaves out model_type has written another configuration; what a conversion notes beside a form without the word is none."""
    shutil.copytree(GOOGLE, tmp_path / "noted")
    said = json.loads((GOOGLE / "bert_config.json").read_text())
    (tmp_path / "noted" / "bert_config.json").write_text(json.dumps({**said, "ckptkit": {"model_type": "bert"}}))
    assert differ(GOOGLE, tmp_path / "noted").config == {} and differ(tmp_path / "noted", GOOGLE).exit_code == 0
    shutil.copytree(HF, tmp_path / "silent")
    said = json.loads((HF / "config.json").read_text())
    del said["model_type"], said["architectures"]
    (tmp_path / "silent" / "config.json").write_text(json.dumps(said))
    assert differ(HF, tmp_path / "silent").config["model_type"] == ("bert", None)
