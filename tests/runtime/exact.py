"""BERT's forward pass in float64 with numpy, from variables under the names that the original programs gave them. No line of ckptkit runs.

The recorded outputs of some golden cases are float32 results whose own rounding is larger than what two programs may differ by: their
scores are far from zero, and softmax multiplies what float32 loses there. This is what those programs compute without it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import oracles

Arrays = dict[str, np.ndarray]
VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
LAYERS = 3


class Read:
    """Variables by the name of a part: `read("attention.query", 0)` is [kernel, bias] in float64."""

    def __init__(self, arrays: Arrays, name: Callable[[str, int], str], words: dict[str, tuple[str, ...]]) -> None:
        self.arrays, self.name, self.words = arrays, name, words

    def __call__(self, part: str, layer: int = 0) -> list[np.ndarray]:
        at = self.name(part, layer)
        kind = "norm" if part.endswith("norm") else "table" if part in ("word", "position", "segment") else "dense"
        return [self.arrays[f"{at}/{w}"].astype(np.float64) for w in self.words[kind]]

    def has(self, part: str) -> bool:
        return any(n.startswith(self.name(part, 0) + "/") for n in self.arrays)


WORDS = {"norm": ("gamma", "beta"), "table": ("embeddings",), "dense": ("kernel", "bias")}
DENSE = {
    "attention.query": "_query_dense",
    "attention.key": "_key_dense",
    "attention.value": "_value_dense",
    "attention.output": "_output_dense",
}


def model_garden(prefix: Path, root: str) -> Read:
    """BertEncoder: embeddings, norm, a layer with weights for each block, the pooler; of a BertPretrainerV2 its heads too."""
    tops = {"word": 0, "position": 1, "segment": 2, "norm": 3, "pooler": 4 + LAYERS}
    inner = {
        "attention.norm": "_attention_layer_norm",
        "intermediate": "_intermediate_dense",
        "output": "_output_dense",
        "output.norm": "_output_layer_norm",
    }
    heads = {
        "mlm.dense": "masked_lm/dense",
        "mlm.norm": "masked_lm/layer_norm",
        "sentence.pooler": "classification_heads/0/dense",
        "sentence": "classification_heads/0/out_proj",
    }

    def name(part: str, layer: int) -> str:
        if part in heads:
            return f"{root.partition('/')[0]}/{heads[part]}"
        if part in tops:
            return f"{root}/layer_with_weights-{tops[part]}"
        return f"{root}/layer_with_weights-{4 + layer}/" + (inner.get(part) or f"_attention_layer/{DENSE[part]}")

    return Read({n.removesuffix(VALUE): v for n, v in oracles.tf_variables(prefix).items()}, name, WORDS)


def tf_keras(prefix: Path) -> Read:
    """A functional model: five layers with weights a block, in the order in which they were made."""
    tops = {"word": 0, "segment": 1, "norm": 2, "pooler": 3 + 5 * LAYERS}
    inner = {"attention": 3, "attention.norm": 4, "intermediate": 5, "output": 6, "output.norm": 7}

    def name(part: str, layer: int) -> str:
        if part in DENSE:
            return f"model/layer_with_weights-{inner['attention'] + 5 * layer}/{DENSE[part]}"
        return f"model/layer_with_weights-{tops[part] if part in tops else inner[part] + 5 * layer if part in inner else 999}"

    return Read({n.removesuffix(VALUE): v for n, v in oracles.tf_variables(prefix).items()}, name, WORDS)


def keras3(weights: Path) -> Read:
    """The variables by the layers' own names: "004|layer_0_attention|query|kernel"."""
    tops = {"word": "word_embeddings", "segment": "token_type_embeddings", "norm": "embeddings_LayerNorm", "pooler": "pooler"}
    inner = {"attention.norm": "attention_LayerNorm", "attention.output": "attention/attention_output", "output.norm": "output_LayerNorm"}

    def name(part: str, layer: int) -> str:
        return tops.get(part) or f"layer_{layer}_{inner.get(part) or part.replace('.', '/')}"

    return Read({n.partition("|")[2].replace("|", "/"): v for n, v in oracles.read_npz(weights).items()}, name, WORDS)


