"""Every rule of docs/rules.md: a checkpoint that it finds something in, and the nearest one in which it finds nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import oracles
import packed_makers as packed
import pytest
import ranks_makers
from cousins import bare
from pipelines import component
from safetensors.numpy import load_file, save_file
from trained import damaged, sound
from two_kinds import two_kinds

from ckptkit.containers._tensorflow import table
from ckptkit.findings import SEVERITIES, Finding
from ckptkit.gate.policy import Entry
from ckptkit.gate.run import check
from ckptkit.gate.selection import Choice
from ckptkit.graph.reading import Reading
from ckptkit.rules import RULES

HF = oracles.made("bert-hf")
HOSTILE = oracles.FIXTURES / "hostile" / "corpus"
LAYER, DECODER = "bert.encoder.layer.", "cls.predictions.decoder.weight"
Q, NORM = LAYER + "1.attention.self.query.weight", LAYER + "1.output.LayerNorm"
Arrays = dict[str, np.ndarray]


class Model(NamedTuple):
    """Where a checkpoint lies, and how it is checked."""

    path: Path
    expect: dict[str, str] | None = None
    lock: str = ""
    digest: str = ""
    against: str = ""
    base: str = ""


def findings(model: Model) -> tuple[Finding, ...]:
    entry = Entry(str(model.path), Choice(), model.expect or {}, (), model.lock, model.digest, Reading(), True)
    return check(entry._replace(against=model.against, base=model.base)).findings


Maker = Callable[[Path], Model]


def at(make: Callable[[Path], Path], over: str = "") -> Maker:
    """What a function writes and names, an adapter `over` a base."""
    return lambda folder: Model(make(folder), base=str(oracles.FIXTURES / "adapters" / over / "base") if over else "")


def bert(
    change: Callable[[Arrays], object] = lambda a: None,
    files: dict[str, str] = {},  # noqa: B006
    name: str = "m",
    **config: Any,
) -> Maker:
    """bert-hf with other tensors, configuration, or files beside it. A configuration's None takes the key away."""

    def make(tmp: Path) -> Model:
        shutil.copytree(HF, tmp / name)
        arrays = load_file(HF / "model.safetensors")
        change(arrays)
        save_file({n: np.ascontiguousarray(x) for n, x in arrays.items()}, tmp / name / "model.safetensors")
        raw = {**json.loads((HF / "config.json").read_text()), **config}
        (tmp / name / "config.json").write_text(json.dumps({k: v for k, v in raw.items() if v is not None}))
        for file, text in files.items():
            (tmp / name / file).write_text(text)
        return Model(tmp / name)

    return make


def put(name: str, x: Callable[[np.ndarray], np.ndarray]) -> Callable[[Arrays], object]:
    return lambda a: a.update({name: x(a[name])})


def one(value: float) -> Callable[[np.ndarray], np.ndarray]:
    """One element replaced."""

    def change(x: np.ndarray) -> np.ndarray:
        x = x.copy()
        x.flat[5] = value
        return x

    return change


def drop(*words: str) -> Callable[[Arrays], object]:
    return lambda a: [a.pop(n) for n in list(a) if any(w in n for w in words)]


def sparse_second(**config: object) -> Maker:
    return lambda tmp: Model(two_kinds(tmp, **config))


def hostile(case: str) -> Maker:
    return lambda tmp: Model(HOSTILE / case)


def faults(case: str) -> Maker:
    return lambda tmp: Model(oracles.FIXTURES / "faults" / case)


def golden(case: str) -> Maker:
    return lambda tmp: Model(oracles.golden(case.partition("/")[0]) / case.partition("/")[2])


def exchanged(a: Arrays) -> None:
    a[NORM + ".weight"], a[NORM + ".bias"] = a[NORM + ".bias"] * 0, a[NORM + ".weight"]


def t5(gated: bool) -> Maker:
    """T5 v1.1, whose weights are gated, with a configuration that says so or not."""

    def make(tmp: Path) -> Model:
        shutil.copytree(oracles.golden("hf430_t5_v11") / "safetensors", tmp / "m")
        path = tmp / "m" / "config.json"
        raw = json.loads(path.read_text())
        for key in ("is_gated_act", "dense_act_fn"):
            raw.pop(key, None)
        path.write_text(json.dumps({**raw, "feed_forward_proj": "gated-gelu" if gated else "relu"}))
        return Model(tmp / "m")

    return make


