"""What the tests of TensorFlow 2's files share: TensorFlow's reading of them, and programs to save."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import oracles

from ckptkit.containers._tensorflow.object_graph import KEY

SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
Arrays = dict[str, np.ndarray]


def variables(prefix: Path) -> Arrays:
    """What TensorFlow reads, by its own keys, without the graph."""
    return {n: v for n, v in oracles.tf_variables(prefix).items() if n != KEY}


def graph_of(prefix: Path) -> Any:
    """The object graph as TensorFlow's own protobuf."""
    import tensorflow as tf
    from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

    return TrackableObjectGraph.FromString(tf.train.load_checkpoint(str(prefix)).get_tensor(KEY))


def same(have: Arrays, want: Arrays) -> None:
    assert have.keys() == want.keys()
    for n, v in want.items():
        if v.dtype == object:
            assert list(have[n]) == list(v), n
            continue
        assert have[n].dtype == v.dtype and have[n].shape == v.shape and have[n].tobytes() == v.tobytes(), n


def program() -> Any:
    """A module with what object graphs can hold: shared objects, lists, dictionaries, names that need escapes, several types."""
    import tensorflow as tf

    class Part(tf.Module):
        def __init__(self, seed: int) -> None:
            super().__init__()
            rng = np.random.default_rng(seed)
            self.kernel = tf.Variable(rng.normal(size=(3, 4)).astype(np.float32), name="kernel")
            self.count = tf.Variable(seed, dtype=tf.int64)

    class Whole(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = [Part(i) for i in range(12)]
            self.again = self.parts[3]
            self.by_name = {"a/b": Part(20), "c.d": Part(21), ".S": Part(22)}
            self.half = tf.Variable(np.arange(5, dtype=np.float16))
            self.flags = tf.Variable([True, False])
            self.text = tf.Variable(["one", "two"])

        @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="rows")])
        def __call__(self, rows: Any) -> Any:
            return {"product": rows @ self.parts[0].kernel, "twice": rows * 2}

    return Whole()