def keras_hub(weights: Path) -> Read:
    """A backbone's .weights.h5, where the first layer of a class has no number and variables have nothing else."""
    import h5py

    arrays: Arrays = {}
    with h5py.File(weights) as file:
        file.visititems(lambda n, v: arrays.update({n: v[()]}) if isinstance(v, h5py.Dataset) else None)
    tops = {
        "word": "reversible_embedding",
        "position": "position_embedding",
        "segment": "embedding",
        "norm": "layer_normalization",
        "pooler": "dense",
    }
    inner = {
        "attention.norm": "_self_attention_layer_norm", "intermediate": "_feedforward_intermediate_dense",
        "output": "_feedforward_output_dense",
        "output.norm": "_feedforward_layer_norm", **{p: f"_self_attention_layer/{d[1:]}" for p, d in DENSE.items()},
    }  # fmt: skip

    def name(part: str, layer: int) -> str:
        return (
            f"layers/{tops[part]}/vars"
            if part in tops
            else f"layers/transformer_encoder{f'_{layer}' if layer else ''}/{inner.get(part, 'none')}/vars"
        )

    return Read(arrays, name, {"norm": ("0", "1"), "table": ("0",), "dense": ("0", "1")})


def erf(x: np.ndarray) -> np.ndarray:
    import math

    return np.asarray(np.vectorize(math.erf)(x))


def gelu(x: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * x * (1 + erf(x / np.sqrt(2))))


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))))


def bert(
    read: Read,
    activation: Callable[[np.ndarray], np.ndarray],
    ids: np.ndarray,
    segments: np.ndarray,
    mask: np.ndarray | None,
    last: Read | None = None,
) -> Arrays:
    """ "sequence", "pooled", and, where `last` (a pretrainer's variables) is given, "mlm_logits" (no activation) and "next_sentence"."""

    def norm(x: np.ndarray, part: str, layer: int = 0, of: Read = read) -> np.ndarray:
        gamma, beta = of(part, layer)
        centred = x - x.mean(-1, keepdims=True)
        return np.asarray(centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12) * gamma + beta)

    def dense(x: np.ndarray, part: str, layer: int = 0, of: Read = read) -> np.ndarray:
        kernel, bias = of(part, layer)
        return np.tensordot(x, kernel, 1) + bias

    x = read("word")[0][ids] + read("segment")[0][segments]
    if read.has("position"):
        x = x + read("position")[0][: ids.shape[1]]
    x = norm(x, "norm")
    for layer in range(LAYERS):
        query, key, value = (dense(x, f"attention.{p}", layer) for p in ("query", "key", "value"))  # batch, position, head, head_dim
        scores = np.einsum("bqhd,bkhd->bhqk", query, key) / np.sqrt(query.shape[-1])
        if mask is not None:
            scores = np.where(mask[:, None, None, :] != 0, scores, -np.inf)
        weights = oracles.softmax(scores)
        kernel, bias = read("attention.output", layer)
        x = norm(x + np.einsum("bhqk,bkhd,hde->bqe", weights, value, kernel) + bias, "attention.norm", layer)
        x = norm(x + dense(activation(dense(x, "intermediate", layer)), "output", layer), "output.norm", layer)
    out = {"sequence": x, "pooled": np.tanh(dense(x[:, 0], "pooler"))}
    if last is not None:
        transformed = norm(dense(x, "mlm.dense", of=last), "mlm.norm", of=last)
        out["mlm_logits"] = transformed @ read("word")[0].T + last.arrays["model/masked_lm/output_bias.Sbias"]
        out["next_sentence"] = dense(np.tanh(dense(x[:, 0], "sentence.pooler", of=last)), "sentence", of=last)
    return out
