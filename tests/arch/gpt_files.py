"""What the tests of GPT and GPT-2 share: the cases, reading without ckptkit, and random models with their layout written out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import oracles

import ckptkit
from ckptkit.findings import Finding

Arrays = dict[str, np.ndarray]
TOLERANCE = 1e-5
NPY = oracles.golden("gpt1_npy")
HPARAMS = str(NPY / "hparams_train_args.json")
HF_FORMS = ["safetensors", "bin_zip", "bin_legacy"]
# case -> (folder, its configuration where that does not lie beside it, architecture, dialect, container, layers)
CASES = {
    "gpt2_tf": (oracles.golden("gpt2_tf"), None, "gpt2", "openai", "tf", 3),
    "b4k_gpt2": (oracles.golden("b4k_gpt2"), None, "gpt2", "bert4keras", "tf", 3),
    "gpt1_npy": (NPY / "model", HPARAMS, "openai-gpt", "openai", "openai-npy", 3),
    "gpt1_npy from above": (NPY, HPARAMS, "openai-gpt", "openai", "openai-npy", 3),
    "gpt1_npy from an array": (NPY / "model" / "params_3.npy", HPARAMS, "openai-gpt", "openai", "openai-npy", 3),
    "gpt1_jl": (NPY / "finetuned_best_params.jl", HPARAMS, "openai-gpt", "openai_finetuned", "joblib", 3),
    **{f"hf_gpt2/{f}": (oracles.golden("hf_gpt2") / f, None, "gpt2", "hf", "torch" if "bin" in f else f, 5) for f in HF_FORMS},
    **{f"hf_gpt1/{f}": (oracles.golden("hf_gpt1") / f, None, "openai-gpt", "hf", "torch" if "bin" in f else f, 3) for f in HF_FORMS},
}


def load_torch(path: Path) -> Arrays:
    import torch

    return {k: v.numpy() for k, v in torch.load(path, map_location="cpu", weights_only=True).items()}


def load_safetensors(path: Path) -> Arrays:
    from safetensors.numpy import load_file

    return dict(load_file(path))


def load_published(folder: Path, names: list[str]) -> Arrays:
    """The folder as train.py reads it: ten arrays end to end, cut by the shapes."""
    shapes = json.loads((folder / "params_shapes.json").read_text())
    flat = np.concatenate([np.load(folder / f"params_{n}.npy") for n in range(10)], 0)
    cut = np.split(flat, np.cumsum([np.prod(s) for s in shapes]))[:-1]
    return {n: p.reshape(s) for n, p, s in zip(names, cut, shapes, strict=True)}


def equal(have: Arrays, want: Arrays) -> None:
    assert have.keys() == want.keys()
    for name, array in want.items():
        assert have[name].shape == array.shape and have[name].dtype == array.dtype and have[name].tobytes() == array.tobytes(), name


def errors(report: ckptkit.Report) -> list[Finding]:
    return [f for f in report.findings if f.severity != "info"]


# ---------------------------------------------------------------------------------------------- layouts by hand


def by_hand(hf: Arrays, layers: int, word: str, position: str) -> Arrays:
    """OpenAI's variables of a transformers state dict without prefix: the same matrices, with a unit dimension in front."""
    out = {word: hf.get("wte.weight", hf.get("tokens_embed.weight")), position: hf.get("wpe.weight", hf.get("positions_embed.weight"))}
    for i in range(layers):
        for name in ("attn/c_attn", "attn/c_proj", "mlp/c_fc", "mlp/c_proj"):
            out[f"model/h{i}/{name}/w"] = hf[f"h.{i}.{name.replace('/', '.')}.weight"][None]
            out[f"model/h{i}/{name}/b"] = hf[f"h.{i}.{name.replace('/', '.')}.bias"]
        for name in ("ln_1", "ln_2"):
            out[f"model/h{i}/{name}/g"] = hf[f"h.{i}.{name}.weight"]
            out[f"model/h{i}/{name}/b"] = hf[f"h.{i}.{name}.bias"]
    if "ln_f.weight" in hf:
        out |= {"model/ln_f/g": hf["ln_f.weight"], "model/ln_f/b": hf["ln_f.bias"]}
    return out


def random_hf(seed: int, layers: int, heads: int, vocab: int, *, gpt1: bool = False) -> tuple[Arrays, dict[str, object]]:
    rng = np.random.default_rng(seed)
    hidden, positions = 6 * heads, 7 + seed % 5
    word, position = ("tokens_embed", "positions_embed") if gpt1 else ("wte", "wpe")
    shapes: dict[str, tuple[int, ...]] = {f"{word}.weight": (vocab, hidden), f"{position}.weight": (positions, hidden)}
    for i in range(layers):
        for name, (a, b) in {
            "attn.c_attn": (hidden, 3 * hidden), "attn.c_proj": (hidden, hidden), "mlp.c_fc": (hidden, 4 * hidden),
            "mlp.c_proj": (4 * hidden, hidden),
        }.items():  # fmt: skip
            shapes |= {f"h.{i}.{name}.weight": (a, b), f"h.{i}.{name}.bias": (b,)}
        for name in ("ln_1", "ln_2"):
            shapes |= {f"h.{i}.{name}.weight": (hidden,), f"h.{i}.{name}.bias": (hidden,)}
    if not gpt1:
        shapes |= {"ln_f.weight": (hidden,), "ln_f.bias": (hidden,)}
    config: dict[str, object] = {
        "model_type": "openai-gpt" if gpt1 else "gpt2", "vocab_size": vocab, "n_positions": positions, "n_embd": hidden, "n_head": heads,
        "n_layer": layers,
    }  # fmt: skip
    config |= {"afn": "gelu"} if gpt1 else {"activation_function": "gelu_new"}
    return {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}, config


def save_hf(folder: Path, arrays: Arrays, config: dict[str, object]) -> Path:
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    save_file(arrays, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return folder
