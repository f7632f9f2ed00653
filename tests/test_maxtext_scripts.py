"""MaxText's own scripts as judges, for Llama 2 and 3, Mistral and Gemma.

What they make of the authors' files goes back as transformers has it; what is written for MaxText is that; and what they make of that for
transformers are the tensors that it came from.

Needs environments of their own (CKPTKIT_ORACLE_ENVS=1 builds them, `test_maxtext_itself` says of what). The scripts are run as they are;
what they import to read and write files (torch, flax, Orbax' managers) is stood in for, and they round to float32 instead of bfloat16.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
from jax_programs import SAVE, maxtext, orbax
from safetensors.numpy import load_file, save_file

import ckptkit

pytest.importorskip("zstandard")
torch = pytest.importorskip("torch")
FORMS = oracles.FIXTURES / "forms"
WHOLE = FORMS / "llama_whole"
Arrays = dict[str, np.ndarray]
ROUNDING = 2.0**-22  # of what is multiplied by a rounded root on one way and divided by it on the other
SCRIPTS = """
import importlib.util, os, sys, sysconfig, types
import numpy as np
where = sysconfig.get_paths()["purelib"] + "/maxtext/checkpoint_conversion/standalone_scripts/"
def stand_in(name, **held):
    module = sys.modules[name] = types.ModuleType(name)
    module.__dict__.update(held)
    package, _, last = name.rpartition(".")
    if package:
        setattr(sys.modules.get(package) or stand_in(package), last, module)
    return module
