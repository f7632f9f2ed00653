"""Mixtral's first published files, whose experts lie one below the other: what they hold is written down in numpy, tensor by tensor."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import ckptkit
from ckptkit.errors import CheckpointError

LAYERS, HIDDEN, WIDTH, EXPERTS, HEADS, GROUPS, DIM, VOCAB = 2, 12, 10, 3, 3, 1, 4, 17
Arrays = dict[str, np.ndarray]


def apart(rng: np.random.Generator) -> Arrays:
    """The model as transformers has it on disk."""

    def draw(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * 0.1 + (len(shape) == 1)).astype(np.float32)  # norms scale by about one

    out = {"model.embed_tokens.weight": draw(VOCAB, HIDDEN), "model.norm.weight": draw(HIDDEN), "lm_head.weight": draw(VOCAB, HIDDEN)}
    for i in range(LAYERS):
        at = f"model.layers.{i}."
        out |= {
            f"{at}input_layernorm.weight": draw(HIDDEN), f"{at}post_attention_layernorm.weight": draw(HIDDEN),
            f"{at}self_attn.q_proj.weight": draw(HEADS * DIM, HIDDEN), f"{at}self_attn.k_proj.weight": draw(GROUPS * DIM, HIDDEN),
            f"{at}self_attn.v_proj.weight": draw(GROUPS * DIM, HIDDEN), f"{at}self_attn.o_proj.weight": draw(HIDDEN, HEADS * DIM),
            f"{at}block_sparse_moe.gate.weight": draw(EXPERTS, HIDDEN),
        }  # fmt: skip
        for e in range(EXPERTS):
            shapes = {"w1": (WIDTH, HIDDEN), "w2": (HIDDEN, WIDTH), "w3": (WIDTH, HIDDEN)}
            out |= {f"{at}block_sparse_moe.experts.{e}.{w}.weight": draw(*shape) for w, shape in shapes.items()}
    return out


def paired(a: np.ndarray, heads: int) -> np.ndarray:
    """The rows of a head with the two of a rotated pair next to each other, as Mistral has them; transformers has the halves apart."""
    out = np.empty_like(a)
    for h in range(heads):
        for j in range(DIM // 2):
            out[h * DIM + 2 * j], out[h * DIM + 2 * j + 1] = a[h * DIM + j], a[h * DIM + DIM // 2 + j]
    return out


def stacked(hf: Arrays) -> Arrays:
    """The same as first published: w1, w2 and w3 of a layer have WIDTH rows of each expert, w2 turned."""
    out = {"tok_embeddings.weight": hf["model.embed_tokens.weight"], "norm.weight": hf["model.norm.weight"]}
    out["output.weight"] = hf["lm_head.weight"]
    for i in range(LAYERS):
        at, to = f"model.layers.{i}.", f"layers.{i}."
        out |= {
            f"{to}attention_norm.weight": hf[f"{at}input_layernorm.weight"],
            f"{to}ffn_norm.weight": hf[f"{at}post_attention_layernorm.weight"],
            f"{to}attention.wq.weight": paired(hf[f"{at}self_attn.q_proj.weight"], HEADS),
            f"{to}attention.wk.weight": paired(hf[f"{at}self_attn.k_proj.weight"], GROUPS),
            f"{to}attention.wv.weight": hf[f"{at}self_attn.v_proj.weight"], f"{to}attention.wo.weight": hf[f"{at}self_attn.o_proj.weight"],
            f"{to}block_sparse_moe.gate.weight": hf[f"{at}block_sparse_moe.gate.weight"],
        }  # fmt: skip
        for w in ("w1", "w2", "w3"):
            a = np.zeros((EXPERTS * WIDTH, HIDDEN), np.float32)
            for e in range(EXPERTS):
                own = hf[f"{at}block_sparse_moe.experts.{e}.{w}.weight"]
                for row in range(WIDTH):
                    a[e * WIDTH + row] = own[:, row] if w == "w2" else own[row]
            out[f"{to}block_sparse_moe.{w}"] = a
    return out


def publish(folder: Path, held: Arrays, files: int = 2) -> Path:
    """Dealt out to files by layers, as the first release was."""
    torch = pytest.importorskip("torch")
    folder.mkdir()
    names = sorted(held)
    for k in range(files):
        part = {n: torch.from_numpy(held[n].copy()) for n in names[k * len(names) // files : (k + 1) * len(names) // files]}
        torch.save(part, folder / f"consolidated.{k:02}.pt")
    said = {
        "dim": HIDDEN, "n_layers": LAYERS, "head_dim": DIM, "hidden_dim": WIDTH, "n_heads": HEADS, "n_kv_heads": GROUPS, "norm_eps": 1e-5,
        "vocab_size": VOCAB, "moe": {"num_experts": EXPERTS, "num_experts_per_tok": 2},
    }  # fmt: skip
    (folder / "params.json").write_text(json.dumps(said))
    return folder


@pytest.fixture
def model() -> Arrays:
    return apart(np.random.default_rng(7))


@pytest.mark.parametrize("files", [1, 2, 4])
def test_stacked_experts_become_those_of_transformers(files: int, model: Arrays, tmp_path: Path) -> None:
    run = publish(tmp_path / "run", stacked(model), files)
    found = ckptkit.inspect(run)
    assert found.dialect == "mistral_stacked"
    assert not [f for f in ckptkit.validate(run).findings if f.severity in ("error", "warning")]
    ckptkit.convert(run, tmp_path / "hf", to="hf")
    got = load_file(tmp_path / "hf" / "model.safetensors")
    assert got.keys() == model.keys() and [n for n, a in model.items() if not np.array_equal(got[n], a)] == []
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert (config["num_local_experts"], config["intermediate_size"], config["num_experts_per_tok"]) == (EXPERTS, WIDTH, 2)


def test_the_way_back_gives_the_same_rows(model: Arrays, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    run = publish(tmp_path / "run", stacked(model))
    ckptkit.convert(run, tmp_path / "hf", to="hf")
    ckptkit.convert(tmp_path / "hf", tmp_path / "back", to="mistral_stacked")
    got = torch.load(tmp_path / "back" / "consolidated.00.pth")
    want = stacked(model)
    assert got.keys() == want.keys() and all(np.array_equal(got[n].numpy(), a) for n, a in want.items())


def test_the_naming_with_experts_apart_is_told_from_it(model: Arrays, tmp_path: Path) -> None:
    held = {n: a for n, a in stacked(model).items() if "block_sparse_moe" not in n}
    for i in range(LAYERS):
        held[f"layers.{i}.feed_forward.gate.weight"] = model[f"model.layers.{i}.block_sparse_moe.gate.weight"]
        for e in range(EXPERTS):
            for w in ("w1", "w2", "w3"):
                held[f"layers.{i}.feed_forward.experts.{e}.{w}.weight"] = model[f"model.layers.{i}.block_sparse_moe.experts.{e}.{w}.weight"]
    (tmp_path / "one").mkdir()
    save_file(held, tmp_path / "one" / "consolidated.safetensors")
    run = publish(tmp_path / "run", stacked(model))
    (tmp_path / "one" / "params.json").write_bytes((run / "params.json").read_bytes())
    assert ckptkit.inspect(tmp_path / "one").dialect == "mistral"
    found = ckptkit.diff(tmp_path / "one", run)
    assert len(found.changes) == 3 + LAYERS * (7 + 3 * EXPERTS) and not found.different


def test_a_row_too_few_names_the_tensor(model: Arrays, tmp_path: Path) -> None:
    held = stacked(model)
    held["layers.1.block_sparse_moe.w2"] = held["layers.1.block_sparse_moe.w2"][:-1]
    run = publish(tmp_path / "run", held)
    (said,) = [f for f in ckptkit.validate(run).findings if f.severity == "error"]
    assert said.where == "layers.1.block_sparse_moe.w2" and "dimension 0 is 29, the other tensors make it 30" in said.message
    with pytest.raises(CheckpointError):
        ckptkit.convert(run, tmp_path / "hf", to="hf")


def test_without_a_router_nothing_says_how_many_experts_there_are(model: Arrays, tmp_path: Path) -> None:
    held = {n: a for n, a in stacked(model).items() if not n.endswith("moe.gate.weight")}
    said = [f.message for f in ckptkit.validate(publish(tmp_path / "run", held)).findings if f.severity == "error"]
    assert any("block_sparse_moe.gate.weight" in s for s in said)
