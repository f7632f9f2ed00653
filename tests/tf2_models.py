"""The golden Keras models of TensorFlow 2, built again by Keras itself for any number of layers: the same layers, the same names."""

from __future__ import annotations

from typing import Any

import numpy as np


def small_bert(
    keras: Any, *, layers: int = 3, hidden: int = 32, heads: int = 4, inner: int = 80, vocab: int = 131, length: int = 12
) -> Any:
    """A functional BERT-like encoder without positions, in `keras` (Keras 3) or `tf_keras`: (sequence, pooled) of ids and segments."""
    k = keras.layers
    ids = keras.Input((length,), dtype="int32", name="input_ids")
    segments = keras.Input((length,), dtype="int32", name="segment_ids")
    x = k.Add()([k.Embedding(vocab, hidden, name="word_embeddings")(ids), k.Embedding(2, hidden, name="token_type_embeddings")(segments)])
    x = k.LayerNormalization(epsilon=1e-12, name="embeddings_LayerNorm")(x)
    for i in range(layers):
        a = k.MultiHeadAttention(heads, hidden // heads, name=f"layer_{i}_attention")(x, x)
        x = k.LayerNormalization(epsilon=1e-12, name=f"layer_{i}_attention_LayerNorm")(k.Add()([x, a]))
        y = k.Dense(inner, activation="gelu", name=f"layer_{i}_intermediate")(x)
        y = k.Dense(hidden, name=f"layer_{i}_output")(y)
        x = k.LayerNormalization(epsilon=1e-12, name=f"layer_{i}_output_LayerNorm")(k.Add()([x, y]))
    pooled = k.Dense(hidden, activation="tanh", name="pooler")(x[:, 0])
    model = keras.Model([ids, segments], [x, pooled])
    rng = np.random.default_rng(layers)
    model.set_weights([rng.normal(1 if "gamma" in w.name else 0, 0.05, w.shape).astype(np.float32) for w in model.weights])
    return model
