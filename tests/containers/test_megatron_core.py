"""Megatron-core as judge: what is written for Megatron, in both forms, for two tensor-parallel ranks and two stages, is loaded by its own
code into its own models, and every rank has the tensors that the same cut by hand gives and answers as transformers does.

Needs an environment of its own (CKPTKIT_ORACLE_ENVS=1 builds it: megatron-core 0.16.1 on a CPU). Measured: the tensors of all six families
are the same bits; logits differ by 3e-6 (llama, gpt2) to 7e-6 (qwen2), of a largest 4.6 to 7.5.
"""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
from megatron_files import qkv
from safetensors.numpy import load_file

import ckptkit

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
SIZES = {
    "vocab_size": 179, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {**SIZES, "rms_norm_eps": 1e-5},
    "mistral": {**SIZES, "sliding_window": 5, "head_dim": 16},
    "mixtral": {**SIZES, "num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen2": {**SIZES, "tie_word_embeddings": True},
    "qwen3": {**SIZES, "head_dim": 16, "tie_word_embeddings": True},
    "gpt2": {"vocab_size": 179, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 40},
}
TP, PP, ROWS = 2, 2, 256
STAGES = (range(2), range(2, 3))


def made(family: str, folder: Path) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """A model of transformers with random weights: its tensors, some words and its logits."""
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(family, **FAMILIES[family])
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    for name, p in model.named_parameters():
        torch.nn.init.normal_(p, mean=1.0 if "norm" in name or ".ln_" in name else 0.0, std=0.3)
    model.save_pretrained(folder)
    ids = torch.arange(24).reshape(2, 12) * 7 % 179
    with torch.no_grad():
        return load_file(folder / "model.safetensors"), ids.numpy(), model(ids).logits.numpy()


def layer(hf: dict[str, np.ndarray], family: str, i: int, rank: int) -> dict[str, np.ndarray]:
    """One layer's share of a rank, under Megatron's names."""

    def cut(a: np.ndarray, axis: int = 0) -> np.ndarray:
        return np.array_split(a, TP, axis)[rank]

    def gated(gate: str, up: str) -> np.ndarray:
        return np.concatenate([cut(hf[gate]), cut(hf[up])])

    if family == "gpt2":
        own = {n.removeprefix(f"transformer.h.{i}."): a for n, a in hf.items() if n.startswith(f"transformer.h.{i}.")}
        out = {
            f"{to}.{kind}": own[f"{name}.{kind}"] for name, to in (("ln_1", "input_layernorm"), ("ln_2", "pre_mlp_layernorm"))
            for kind in ("weight", "bias")
        }  # fmt: skip
        for kind in ("weight", "bias"):  # transformers has them (in, out)
            out[f"self_attention.linear_qkv.{kind}"] = cut(qkv(*np.split(own[f"attn.c_attn.{kind}"].T, 3), groups=4))
            out[f"mlp.linear_fc1.{kind}"] = cut(own[f"mlp.c_fc.{kind}"].T)
        for name, to in (("attn.c_proj", "self_attention.linear_proj"), ("mlp.c_proj", "mlp.linear_fc2")):
            out |= {f"{to}.weight": cut(own[f"{name}.weight"].T, 1), f"{to}.bias": own[f"{name}.bias"]}
        return out
    a = f"model.layers.{i}."
    names = {"input_layernorm": "input_layernorm", "post_attention_layernorm": "pre_mlp_layernorm"}
    out = {f"{to}.weight": hf[f"{a}{name}.weight"] for name, to in names.items()}
    for kind in ("weight", "bias") if family == "qwen2" else ("weight",):
        out[f"self_attention.linear_qkv.{kind}"] = cut(qkv(*(hf[f"{a}self_attn.{x}_proj.{kind}"] for x in "qkv")))
    out["self_attention.linear_proj.weight"] = cut(hf[a + "self_attn.o_proj.weight"], 1)
    if family == "qwen3":
        out |= {f"self_attention.{x}_layernorm.weight": hf[f"{a}self_attn.{x}_norm.weight"] for x in "qk"}
    if family != "mixtral":
        out["mlp.linear_fc1.weight"] = gated(a + "mlp.gate_proj.weight", a + "mlp.up_proj.weight")
        return {**out, "mlp.linear_fc2.weight": cut(hf[a + "mlp.down_proj.weight"], 1)}
    stacked = a + "mlp.experts.gate_up_proj" in hf
    assert not stacked, "transformers saves the experts of Mixtral apart"
    out["mlp.router.weight"] = hf[a + "block_sparse_moe.gate.weight"]
    for e in range(4):
        b, to = f"{a}block_sparse_moe.experts.{e}.", f"mlp.experts.local_experts.{e}."
        out |= {to + "linear_fc1.weight": gated(b + "w1.weight", b + "w3.weight"), to + "linear_fc2.weight": cut(hf[b + "w2.weight"], 1)}
    return out


def expected(hf: dict[str, np.ndarray], family: str, rank: int, stage: int) -> dict[str, np.ndarray]:
    """All that a rank of a stage has."""
    gpt2 = family == "gpt2"
    words = hf["transformer.wte.weight" if gpt2 else "model.embed_tokens.weight"]

    def share(a: np.ndarray) -> np.ndarray:
        return np.array_split(np.concatenate([a, np.zeros((ROWS - len(a), a.shape[1]), a.dtype)]), TP)[rank]

    out = {}
    for to, i in enumerate(STAGES[stage]):
        out |= {f"decoder.layers.{to}.{n}": a for n, a in layer(hf, family, i, rank).items()}
    if stage == 0:
        out["embedding.word_embeddings.weight"] = share(words)
        return out | ({"embedding.position_embeddings.weight": hf["transformer.wpe.weight"]} if gpt2 else {})
    for kind in ("weight", "bias") if gpt2 else ("weight",):
        out[f"decoder.final_layernorm.{kind}"] = hf[f"transformer.ln_f.{kind}" if gpt2 else f"model.norm.{kind}"]
    return {**out, "output_layer.weight": share(hf.get("lm_head.weight", words))}


@pytest.mark.parametrize("form", ["dist", "legacy"])
@pytest.mark.parametrize("family", FAMILIES)
def test_megatron_core_loads_what_is_written_for_it(family: str, form: str, tmp_path: Path) -> None:
    python = oracles.environment("megatron-core-0.16", "torch==2.13.0", "megatron-core==0.16.1")
    hf, ids, want = made(family, tmp_path / "hf")
    words = {"container": "dcp"} if form == "dist" else {}
    ckptkit.convert(tmp_path / "hf", tmp_path / "c", to="megatron" if words else "megatron_local", tp=TP, pp=PP, **words)
    (tmp_path / "out").mkdir()
    np.save(tmp_path / "out" / "ids.npy", ids)
    folder = tmp_path / "c" / ("" if form == "dist" else "iter_0000001")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    program = Path(oracles.__file__).with_name("megatron_core.py")
    args = [str(x) for x in (folder, tmp_path / "hf" / "config.json", tmp_path / "out")]
    ranks = [
        subprocess.Popen(
            [python, program, *args, str(r), str(TP), str(PP), form, str(port)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for r in range(TP * PP)
    ]  # fmt: skip
    try:
        said = [r.communicate(timeout=300)[0] for r in ranks]
    finally:
        for r in ranks:
            r.kill()
    assert [r.returncode for r in ranks] == [0] * len(ranks), "\n".join(t[-1500:] for t in said)
    for r in range(TP * PP):
        have = dict(np.load(tmp_path / "out" / f"rank_{r}.npz"))
        logits = have.pop("logits", None)
        mine = expected(hf, family, r % TP, r // TP)
        assert {n for n in have if "rotary" not in n} == set(mine)
        for name, a in mine.items():
            np.testing.assert_array_equal(have[name], a, err_msg=f"{name} of rank {r}")
        if r // TP == PP - 1:
            assert logits is not None
            np.testing.assert_allclose(logits[..., :179], want, atol=1e-5, rtol=1e-5)
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["model_type"] == family
