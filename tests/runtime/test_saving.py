"""What is built is the frameworks' own: saved and loaded by their means, mapped where it lies right, of the dtype asked for, gone
without them."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import oracles
import pytest
import torch
from safetensors.numpy import load_file

import ckptkit

BERT = oracles.golden("bert_tf")
HF = oracles.golden("hf_bert") / "safetensors"
EVERY = {"with_pool": True, "with_mlm": True, "with_nsp": True}


def test_a_state_dict_comes_back_into_a_new_model(tmp_path: Path) -> None:
    model = ckptkit.build_transformer_model(None, BERT, **EVERY)
    torch.save(model.state_dict(), tmp_path / "m.pt")
    other = ckptkit.build_transformer_model(BERT / "bert_config.json", seed=3, **EVERY)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        assert not torch.equal(other(ids)["mlm"], model(ids)["mlm"])
        other.load_state_dict(torch.load(tmp_path / "m.pt", weights_only=True), strict=True)
        assert all(torch.equal(other(ids)[k], v) for k, v in model(ids).items())
    assert other.mlm.decoder.weight is other.embeddings.word.weight


def test_a_trained_keras_model_with_frozen_parts_comes_back_from_its_file(tmp_path: Path) -> None:
    import keras

    with pytest.warns(UserWarning, match="classifier"):
        model = ckptkit.build_transformer_model(
            None, BERT, framework="keras", with_pool=True, heads=["classifier"], labels=3, freeze="embeddings"
        )
    lines: list[str] = []
    model.summary(print_fn=lambda text, **_: lines.append(text), line_length=120)
    shown = "\n".join(lines)
    assert (
        "(None, None, 32)" in shown
        and [f"encoder.layers.{i} " in shown for i in range(4)] == [True, True, True, False]
        and "Non-trainable" in shown
    )
    x = {"input_ids": np.array([[5, 6, 7]] * 4), "token_type_ids": np.zeros((4, 3), int), "attention_mask": np.ones((4, 3), int)}
    trained = keras.Model(model.input, model.output["classifier"])
    trained.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = model.predict(x, verbose=0)["classifier"]
    trained.fit(x, np.array([0, 1, 2, 1]), epochs=1, verbose=0)
    after = model.predict(x, verbose=0)["classifier"]
    assert not np.array_equal(before, after)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert np.array_equal(again.predict(x, verbose=0)["classifier"], after)
    assert len(again.trainable_variables) == len(model.trainable_variables) < len(model.variables)


def inside(address: int, path: Path) -> bool:
    """Whether an address of this process lies in a mapping of a file."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, rest = line.partition(" ")
        low, high = (int(x, 16) for x in span.split("-"))
        if low <= address < high:
            return rest.endswith(str(path.resolve()))
    return False


def test_what_lies_right_is_the_mapped_file_and_what_does_not_is_copied_once() -> None:
    model = ckptkit.build_transformer_model(None, HF, **EVERY)
    assert all(inside(p.data_ptr(), HF / "model.safetensors") for p in model.parameters())
    turned = ckptkit.build_transformer_model(None, BERT)  # kernels are the other way round in TensorFlow, tables are not
    data = BERT / "bert_model.ckpt.data-00000-of-00001"
    assert inside(turned.embeddings.word.weight.data_ptr(), data)
    assert not inside(turned.get_submodule("encoder.layers.0.ffn.output").weight.data_ptr(), data)


