"""A family of Llama's kind that is not here is one short file in a folder: named, held against its configuration, converted, rebuilt."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

transformers = pytest.importorskip("transformers")
import torch  # noqa: E402
from families import SMALL, model  # noqa: E402

FAMILY = '''"""Tern: Llama with norms of queries and keys under names of its own, and keys of a configuration of its own."""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import WORDS, D, H, attention, decoder, gated, hf, last, may
from ckptkit.arch._libraries.forward import runs

MODULES = {**WORDS, **attention(qk_norm="head_dim"), **gated(), **last()}
HF = hf(
    "tern", "Tern", MODULES,
    names={
        "embeddings.word": "~tokens", D + "attention.norm": H + "norm_in", D + "attention.query_norm": H + "self_attn.norm_q",
        D + "attention.key_norm": H + "self_attn.norm_k", D + "ffn.norm": H + "norm_out",
    },
    defaults={"activation": "silu", "norm_eps": 1e-6},
)  # fmt: skip
ARCHITECTURE = decoder("tern", "Tern", MODULES, HF, traits=runs(), variants={"tern-tiny": {"layers": 3, "hidden": 32}})
'''
WORDS = {"embed_tokens": "tokens", "input_layernorm": "norm_in", "post_attention_layernorm": "norm_out", "q_norm": "norm_q",
    "k_norm": "norm_k"}  # fmt: skip


def run(folder: Path, *args: object) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "CKPTKIT_ARCH": str(folder / "arch")}
    command = [sys.executable, "-m", "ckptkit", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=300, check=False)


def renamed(name: str) -> str:
    return ".".join(WORDS.get(word, word) for word in name.split("."))


def test_a_family_of_llamas_kind_is_one_file_of_less_than_sixty_lines(tmp_path: Path) -> None:
    assert len(FAMILY.splitlines()) < 60
    (tmp_path / "arch").mkdir()
    (tmp_path / "arch" / "tern.py").write_text(FAMILY)
    model("qwen3", {**SMALL, "head_dim": 12}, tmp_path / "qwen3")  # the same graph under other names: an oracle of outputs
    theirs = load_file(tmp_path / "qwen3" / "model.safetensors")
    raw = json.loads((tmp_path / "qwen3" / "config.json").read_text())
    tern = tmp_path / "tern"
    tern.mkdir()
    save_file({renamed(n): v for n, v in theirs.items()}, tern / "model.safetensors")
    own = {k: v for k, v in raw.items() if k not in ("layer_types", "use_sliding_window", "sliding_window", "max_window_layers")}
    (tern / "config.json").write_text(json.dumps({**own, "model_type": "tern", "architectures": ["TernForCausalLM"]}))
    seen = json.loads(run(tmp_path, "inspect", tern, "--format", "json").stdout)
    assert seen["architecture"]["name"] == "tern" and seen["counts"]["layers"] == 3
    assert run(tmp_path, "validate", tern).returncode == 0
    (tern / "config.json").write_text((tern / "config.json").read_text().replace('"num_hidden_layers": 3', '"num_hidden_layers": 4'))
    wrong = run(tmp_path, "validate", tern)
    assert wrong.returncode == 1 and "4 layers" in wrong.stdout and "3" in wrong.stdout
    (tern / "config.json").write_text((tern / "config.json").read_text().replace('"num_hidden_layers": 4', '"num_hidden_layers": 3'))
    done = run(tmp_path, "convert", tern, tmp_path / "torch", "--to", "hf", "--container", "torch", "-q")
    assert done.returncode == 0, done.stderr
    written = torch.load(tmp_path / "torch" / "pytorch_model.bin", weights_only=True)
    assert all(np.array_equal(written[renamed(n)].numpy(), v) for n, v in theirs.items()) and len(written) == len(theirs)
    ids = np.arange(3, 14)[None]
    with torch.no_grad():
        theirs_runs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "qwen3", dtype=torch.float32)
        want = theirs_runs(torch.from_numpy(ids)).logits.numpy()
    code = (
        "import numpy, sys, torch, ckptkit; m = ckptkit.build_transformer_model(None, sys.argv[1], model='tern', with_mlm=True);"
        "numpy.save(sys.argv[2], m(torch.arange(3, 14)[None])['lm'].detach().numpy())"
    )
    env = {**os.environ, "CKPTKIT_ARCH": str(tmp_path / "arch")}
    subprocess.run([sys.executable, "-c", code, str(tern), str(tmp_path / "lm.npy")], env=env, check=True, timeout=300)
    assert np.abs(np.load(tmp_path / "lm.npy") - want).max() <= 1e-5
