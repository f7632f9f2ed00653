"""The first Megatron's names for GPT-2, which CPM has: its matrix of queries, keys and values is neither later Megatron's nor ChatGLM's."""

from __future__ import annotations

from pathlib import Path

import pytest

import ckptkit
from ckptkit.errors import CheckpointError

torch = pytest.importorskip("torch")
HIDDEN, HEADS, LAYERS = 16, 4, 2


def stored() -> dict[str, torch.Tensor]:
    made = torch.Generator().manual_seed(0)

    def weights(*shape: int, around: float = 0.0) -> torch.Tensor:
        return torch.randn(*shape, generator=made) * 0.1 + around

    out = {"word_embeddings.weight": weights(60, HIDDEN), "position_embeddings.weight": weights(20, HIDDEN)}
    sizes = {
        "attention.query_key_value": (3 * HIDDEN, HIDDEN), "attention.dense": (HIDDEN, HIDDEN), "mlp.dense_h_to_4h": (4 * HIDDEN, HIDDEN),
        "mlp.dense_4h_to_h": (HIDDEN, 4 * HIDDEN),
    }  # fmt: skip
    for i in range(LAYERS):
        at = f"transformer.layers.{i}."
        for name, shape in sizes.items():
            out |= {f"{at}{name}.weight": weights(*shape), f"{at}{name}.bias": weights(shape[0])}
        for name in ("input_layernorm", "post_attention_layernorm"):
            out |= {f"{at}{name}.weight": weights(HIDDEN, around=1), f"{at}{name}.bias": weights(HIDDEN)}
    return out | {"transformer.final_layernorm.weight": weights(HIDDEN, around=1), "transformer.final_layernorm.bias": weights(HIDDEN)}


def run(w: dict[str, torch.Tensor], ids: torch.Tensor) -> torch.Tensor:
    """The logits, by hand."""
    from torch.nn import functional as F

    def pair(name: str) -> tuple[torch.Tensor, torch.Tensor]:
        return w[f"{name}.weight"], w[f"{name}.bias"]

    n = ids.shape[1]
    x = w["word_embeddings.weight"][ids] + w["position_embeddings.weight"][:n]
    for i in range(LAYERS):
        at = f"transformer.layers.{i}."
        joined = F.linear(F.layer_norm(x, (HIDDEN,), *pair(at + "input_layernorm")), *pair(at + "attention.query_key_value"))
        q, k, v = (t.view(1, n, HEADS, -1).transpose(1, 2) for t in joined.chunk(3, -1))
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(1, n, HIDDEN)
        x = x + F.linear(seen, *pair(at + "attention.dense"))
        inner = F.linear(F.layer_norm(x, (HIDDEN,), *pair(at + "post_attention_layernorm")), *pair(at + "mlp.dense_h_to_4h"))
        x = x + F.linear(F.gelu(inner, approximate="tanh"), *pair(at + "mlp.dense_4h_to_h"))
    return F.layer_norm(x, (HIDDEN,), *pair("transformer.final_layernorm")) @ w["word_embeddings.weight"].T


def test_it_is_gpt2_goes_to_transformers_and_back_and_computes_what_it_computed(tmp_path: Path) -> None:
    from transformers import GPT2LMHeadModel

    (tmp_path / "cpm").mkdir()
    file, weights = tmp_path / "cpm" / "mp_rank_00_model_states.pt", stored()
    torch.save({"module": weights}, file)
    report = ckptkit.validate(tmp_path / "cpm")
    assert report.subject.architecture is not None and report.subject.architecture.name == "gpt2"  # not ChatGLM
    assert [f for f in report.findings if f.severity != "info"] == []
    with pytest.raises(CheckpointError, match="heads"):
        ckptkit.convert(tmp_path / "cpm", tmp_path / "unsaid", to="hf")
    ckptkit.convert(tmp_path / "cpm", tmp_path / "hf", to="hf", given={"heads": HEADS})
    ids = torch.tensor([[3, 4, 5, 6, 7, 9]])
    with torch.no_grad():
        off = (GPT2LMHeadModel.from_pretrained(tmp_path / "hf").eval()(ids).logits - run(weights, ids)).abs().max()
    assert off < 1e-5
    ckptkit.convert(tmp_path / "hf", tmp_path / "back", to="megatron_flat")
    back = torch.load(tmp_path / "back" / file.name, weights_only=True)["module"]
    assert back.keys() == weights.keys() and all(torch.equal(a, back[n]) for n, a in weights.items())
