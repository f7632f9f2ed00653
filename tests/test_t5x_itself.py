"""T5X as judge: what its own models and Checkpointer wrote (fixtures/generate_t5x.py) is read and answers in transformers as in T5X.

What is written with its names is what transformers' own scripts for T5X' checkpoints make the model of.

The scripts need environments of their own (CKPTKIT_ORACLE_ENVS=1 builds them: transformers 4.46.3, the last with those scripts, and Orbax).
Measured: T5X' logits and transformers' differ by 6e-6 of a largest 3.9 (T5) and 2e-6 of 3.3 (UMT5).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
from jax_programs import RESTORE, orbax
from safetensors.numpy import load_file

import ckptkit

pytest.importorskip("zstandard")
T5X = oracles.FIXTURES / "containers" / "t5x"
SIZES: dict[str, Any] = {
    "d_model": 16, "d_ff": 20, "d_kv": 6, "num_heads": 3, "num_decoder_layers": 2, "vocab_size": 40, "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False, "dropout_rate": 0.0,
}  # fmt: skip
KINDS = {"t5": ("T5", {**SIZES, "num_layers": 1}), "umt5": ("UMT5", {**SIZES, "num_layers": 2})}
SCRIPT = """
import importlib.util, json, sys, sysconfig, types
import numpy as np
kind, source, target, words = sys.argv[1:5]
def stand_in(name, **held):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__dict__.update(held)
def flatten_dict(tree, above=()):
    out = {}
    for key, v in tree.items():
        out |= flatten_dict(v, (*above, key)) if isinstance(v, dict) else {(*above, key): v}
    return out
class Logging:
    set_verbosity_info = staticmethod(lambda: None)
stand_in("torch")
stand_in("flax", traverse_util=types.SimpleNamespace(flatten_dict=flatten_dict))
stand_in("t5x", checkpoints=None)
names = ("T5Config", "T5EncoderModel", "T5ForConditionalGeneration", "MT5Config", "UMT5EncoderModel", "UMT5ForConditionalGeneration")
stand_in("transformers", **dict.fromkeys(names))
stand_in("transformers.utils", logging=Logging)
name = "convert_umt5_checkpoint_to_pytorch" if kind == "UMT5" else "convert_t5x_checkpoint_to_pytorch"
path = f"{sysconfig.get_paths()['purelib']}/transformers/models/{'umt5' if kind == 'UMT5' else 't5'}/{name}.py"
spec = importlib.util.spec_from_file_location(name, path)
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)
tree = {}
with np.load(source) as f:
    for n in f.files:
        at = tree
        *above, last = n.split(".")
        for key in above:
            at = at.setdefault(key, {})
        at[last] = f[n]
np.savez(target, **script.convert_t5x_to_pytorch(tree, is_encoder_only=False, **json.loads(words)))
"""


@pytest.mark.parametrize("kind", KINDS)
def test_what_t5x_wrote_is_read_and_answers_alike(kind: str, tmp_path: Path) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    shutil.unpack_archive(T5X / f"{kind}.zip", tmp_path / "run")
    name, sizes = KINDS[kind]
    config = getattr(transformers, f"{name}Config")(**sizes, architectures=[f"{name}ForConditionalGeneration"])
    config.save_pretrained(tmp_path)
    with np.load(T5X / f"{kind}.npz") as f:
        told = {n: f[n] for n in f.files}
    words, decoded, logits = told.pop("encoded"), told.pop("decoded"), told.pop("logits")
    with ckptkit.open(tmp_path / "run" / "checkpoint_0") as checkpoint:
        held = {n.removeprefix("target."): checkpoint[n].numpy() for n in checkpoint if n.startswith("target.")}
    assert held.keys() == told.keys()
    for n, a in told.items():
        np.testing.assert_array_equal(held[n], a, err_msg=n)
    ckptkit.convert(tmp_path / "run" / "checkpoint_0", tmp_path / "hf", to="hf", config=str(tmp_path / "config.json"))
    model = getattr(transformers, f"{name}ForConditionalGeneration").from_pretrained(tmp_path / "hf", attn_implementation="eager").eval()
    model.config.tie_word_embeddings = False  # as config.json says, which transformers 5 overrules and then divides logits by 4
    shifted = np.concatenate([np.zeros((2, 1), int), decoded[:, :-1]], 1)
    with torch.no_grad():
        got = model(input_ids=torch.from_numpy(words), decoder_input_ids=torch.from_numpy(shifted)).logits.numpy()
    np.testing.assert_allclose(got, logits, rtol=0, atol=3e-5)


@pytest.mark.parametrize("kind, words", [
    ("T5", {}), ("T5", {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    ("UMT5", {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
])  # fmt: skip
def test_transformers_scripts_make_the_model_of_what_is_written(kind: str, words: dict[str, Any], tmp_path: Path) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    python = oracles.environment("transformers-scripts", "--no-deps", "transformers==4.46.3", "numpy==1.26.4")
    torch.manual_seed(0)
    layers = {"num_layers": 2, "num_decoder_layers": 2 if kind == "UMT5" else 3}  # its script knows one number alone
    made = getattr(transformers, f"{kind}Config")(**{**SIZES, **words, **layers})
    model = getattr(transformers, f"{kind}ForConditionalGeneration")(made)
    model.save_pretrained(tmp_path / "hf")
    ckptkit.convert(tmp_path / "hf", tmp_path / "run", to="t5x", container="orbax")
    oracles.run_in(orbax(), RESTORE, tmp_path / "run", tmp_path / "flat.npz", tmp_path / "again")
    said = {"num_layers": 2, "scalable_attention": True} if kind == "UMT5" else layers
    oracles.run_in(python, SCRIPT, kind, tmp_path / "flat.npz", tmp_path / "theirs.npz", json.dumps(said))
    hf = load_file(tmp_path / "hf" / "model.safetensors")
    with np.load(tmp_path / "theirs.npz") as f:
        assert hf.keys() - set(f.files) <= {"lm_head.weight"} and set(f.files) <= hf.keys()
        for n in f.files:
            np.testing.assert_array_equal(f[n], hf[n], err_msg=n)