def gpt1(tensors: int = 0, arrays: int = 10) -> Maker:
    """OpenAI's GPT folder with so many tensors fewer, in so many arrays."""

    def make(tmp: Path) -> Model:
        shutil.copytree(oracles.golden("gpt1_npy") / "model", tmp / "model")
        shapes = json.loads((tmp / "model" / "params_shapes.json").read_text())
        flat = np.concatenate([np.load(tmp / "model" / f"params_{n}.npy") for n in range(10)])
        for n in range(10):
            (tmp / "model" / f"params_{n}.npy").unlink()
        cut = sum(int(np.prod(s)) for s in shapes[len(shapes) - tensors :])
        for n, part in enumerate(np.array_split(flat[: len(flat) - cut], arrays)):
            np.save(tmp / "model" / f"params_{n}.npy", part)
        (tmp / "model" / "params_shapes.json").write_text(json.dumps(shapes[: len(shapes) - tensors]))
        return Model(tmp / "model")

    return make


def beside_a_link(to: str) -> Maker:
    """A model with a vocabulary that is a link."""

    def make(tmp: Path) -> Model:
        model = bert()(tmp)
        (tmp / "m" / "LICENSE").symlink_to(to)
        return model

    return make


def sparse(index: int) -> Callable[[Any], Any]:
    """A sparse tensor of two columns with an element in this one."""
    return lambda torch: {
        "w": torch.ones(2), "s": torch.sparse_coo_tensor(torch.tensor([[0], [index]]), torch.ones(1), (2, 2), check_invariants=False),
    }  # fmt: skip


def saved(value: Callable[[Any], Any], **options: Any) -> Maker:
    """What torch.save makes of a value, which gets torch itself."""

    def make(tmp: Path) -> Model:
        import torch

        torch.save(value(torch), tmp / "m.pt", **options)
        return Model(tmp / "m.pt")

    return make


def marked(torch: Any) -> Any:
    """A tensor of a class of its own, which pickle finds in this module."""
    globals()["Marked"] = type("Marked", (torch.Tensor,), {"__module__": __name__})
    return torch.ones(3).as_subclass(globals()["Marked"])


def legacy(old: bytes = b"", new: bytes = b"", after: bytes = b"") -> Maker:
    """A file of torch's old format, with some bytes replaced, or more after them."""

    def make(tmp: Path) -> Model:
        model = saved(lambda torch: {"a": torch.ones(3)}, _use_new_zipfile_serialization=False)(tmp)
        raw = model.path.read_bytes()
        assert not old or raw.count(old) == 1
        model.path.write_bytes((raw.replace(old, new) if old else raw) + after)
        return model

    return make


def zipped(number: bytes = b"3\n", *, more: str = "") -> Maker:
    """A zip of torch whose `version` is another, or that holds a further record."""

    def make(tmp: Path) -> Model:
        import zipfile

        model = saved(lambda torch: {"a": torch.ones(3)})(tmp)
        with zipfile.ZipFile(model.path) as old, zipfile.ZipFile(tmp / "n.pt", "w") as new:
            for name in old.namelist():
                new.writestr(name, number if name.endswith("/version") else old.read(name))
            if more:
                new.writestr(more, b"?")
        return Model(tmp / "n.pt")

    return make


def bundle(change: Callable[[dict[bytes, bytes]], object] = lambda e: None, after: bytes = b"", count: int = 1) -> Maker:
    """A TensorFlow checkpoint of a partitioned variable with another index, more bytes in its data file, or more data files by name."""

    def make(tmp: Path) -> Model:
        import tensorflow as tf

        from ckptkit.containers._tensorflow import bundle_entry

        slices = ["4 2 0,2:-", "4 2 2,2:-", ""]
        tf.raw_ops.SaveV2(prefix=str(tmp / "m.ckpt"), tensor_names=["v", "v", "w"], shape_and_slices=slices, tensors=[tf.ones((2, 2))] * 3)
        raw = (tmp / "m.ckpt.index").read_bytes()
        items = {e.key: bytes(held[e.start : e.end]) for _, held, es in table.scan(raw, len(raw), "m") for e in es}
        change(items)
        if count > 1:
            items[b""] = bundle_entry.encode_header(count)
        (tmp / "m.ckpt.index").write_bytes(table.build(sorted(items.items())))
        data = tmp / "m.ckpt.data-00000-of-00001"
        data.write_bytes(data.read_bytes() + after)
        data.rename(tmp / f"m.ckpt.data-00000-of-{count:05d}")
        return Model(tmp / "m.ckpt")

    return make