def load(name):  # without the package, which is for newer interpreters
    spec = importlib.util.spec_from_file_location(name, where + name + ".py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
class Held(np.ndarray):  # a tensor of torch, as far as the scripts ask
    def type(self, dtype):
        return self
    def numpy(self):
        return np.asarray(self)
def read(path, **words):
    with np.load(path) as f:
        return {n: f[n].view(Held) for n in f.files}
def flat(tree, start=""):
    for key, v in tree.items():
        yield from flat(v, start + key + "-") if isinstance(v, dict) else [(start + key, np.asarray(v))]
process = types.SimpleNamespace(memory_info=lambda: types.SimpleNamespace(rss=0))
nothing = lambda *a, **k: None
stand_in("torch", load=read, tensor=lambda a, dtype=None: np.asarray(a), float32=None, float16=None)
stand_in("safetensors", safe_open=None)
stand_in("psutil", Process=lambda *a: process)
stand_in("tqdm", tqdm=lambda x, **k: x)
stand_in("absl", app=None)
stand_in("transformers", LlamaForCausalLM=None, MistralForCausalLM=None, AutoModelForCausalLM=None, AutoConfig=None)
stand_in("flax.training", train_state=types.SimpleNamespace(TrainState=lambda **k: types.SimpleNamespace(**k)))
logging = stand_in("maxtext.utils.max_logging", log=nothing)
stand_in("maxtext.configs", pyconfig=None)
stand_in("maxtext.utils.gcs_utils")
stand_in("maxtext.utils.maxtext_utils")
stand_in("maxtext.utils.generate_param_only_checkpoint", _read_train_checkpoint=None)
stand_in("maxtext.inference.inference_utils", str2bool=bool)
stand_in("maxtext.checkpoint_conversion.utils.utils", save_weights_to_checkpoint=None)
kept = {}
def save(manager, step, state):
    kept["tree"] = state.params["params"]
stand_in("maxtext.common.checkpointing", create_orbax_checkpoint_manager=lambda *a: 1, save_checkpoint=save, reached_preemption=nothing)
"""
ROPE = """
import ast
text = open(sysconfig.get_paths()["purelib"] + "/maxtext/utils/max_utils.py").read()
of = [n for n in ast.parse(text).body if isinstance(n, ast.FunctionDef) and "match_maxtext_rope" in n.name]
held = {"np": np, "jax": types.SimpleNamespace(numpy=np)}
exec(compile(ast.Module(of, []), "max_utils", "exec"), held)
stand_in("maxtext.utils.max_utils", **{n.name: held[n.name] for n in of})
script = load("llama_or_mistral_ckpt")
script.CAST_DTYPE = np.float32
size, source, target = sys.argv[1:4]
params = {**script.MODEL_PARAMS_DICT[size], "num_layers": 3, "num_heads": 4, "num_kv_heads": 2, "dims_per_head": 8, "vocab": 179}
script.MODEL_PARAMS_DICT[size] = params
"""
FORWARD = SCRIPTS + ROPE + "np.savez(target, **dict(flat(script._convert_pytorch_to_jax_weights(source, size, params, process))))"
BACK = SCRIPTS + ROPE + """
stand_in("maxtext.checkpoint_conversion.standalone_scripts", llama_or_mistral_ckpt=script)
import builtins
builtins.print, said = nothing, print
back = load("llama_mistral_mixtral_orbax_to_hf")
tree = {}
for name, a in read(source).items():
    at = tree
    *path, last = name.split("-")
    for key in path:
        at = at.setdefault(key, {})
    at[last] = np.asarray(a)
np.savez(target, **back.convert_state_to_hf(types.SimpleNamespace(params=tree), size))
"""
GEMMA = SCRIPTS + """
import builtins
import jax.numpy
class Float32:  # jax.numpy, whose bfloat16 is float32
    bfloat16 = jax.numpy.float32
    def __getattr__(self, name):
        return getattr(jax.numpy, name)
class Restores:
    restore = staticmethod(read)
stand_in("orbax.checkpoint", PyTreeCheckpointer=Restores)
script = load("convert_gemma_chkpt")
script.jnp, script.print = Float32(), nothing
size, source, target = sys.argv[1:4]
script.main(["--base_model_path", source, "--maxtext_model_path", target, "--model_size", size])
np.savez(target, **dict(flat({"params": kept["tree"]})))
"""


def compared(theirs: Arrays, hf: Path, tmp: Path) -> None:
    """Their tree, saved by Orbax, comes back as `hf`; what is written for MaxText from `hf` is their tree."""
    np.savez(tmp / "tree.npz", **theirs)  # type: ignore[arg-type]
    oracles.run_in(orbax(), SAVE, tmp / "tree.npz", tmp / "saved")
    ckptkit.convert(tmp / "saved", tmp / "back", to="hf", config=str(hf / "config.json"))
    got, want = load_file(tmp / "back" / "model.safetensors"), load_file(hf / "model.safetensors")
    for name, a in want.items():
        np.testing.assert_allclose(got[name], a, rtol=ROUNDING, atol=2.0**-23 if "norm" in name else 0, err_msg=name)
    ckptkit.convert(hf, tmp / "ours", to="maxtext", container="orbax")
    ours = tree(tmp / "ours")
    assert ours.keys() == theirs.keys()
    for name, a in theirs.items():
        np.testing.assert_allclose(ours[name], a, rtol=ROUNDING, atol=0, err_msg=name)


def tree(run: Path) -> Arrays:
    with ckptkit.examine(run) as s:
        return {n.removeprefix("params.").replace(".", "-"): s.checkpoint.array(n) for n in s.checkpoint.tensors}


@pytest.mark.parametrize("size, kind", [("llama2-7b", "llama"), ("llama3-8b", "llama"), ("mistral-7b", "mistral")])
def test_what_its_script_makes_of_the_authors_files_and_ours_are_one(size: str, kind: str, tmp_path: Path) -> None:
    """Their files have rotary pairs side by side; Llama 3 cuts its words along the vocabulary."""
    (tmp_path / "authors").mkdir()
    for rank in range(2):
        held = torch.load(FORMS / "meta_llama_tp2" / f"consolidated.{rank:02}.pth")
        if size == "llama3-8b":
            whole = load_file(WHOLE / "model.safetensors")["model.embed_tokens.weight"]
            held["tok_embeddings.weight"] = torch.from_numpy(np.array_split(whole, 2)[rank])
        with (tmp_path / "authors" / f"m.{rank:02}.pth").open("wb") as f:
            np.savez(f, **{n: t.float().numpy() for n, t in held.items()})
    shutil.copytree(WHOLE, tmp_path / "hf")
    said: dict[str, Any] = json.loads((WHOLE / "config.json").read_text())
    if kind == "mistral":
        said |= {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 4096}
        said = {k: v for k, v in said.items() if k not in ("attention_bias", "mlp_bias", "pretraining_tp")}
    (tmp_path / "hf" / "config.json").write_text(json.dumps({**said, "tie_word_embeddings": False}))
    hf = load_file(WHOLE / "model.safetensors")
    hf.setdefault("lm_head.weight", hf["model.embed_tokens.weight"])
    save_file(hf, tmp_path / "hf" / "model.safetensors", {"format": "pt"})
    oracles.run_in(maxtext(), FORWARD, size, tmp_path / "authors", tmp_path / "theirs.npz")
    with np.load(tmp_path / "theirs.npz") as f:
        theirs = {f"params-{n}": f[n] for n in f.files}
    compared(theirs, tmp_path / "hf", tmp_path)
    if size != "llama3-8b":  # which the script for the way back does not know
        np.savez(tmp_path / "ours.npz", **tree(tmp_path / "ours"))  # type: ignore[arg-type]
        oracles.run_in(maxtext(), BACK, size, tmp_path / "ours.npz", tmp_path / "hf.npz")
        with np.load(tmp_path / "hf.npz") as f:
            assert set(f.files) == hf.keys()
            for name in f.files:
                np.testing.assert_allclose(f[name], hf[name], rtol=ROUNDING if "q_proj" in name else 0, atol=0, err_msg=name)


@pytest.mark.parametrize("size", ["2b", "7b"])
def test_what_its_script_makes_of_gemma_and_ours_are_one(size: str, tmp_path: Path) -> None:
    """Gemma's own files (flax): one head of keys and values beside the queries in 2b, as many as there are queries and with them in 7b."""
    rng = np.random.default_rng(0)
    hidden, heads, width, inner, vocab = 24, 3, 16, 40, 50
    kv = 1 if size == "2b" else heads

    def some(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype("f4")

    own: Arrays = {"transformer/final_norm/scale": some(hidden), "transformer/embedder/input_embedding": some(vocab, hidden)}
    both = {"model.norm.weight": "final_norm/scale", "model.embed_tokens.weight": "embedder/input_embedding"}
    hf = {n: own[f"transformer/{theirs}"] for n, theirs in both.items()}
    for i in range(2):
        q, k, v, o = some(heads, hidden, width), some(kv, hidden, width), some(kv, hidden, width), some(heads, width, hidden)
        gate, up, down, one, two = some(hidden, inner), some(hidden, inner), some(inner, hidden), some(hidden), some(hidden)
        attention = {"q_einsum/w": q, "kv_einsum/w": np.stack([k, v])} if size == "2b" else {"qkv_einsum/w": np.stack([q, k, v])}
        layer = {
            **{f"attn/{n}": a for n, a in attention.items()}, "attn/attn_vec_einsum/w": o, "mlp/gating_einsum/w": np.stack([gate, up]),
            "mlp/linear/w": down, "pre_attention_norm/scale": one, "pre_ffw_norm/scale": two,
        }  # fmt: skip
        own |= {f"transformer/layer_{i}/{n}": a for n, a in layer.items()}
        theirs = {f"{n}_proj": a.transpose(0, 2, 1).reshape(-1, hidden) for n, a in {"q": q, "k": k, "v": v}.items()}
        parts = {
            **{f"self_attn.{n}": a for n, a in theirs.items()}, "self_attn.o_proj": o.reshape(-1, hidden).T, "mlp.gate_proj": gate.T,
            "mlp.up_proj": up.T, "mlp.down_proj": down.T, "input_layernorm": one, "post_attention_layernorm": two,
        }  # fmt: skip
        hf |= {f"model.layers.{i}.{n}.weight": a for n, a in parts.items()}
    (tmp_path / "hf").mkdir()
    save_file({n: np.ascontiguousarray(a) for n, a in hf.items()}, tmp_path / "hf" / "model.safetensors", {"format": "pt"})
    (tmp_path / "hf" / "config.json").write_text(json.dumps({
        "model_type": "gemma", "architectures": ["GemmaForCausalLM"], "vocab_size": vocab, "hidden_size": hidden,
        "intermediate_size": inner, "num_hidden_layers": 2, "num_attention_heads": heads, "num_key_value_heads": kv, "head_dim": width,
        "rope_theta": 10000.0, "hidden_act": "gelu_pytorch_tanh", "rms_norm_eps": 1e-6, "max_position_embeddings": 64,
    }))  # fmt: skip
    np.savez(tmp_path / "own.npz", **own)  # type: ignore[arg-type]
    oracles.run_in(maxtext(), GEMMA, size, tmp_path / "own.npz", tmp_path / "theirs.npz")
    with np.load(tmp_path / "theirs.npz") as f:
        compared({n: f[n] for n in f.files}, tmp_path / "hf", tmp_path)