def test_loading_a_large_model_adds_no_more_than_one_copy(tmp_path: Path) -> None:
    """64 MB of TensorFlow kernels, all turned round: one copy of them and little else."""
    code = (
        "import sys, re, torch, ckptkit\n"
        "hwm = lambda: int(re.search(r'RssAnon:\\s*(\\d+)', open('/proc/self/status').read())[1]) << 10\n"
        "ckptkit.build_transformer_model(None, sys.argv[2])\n"
        "before = hwm()\n"
        "import threading, time; most = [0]; stop = []\n"
        "t = threading.Thread(target=lambda: [(most.__setitem__(0, max(most[0], hwm())), time.sleep(0.001)) "
        "for _ in iter(lambda: bool(stop), True)]); t.start()\n"
        "model = ckptkit.build_transformer_model(None, sys.argv[1]); stop.append(1); t.join()\n"
        "print(max(most[0], hwm()) - before, sum(p.numel() * 4 for p in model.parameters()))"
    )
    big = wide(tmp_path / "big")
    done = subprocess.run([sys.executable, "-c", code, str(big), str(BERT)], capture_output=True, text=True, check=True, cwd=oracles.ROOT)
    added, size = map(int, done.stdout.split())
    assert size > 60 << 20 and added < 1.25 * size, (added, size)


def wide(folder: Path) -> Path:
    """A BERT of two layers, 1024 wide, in TensorFlow's naming."""
    from transformers import BertConfig, BertModel

    BertModel(
        BertConfig(
            vocab_size=50, hidden_size=1024, num_hidden_layers=2, num_attention_heads=16, intermediate_size=2048, max_position_embeddings=8
        )
    ).save_pretrained(folder / "hf")
    ckptkit.convert(folder / "hf", folder / "tf", to="google", sync=False)
    return folder / "tf"


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64", None])
def test_the_dtype_is_the_one_asked_for_or_the_stored_one(tmp_path: Path, dtype: str | None) -> None:
    ckptkit.convert(HF, tmp_path / "half", to="hf", dtypes=[("*", "F16")])
    model = ckptkit.build_transformer_model(None, tmp_path / "half", dtype=dtype)
    assert {p.dtype for p in model.parameters()} == {getattr(torch, dtype or "float16")}
    word = load_file(tmp_path / "half" / "model.safetensors")["bert.embeddings.word_embeddings.weight"]
    assert np.array_equal(
        model.embeddings.word.weight.detach().float().numpy(), torch.from_numpy(word).to(getattr(torch, dtype or "float16")).float().numpy()
    )


COMMANDS = {
    "torch": (["convert", "{bert}", "{out}", "--to", "pt2"], ["verify", "{bert}", "{bert}", "--engines", "torch"]),
    "tensorflow": (["convert", "{bert}", "{out}", "--to", "savedmodel"], ["verify", "{bert}", "{bert}", "--engines", "keras"]),
}


@pytest.mark.parametrize("extra", COMMANDS)
def test_without_a_framework_each_command_names_the_extra_and_the_rest_works(tmp_path: Path, extra: str) -> None:
    (tmp_path / "block").mkdir()
    (tmp_path / "block" / "sitecustomize.py").write_text("import sys\nfor m in ('torch', 'tensorflow', 'keras'): sys.modules[m] = None\n")
    env = {"PYTHONPATH": f"{tmp_path / 'block'}:{oracles.ROOT}", "PATH": "/usr/bin:/bin"}

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        words = [a.format(bert=BERT, out=tmp_path / "out") for a in args]
        return subprocess.run([sys.executable, "-m", "ckptkit", *words], capture_output=True, text=True, env=env, cwd=tmp_path)

    for command in COMMANDS[extra]:
        done = run(*command)
        assert done.returncode == 2 and f"pip install '.[{extra}]'" in done.stderr and done.stderr.count("\n") == 1, (
            command,
            done.stderr,
        )
    assert run("convert", "{bert}", "{out}", "--to", "hf").returncode == 0
    for command in (["inspect", "{out}"], ["validate", "{out}"], ["summary", "{out}"], ["digest", "{out}"], ["diff", "{bert}", "{out}"]):
        assert run(*command).returncode == 0, command
    alone = run("verify", "{bert}", "{out}")
    assert alone.returncode == 3 and "values     same" in alone.stdout and "'.[torch]'" in alone.stdout


def test_nothing_warns_where_everything_was_given() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ckptkit.build_transformer_model(None, HF, **EVERY)