def hdf5(link: str) -> Maker:
    """An HDF5 file of one dataset, and a soft link to something."""

    def make(tmp: Path) -> Model:
        import h5py

        with h5py.File(tmp / "m.h5", "w") as f:
            f["a/b"] = np.ones(3, np.float32)
            f["a/c"] = h5py.SoftLink(link)
        return Model(tmp / "m.h5")

    return make


def keras(*texts: str) -> Maker:
    """A .keras archive with so many of the files beside its weights."""

    def make(tmp: Path) -> Model:
        import zipfile

        import h5py

        with h5py.File(tmp / "model.weights.h5", "w") as f:
            f["layers/dense/vars/0"] = np.ones((3, 2), np.float32)
        with zipfile.ZipFile(tmp / "m.keras", "w") as z:
            for name in texts:
                z.writestr(name, "{}")
            z.write(tmp / "model.weights.h5", "model.weights.h5")
        return Model(tmp / "m.keras")

    return make


def unknown_field(field: str) -> Maker:
    """A safetensors file whose entry has a further field."""

    def make(tmp: Path) -> Model:
        header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], **({field: 1} if field else {})}}).encode()
        (tmp / "m.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
        return Model(tmp / "m.safetensors")

    return make


def locked(change: Callable[[Arrays], object] | None) -> Maker:
    """bert-hf, with other tensors or as it is, and the lock file of bert-hf."""

    def make(tmp: Path) -> Model:
        from ckptkit.graph.examine import examine
        from ckptkit.verbs.lock import lock_text

        model = bert(change)(tmp) if change is not None else Model(HF)
        with examine(HF) as subject:
            (tmp / "lock.json").write_text(lock_text(subject))
        return model._replace(lock=str(tmp / "lock.json"))

    return make


def digested(change: Callable[[Arrays], object]) -> Maker:
    def make(tmp: Path) -> Model:
        from ckptkit.graph.examine import examine
        from ckptkit.verbs.digest import canonical_digest

        with examine(HF) as subject:
            return bert(change)(tmp)._replace(digest=canonical_digest(subject).whole)

    return make


def expecting(**expect: str) -> Maker:
    return lambda tmp: Model(HF, expect)


def hollow(tmp: Path) -> Model:
    save_file({}, tmp / "m.safetensors")
    return Model(tmp / "m.safetensors")


def junk(tmp: Path) -> Model:
    (tmp / "m.safetensors").write_bytes(b"junk")
    return Model(tmp / "m.safetensors")


def extras(count: int) -> Maker:
    return saved(lambda torch: {"state_dict": {"a": torch.ones(3)}, "history": list(range(count))})


def more(name: str, x: np.ndarray) -> Callable[[Arrays], object]:
    return lambda a: a.update({name: x})


def table_of(rows: int) -> str:
    return json.dumps({"model": {"vocab": {f"t{i}": i for i in range(rows)}}})


POSITIONS = "bert.embeddings.position_ids"
# rule -> (finds something in, finds nothing in)
CASES: dict[str, tuple[Maker, Maker]] = {
    "adapter-base": (at(packed.adapter(""), "conv1d"), at(packed.adapter(""), "patterns")),
    "adapter-parts": (at(packed.adapter("v_proj.lora_B.weight"), "patterns"), at(packed.adapter(""), "patterns")),
    "adapter": (faults("peft/unmerged"), faults("peft/merged")),
    "architecture": (hostile("semantic/wrong_family"), hostile("semantic/ok_bert12")),
    "arrays": (gpt1(arrays=3), gpt1()),
    "checksum": (hostile("tf_bundle/data_zeroed/model.ckpt"), golden("bert_tf/bert_model.ckpt")),
    "class": (saved(lambda torch: {"w": marked(torch)}), saved(lambda torch: {"w": torch.nn.Parameter(torch.ones(3))})),
    "config": (bert(model_type=None), bert()),
    "constant": (bert(put(Q, lambda x: x * 0 + 3)), bert(put(NORM + ".weight", lambda x: x * 0 + 1))),
    "data-file": (bundle(count=2), bundle()),
    "derived": (bert(more(POSITIONS, np.arange(64)[None, ::-1])), bert(more(POSITIONS, np.arange(64)[None]))),
    "device": (legacy(b"X\x03\0\0\0cpu", b"X\x06\0\0\0cuda:0"), legacy()),
    "digest": (digested(put(Q, one(3))), digested(lambda a: None)),
    "dtype": (bert(put(Q, lambda x: x.astype(np.float16))), bert(lambda a: [a.update({n: x.astype(np.float16)}) for n, x in a.items()],
        dtype="float16")),
    "duplicate": (bert(lambda a: a.update({Q.removeprefix("bert."): a[Q]})), bert(lambda a: a.update({"adapter." + Q: a[Q]}))),
    "empty": (hollow, unknown_field("")),
    "expand": (saved(lambda torch: {"a": torch.ones(1).expand(5 << 20)}), saved(lambda torch: {"a": torch.ones(1).expand(4096)})),
    "expect": (expecting(layers="5"), expecting(layers="4")),
    "extras": (extras(2_000_000), extras(10)),
    "extreme": (bert(put(Q, one(1e9))), bert(put(Q, one(1e4)))),
    "folder": (golden("fairseq_roberta_new"), bert()),
    "head": (bert(drop("seq_relationship"), architectures=["BertForPreTraining"]),
        bert(drop("seq_relationship"), architectures=["BertForMaskedLM"])),
    "header": (unknown_field("stride"), unknown_field("")),
    "hdf5": (hdf5("/nothing"), hdf5("/a/b")),
    "heads": (bert(num_attention_heads=5), bert(num_attention_heads=2)),
    "inf": (bert(put(Q, one(np.inf))), bert(put(Q, one(3e38)))),
    "keras-config": (keras("metadata.json"), keras("metadata.json", "config.json")),
    "layers": (bert(num_hidden_layers=12), bert(num_hidden_layers=4)),
    "links": (beside_a_link("/etc/passwd"), beside_a_link("config.json")),
    "lock": (locked(put(Q, one(3))), locked(None)),
    "kind": (sparse_second(first_k_dense_replace=0), sparse_second(first_k_dense_replace=1)),
    "missing": (bert(drop(Q)), bert(drop("pooler"), architectures=["BertForMaskedLM"])),
    "names": (saved(lambda torch: {0: torch.ones(1), "0": torch.zeros(1)}), saved(lambda torch: {0: torch.ones(1), "1": torch.zeros(1)})),
    "nan": (bert(put(Q, one(np.nan))), bert(put(Q, one(1)))),
    "norm": (bert(exchanged), bert(put(NORM + ".weight", lambda x: np.abs(x) * 9))),
    "optimizer": (bert(lambda a: a.update({Q + ".exp_avg": a[Q]})), bert(lambda a: a.update({Q + ".exp": a[Q]}))),
    "order": (gpt1(tensors=6), gpt1(tensors=12)),
    "overlap": (hostile("tf_bundle/entry_overlap/model.ckpt"), bundle()),
    "packed": (bert(lambda a: a.update({Q + "._data": a.pop(Q).astype(np.int8), Q + "._scale": np.ones(1, np.float32)})), bert()),
    "part": (saved(lambda torch: {"model": {"w": torch.ones(3)}, "generator": {"w": torch.ones(2)}}),
        saved(lambda torch: {"model": {"w": torch.ones(3)}, "optimizer": {"w": torch.ones(2)}})),
    "pickle": (golden("fairseq_roberta_old/model.pt"), golden("hf_bert/bin_zip")),
    "program": (hostile("savedmodel/op_readfile"), golden("tf2_small_bert_keras3/saved_model")),
    "purpose": (faults("optimizer-only/optimizer.pt"), faults("wrapper-optimizer/dp_optimizer.pth.tar")),
    "records": (zipped(more="m/evil.sh"), zipped()), "pipeline": tuple(at(component(c)) for c in ("AutoencoderKL", "UNet2DModel")),
    "remote-code": (bert(auto_map={"AutoModel": "evil.Model"}), bert(auto_map={})),
    **{rule: (at(found), at(clean)) for rule, (found, clean) in {**ranks_makers.CASES, **packed.CASES}.items()},
    "shape": (bert(put(LAYER + "1.intermediate.dense.weight", lambda x: x.T)), bert(put(Q, lambda x: x.T))),
    "shards": (hostile("sharded/extra_shard"), golden("hf_bert/safetensors_sharded")),
    "size": (bert(intermediate_size=65), bert(intermediate_size=64)),
    "slice": (bundle(lambda items: items.pop(b"v")), bundle()),
    "sparse": (saved(sparse(5)), saved(sparse(1))),
    "switch": (t5(gated=False), t5(gated=True)),
    "tie": (bert(lambda a: a.update({DECODER: a["bert.embeddings.word_embeddings.weight"] + 1})),
        bert(lambda a: a.update({DECODER: a["bert.embeddings.word_embeddings.weight"]}))),
    "cousins": (at(lambda f: bare(f, said=False)), at(lambda f: bare(f, said=True))),
    "sentence": tuple(bert(files={"modules.json": f'[{{"path": "2", "type": "models.{t}"}}]'}) for t in ("Pooling", "Normalize")),
    "trailing": (legacy(after=b"more"), legacy()),
    "unexpected": (bert(more("adapter.down", np.eye(3, dtype=np.float32))), bert(more(POSITIONS, np.arange(64)[None]))),
    "unknown": (saved(lambda torch: {"w": torch.ones(3)}), bert()),
    "unread": (faults("torch-sparse-nested-as-parts/sp.pt"), faults("subclass-weights/numpy_query_0.pt")),
    "unreadable": (junk, bert()),
    "unused-bytes": (bundle(after=b"more"), bundle()),
    "variant": (bert(name="bert-large"), bert(name="bert-4-layers")),
    "version": (zipped(b"9999\n"), zipped()),
    "vocabulary": (bert(files={"tokenizer.json": table_of(102)}), bert(files={"tokenizer.json": table_of(101)})),
    "template": (bert(files={"chat_template.jinja": "{% if a %}"}), bert(files={"chat_template.jinja": "{% if a %}{% endif %}"})),
    "special-tokens": tuple(bert(files={"generation_config.json": f'{{"eos_token_id": {n}}}'}) for n in (101, 100)),
    "tokenizer": tuple(bert(files={"tokenizer_config.json": f'{{"model_max_length": {n}}}'}) for n in (4096, 8)),
    "card": tuple(bert(files={"README.md": f"---\nlicense: other\n{more}---\n# m\n"}) for more in ("", "license_name: own\n")),
    "zero": (bert(put(Q, np.zeros_like)), bert(put(LAYER + "1.attention.self.query.bias", np.zeros_like))),
    "against": (lambda folder: bert(drop("1.output.dense.bias"))(folder)._replace(against="transformers"), bert()),
    "twin": (at(damaged("a layer copied over another")), at(sound)),
    "fresh": (at(damaged("a layer made anew")), at(sound)),
    "rows": (at(damaged("a row copied")), at(sound)),
    "hole": (at(damaged("a hole")), at(sound)),
    "rounded": (at(damaged("two layers through bfloat16")), at(sound)),
    "levels": (at(damaged("quantised by one scale")), at(sound)),
    "spread": (at(damaged("scaled up")), at(sound)),
}  # fmt: skip


def test_every_rule_has_a_checkpoint_in_which_it_finds_something_and_one_in_which_it_does_not() -> None:
    assert CASES.keys() == RULES.keys()


@pytest.mark.parametrize("rule", CASES)
def test_the_rule_finds_it(rule: str, tmp_path: Path) -> None:
    found = findings(CASES[rule][0](tmp_path))
    mine = [f for f in found if f.rule == rule]
    assert mine, found
    grave = SEVERITIES.index(RULES[rule].severity)
    for f in mine:
        assert SEVERITIES.index(f.severity) >= grave and f.basis in ("confirmed", "inferred", "undecided")
        assert f.where.isprintable() and f.message and "\n" not in f.message


@pytest.mark.parametrize("rule", CASES)
def test_the_rule_finds_nothing_where_there_is_nothing(rule: str, tmp_path: Path) -> None:
    assert [f for f in findings(CASES[rule][1](tmp_path)) if f.rule == rule] == []
