"""MaxText as judge: what its own conversion makes of transformers' Llama 3.1, saved by Orbax, goes back; what is written for it is that.

Needs environments of their own (CKPTKIT_ORACLE_ENVS=1 builds them: of MaxText 0.2.5 its tables of conversion, whose package is for newer
interpreters; Orbax 0.12.8).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import oracles
import pytest
from jax_programs import SAVE, maxtext, orbax
from safetensors.numpy import load_file

import ckptkit

pytest.importorskip("zstandard")
WHOLE = oracles.FIXTURES / "forms" / "llama_whole"
LLAMA_31 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
CONVERT = """
import importlib.util, sys, sysconfig, types
import numpy as np
where = sysconfig.get_paths()["purelib"] + "/maxtext/checkpoint_conversion/utils/"
def load(name):  # without the package, which is for newer interpreters
    spec = importlib.util.spec_from_file_location(name, where + name + ".py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
mapping, handling = load("param_mapping"), load("tensor_handling")
source, target, scanned = sys.argv[1], sys.argv[2], sys.argv[3] == "scanned"
with np.load(source) as f:
    hf = {n: f[n] for n in f.files}
heads, kv, width, hidden = 4, 2, 8, 32
config = {"num_hidden_layers": 3, "head_dim": width}
names = mapping.LLAMA31_MAXTEXT_TO_HF_PARAM_MAPPING(config, None, scan_layers=scanned)
hooks = mapping.LLAMA31_MAXTEXT_TO_HF_PARAM_HOOK_FN(config, None, scan_layers=scanned, saving_to_hf=False)
cut = {"query": (hidden, heads, width), "key": (hidden, kv, width), "value": (hidden, kv, width), "out": (heads, width, hidden)}
def shape(key, a):
    for word, made in cut.items():
        if f"self_attention-{word}-" in key:
            return made
    return a.shape[::-1] if "kernel" in key else a.shape
out = {}
for key, of in names.items():
    each = [np.asarray(handling.apply_hook_fns(hf[n], shape(key, hf[n]), hooks.get(key))) for n in (of if isinstance(of, list) else [of])]
    out[key] = np.stack(each, axis=1) if isinstance(of, list) else each[0]
np.savez(target, **out)
"""


@pytest.mark.parametrize("layers", ["scanned", "apart"])
def test_maxtexts_own_conversion_and_ours_are_one(layers: str, tmp_path: Path) -> None:
    python = maxtext()
    shutil.copytree(WHOLE, tmp_path / "llama31")  # for another Llama MaxText keeps rotary pairs as transformers does
    said = json.loads((WHOLE / "config.json").read_text())
    (tmp_path / "llama31" / "config.json").write_text(json.dumps({**said, "rope_parameters": {**LLAMA_31, "rope_theta": 10000.0}}))
    hf = load_file(WHOLE / "model.safetensors")
    np.savez(tmp_path / "hf.npz", **{"lm_head.weight": hf["model.embed_tokens.weight"], **hf})  # type: ignore[arg-type]
    oracles.run_in(python, CONVERT, tmp_path / "hf.npz", tmp_path / "tree.npz", layers)
    oracles.run_in(orbax(), SAVE, tmp_path / "tree.npz", tmp_path / "saved")
    ckptkit.convert(tmp_path / "saved", tmp_path / "back", to="hf", config=str(tmp_path / "llama31" / "config.json"))
    back = load_file(tmp_path / "back" / "model.safetensors")
    for name, a in hf.items():
        within = 2.0**-22 if "q_proj" in name else 0.0  # multiplied by the rounded 1 / sqrt(head_dim)
        np.testing.assert_allclose(back[name], a, rtol=within, atol=0, err_msg=name)
    if layers == "scanned":
        ckptkit.convert(tmp_path / "llama31", tmp_path / "ours", to="maxtext", container="orbax")
        with np.load(tmp_path / "tree.npz") as f, ckptkit.examine(tmp_path / "ours") as s:
            held = {n.removeprefix("params.").replace(".", "-"): s.checkpoint.array(n) for n in s.checkpoint.tensors}
            assert held.keys() == set(f.files)
            for name in f.files:
                within = 2.0**-22 if "query" in name else 0.0
                np.testing.assert_allclose(held[name], f[name], rtol=within, atol=0, err_msg=name)
