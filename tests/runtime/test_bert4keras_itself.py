"""bert4keras as judge: it loads what is written for it, of transformers' names, and gives what a model of that file gives here.

Needs an environment of its own, for Python 3.7 (CKPTKIT_ORACLE_ENVS=1 builds it).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import running

import ckptkit

RUN = """
import json, sys
import numpy as np
from bert4keras.backend import set_gelu
from bert4keras.models import build_transformer_model
for name, config, weights, inputs, out, options, gelu in json.loads(sys.argv[1]):
    set_gelu(gelu)
    whole = weights.endswith(".h5")
    model = build_transformer_model(config, None if whole else weights, model=name, return_keras_model=True, **options)
    if whole:
        model.load_weights(weights)
    with np.load(inputs) as f:
        found = model.predict([f["ids"], f["segments"]][: len(model.inputs)])
    np.save(out, found)
"""
SIZES: dict[str, Any] = {
    "vocab_size": 61, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24,
    "max_position_embeddings": 32, "type_vocab_size": 2,
}  # fmt: skip
GPT2: dict[str, Any] = {"vocab_size": 61, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 32}
# case -> (key, class of transformers, its settings, options of both libraries, naming, spread of the weights)
CASES: dict[str, tuple[str, str, dict[str, Any], dict[str, Any], str, float]] = {
    "bert": ("bert", "Bert", SIZES, {}, "google", 0.2),
    "bert that writes": ("bert", "Bert", SIZES, {"application": "lm"}, "google", 0.2),
    "bert whose second text is written": ("bert", "Bert", SIZES, {"application": "unilm"}, "google", 0.2),
    "the same in Keras' names": ("bert", "Bert", SIZES, {"application": "unilm"}, "bert4keras_h5", 0.2),
    "roformer": ("roformer", "RoFormer", SIZES, {}, "google", 0.2),
    # of small numbers, which show whose epsilon it is: its head has BERT's, its layers Keras' own
    "roformer of small numbers": ("roformer", "RoFormer", SIZES, {}, "bert4keras_h5", 0.02),
    "roformer whose second text is written": ("roformer", "RoFormer", SIZES, {"application": "unilm"}, "google", 0.2),
    "albert": ("albert", "Albert", {**SIZES, "embedding_size": 8, "hidden_act": "gelu"}, {}, "google", 0.2),
    "albert of small numbers": ("albert", "Albert", {**SIZES, "embedding_size": 8, "hidden_act": "gelu"}, {}, "bert4keras_h5", 0.001),
    "nezha of small numbers": ("nezha", "Bert", SIZES, {}, "bert4keras_h5", 0.001),
    "gpt2": ("gpt2", "GPT2", GPT2, {}, "bert4keras_h5", 0.2),
}  # fmt: skip


def saved(case: str, folder: Path) -> Path:
    """A model of transformers, of weights that the norms' epsilon shows in or does not."""
    import torch
    import transformers

    key, stem, sizes, _, _, spread = CASES[case]
    torch.manual_seed(1)
    head = "LMHeadModel" if stem == "GPT2" else "ForMaskedLM"
    model = getattr(transformers, stem + head)(getattr(transformers, stem + "Config")(**sizes)).eval()
    for name, p in model.named_parameters():
        # the shifts of norms too, of small numbers: what the next layer is given stays small, and shows by how much it was divided
        if (p.ndim > 1 and "embed_positions" not in name) or (spread < 0.01 and "norm" in name.lower()):
            p.data.normal_(0, spread)
    model.save_pretrained(folder)
    if key == "nezha":  # which transformers has no more: a BERT without positions
        rename_as_nezha(folder)
    return folder


def rename_as_nezha(folder: Path) -> None:
    from safetensors.numpy import load_file, save_file

    arrays = {n.replace("bert.", "nezha.", 1): a for n, a in load_file(folder / "model.safetensors").items() if "position_emb" not in n}
    save_file(arrays, folder / "model.safetensors", {"format": "pt"})
    said = json.loads((folder / "config.json").read_text())
    theirs = {**said, "model_type": "nezha", "architectures": ["NezhaForMaskedLM"], "max_relative_position": 64}
    (folder / "config.json").write_text(json.dumps(theirs))


def test_bert4keras_gives_of_what_is_written_for_it_what_is_computed_here(tmp_path: Path) -> None:
    python = oracles.environment(
        "bert4keras", "tensorflow==1.15.5", "Keras==2.3.1", "bert4keras==0.11.5", "numpy==1.18.5", "h5py==2.10.0", "protobuf==3.20.3",
        "scipy==1.7.3", interpreter="python3.7",
    )  # fmt: skip
    given = {"ids": np.random.default_rng(0).integers(5, 54, (3, 12)), "segments": (np.arange(12) > 5).astype(int)[None].repeat(3, 0)}
    np.savez(tmp_path / "inputs.npz", **given)
    asked = []
    for case, (key, _, _, options, naming, _) in CASES.items():
        out = tmp_path / case
        ckptkit.convert(saved(case, tmp_path / "hf" / case), out, to=naming)
        config = next(p for p in out.iterdir() if p.name.endswith("config.json"))
        said = json.loads(config.read_text())
        said.pop("ckptkit", None)  # what its library does not read
        config.write_text(json.dumps(said))
        weights = next((str(p) for p in out.glob("*.h5")), None) or str(next(out.glob("*.index"))).removesuffix(".index")
        theirs = {**options, **({} if key == "gpt2" else {"with_mlm": "linear"})}
        gelu = "erf" if said["hidden_act"] == "gelu" and key == "roformer" else "tanh"
        asked.append((key, str(config), weights, str(tmp_path / "inputs.npz"), str(out / "theirs.npy"), theirs, gelu))
    oracles.run_in(python, RUN, json.dumps(asked))
    for case, (key, _, _, options, _, spread) in CASES.items():
        out = tmp_path / case
        model = ckptkit.build_transformer_model(None, out, model=key, with_mlm=True, **options)
        ours = running.run(model, {"input_ids": given["ids"], "token_type_ids": given["segments"]})
        theirs = np.load(out / "theirs.npy")
        (mine,) = [a for n, a in ours.items() if a.shape == theirs.shape and n in ("mlm", "lm", "hidden")]
        if key == "gpt2":  # whose program gives probabilities
            mine = np.exp(mine) / np.exp(mine).sum(-1, keepdims=True)
        bound = 1e-5 if spread > 0.1 else 1e-6 if spread > 0.01 else 1e-4 * np.abs(theirs).max()
        assert np.abs(mine - theirs).max() < bound, (case, np.abs(mine - theirs).max())
