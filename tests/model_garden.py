"""The TensorFlow Model Garden's own encoders, run beside the project: `python model_garden.py save|load ...` in a process that finds
tf-models-official and tf_keras on its path. What those packages import and encoders do not use is stood in for.

    save KIND LAYERS FOLDER     a model of random weights, saved in the Model Garden's ways, with its outputs
    load KIND LAYERS FOLDER PREFIX HOW    restored from PREFIX; says how far its outputs are from FOLDER's
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import types
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ABSENT = frozenset((
    "tensorflow_hub", "tensorflow_text", "tensorflow_datasets", "sentencepiece", "yaml", "tensorflow_model_optimization", "seqeval",
    "sacrebleu",
    "pycocotools", "cv2", "matplotlib", "pandas", "psutil", "tensorflow_probability", "kaggle", "scipy", "tf_slim", "immutabledict",
))  # fmt: skip


class _Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if name.split(".")[0] in ABSENT else None

    def create_module(self, spec: Any) -> Any:
        module = mock.MagicMock(name=spec.name)
        module.__path__, module.__spec__, module.__name__ = [], spec, spec.name
        return module

    def exec_module(self, module: Any) -> None:
        pass


def garden() -> Any:
    """BertEncoder, BertEncoderV2, AlbertEncoder, BertPretrainerV2, ClassificationHead of the installed Model Garden."""
    gin: Any = types.ModuleType("gin")
    gin.configurable = gin.register = gin.constants_from_enum = lambda x=None, *a, **k: x if callable(x) else (lambda c: c)
    gin.external_configurable, gin.REQUIRED = (lambda x, *a, **k: x), None
    sys.modules["gin"] = gin
    sys.meta_path.append(_Absent())
    spec = importlib.util.find_spec("official")
    assert spec is not None and spec.submodule_search_locations
    root = Path(next(iter(spec.submodule_search_locations)))
    for name in ("official.nlp.modeling.networks", "official.nlp.modeling.models"):  # not every network: only those asked for
        package: Any = types.ModuleType(name)
        package.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
        sys.modules[name] = package
    from official.nlp.modeling.layers import ClassificationHead
    from official.nlp.modeling.models.bert_pretrainer import BertPretrainerV2
    from official.nlp.modeling.networks.albert_encoder import AlbertEncoder
    from official.nlp.modeling.networks.bert_encoder import BertEncoder, BertEncoderV2

    return types.SimpleNamespace(
        **{c.__name__: c for c in (ClassificationHead, BertPretrainerV2, AlbertEncoder, BertEncoder, BertEncoderV2)}
    )


SIZES: dict[str, Any] = {"vocab_size": 141, "hidden_size": 32, "num_attention_heads": 4, "max_sequence_length": 40, "type_vocab_size": 2}
PARAMS = """task:
  model:
    encoder:
      type: {kind}
      {kind}:
        vocab_size: 141
        hidden_size: 32
        num_layers: {layers}
        num_attention_heads: 4
        hidden_activation: gelu  # the tanh approximation
        intermediate_size: 80
        max_position_embeddings: 40
        type_vocab_size: 2
"""


def model_of(kind: str, layers: int) -> tuple[Any, Any]:
    """(encoder, pretrainer) of a kind: v1, v2 or albert, which has no pretrainer here."""
    import tf_keras

    g = garden()
    if kind == "albert":
        return g.AlbertEncoder(**SIZES, num_layers=layers, embedding_width=16, intermediate_size=80, dict_outputs=True), None
    encoder = (
        g.BertEncoder(**SIZES, num_layers=layers, inner_dim=80, dict_outputs=True)
        if kind == "v1"
        else g.BertEncoderV2(**SIZES, num_layers=layers, inner_dim=80)
    )
    head = g.ClassificationHead(inner_dim=32, num_classes=2, name="next_sentence")
    gelu = tf_keras.activations.get(lambda x: tf_keras.activations.gelu(x, approximate=True))
    pretrainer = g.BertPretrainerV2(encoder, mlm_activation=gelu, classification_heads=[head])
    pretrainer(inputs_of(True))
    return encoder, pretrainer


def inputs_of(positions: bool) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    mask = np.ones((2, 10), np.int32)
    mask[1, 7:] = 0
    ids = {
        "input_word_ids": rng.integers(0, 141, (2, 10), dtype=np.int32),
        "input_mask": mask,
        "input_type_ids": rng.integers(0, 2, (2, 10), dtype=np.int32),
    }
    return ids | ({"masked_lm_positions": np.tile(np.arange(10, dtype=np.int32), (2, 1))} if positions else {})


def outputs_of(encoder: Any, pretrainer: Any) -> dict[str, np.ndarray]:
    out = dict(encoder(inputs_of(False)))
    own = {"encoder_pooled": out["pooled_output"], "sequence_output": out["sequence_output"]}
    if pretrainer is not None:
        both = pretrainer(inputs_of(True))
        own |= {n: both[n] for n in ("mlm_logits", "next_sentence")}
    return {n: np.asarray(v) for n, v in own.items()}


def hung(encoder: Any, pretrainer: Any, how: str) -> dict[str, Any]:
    """What a program gives tf.train.Checkpoint: encoder=, model= either of them, the pretrainer's checkpoint_items."""
    return {"encoder": {"encoder": encoder}, "model": {"model": encoder}, "pretrainer": {"model": pretrainer}}.get(how) or dict(
        pretrainer.checkpoint_items
    )


def main(action: str, kind: str, layers: str, folder: str, *rest: str) -> None:
    import tensorflow as tf

    encoder, pretrainer = model_of(kind, int(layers))
    model = pretrainer or encoder
    rng = np.random.default_rng(int(layers))
    if action == "save":
        model.set_weights([rng.normal(1 if "gamma" in w.name else 0, 0.05, w.shape).astype(np.float32) for w in model.weights])
        np.savez(f"{folder}/outputs.npz", **outputs_of(encoder, pretrainer))
        for how in ("encoder", "model", "pretrainer", "items") if pretrainer is not None else ("encoder",):
            os.makedirs(f"{folder}/{how}")
            tf.train.Checkpoint(**hung(encoder, pretrainer, how)).save(f"{folder}/{how}/ckpt")
            Path(f"{folder}/{how}/params.yaml").write_text(
                PARAMS.format(kind="albert" if kind == "albert" else "bert", layers=layers)
                + "        embedding_width: 16\n" * (kind == "albert")
            )
        return
    prefix, how = rest
    tf.train.Checkpoint(**hung(encoder, pretrainer, how)).restore(prefix).assert_existing_objects_matched()
    want, have = np.load(f"{folder}/outputs.npz"), outputs_of(encoder, pretrainer)
    for name, array in have.items():
        print(name, float(np.abs(array - want[name]).max()))


if __name__ == "__main__":
    main(*sys.argv[1:])
