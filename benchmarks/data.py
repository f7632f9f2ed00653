"""The checkpoints that are measured: made here, by the frameworks' own writers, with names and shapes of real models.

BERT-base and -large in the original TensorFlow naming (with and without Adam's slots), in transformers' naming as
safetensors and as a PyTorch zip; a decoder of 3.2 GB of bfloat16 in four shards and in one file; 20,000 small tensors; 20,000
variables in the forms of TensorFlow 2 and Keras.
Values are pseudo-random and do not repeat: what looks at values must not find what real weights do not have. What is there already
is not made again. This module imports the frameworks only inside the functions that write.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

SMALL_TENSORS = 20_000


class Bert(NamedTuple):
    """The sizes of a BERT."""

    name: str
    layers: int
    hidden: int
    heads: int
    vocab: int = 30522


BASE, LARGE = Bert("base", 12, 768, 12), Bert("large", 24, 1024, 16)
TINY = Bert("tiny", 4, 256, 4)  # for --quick
Shapes = dict[str, tuple[int, ...]]


def google_shapes(b: Bert) -> Shapes:
    """Names and shapes of `google-research/bert`'s modeling.py, heads of pre-training included."""
    h, i = b.hidden, 4 * b.hidden
    out: Shapes = {
        "bert/embeddings/word_embeddings": (b.vocab, h), "bert/embeddings/position_embeddings": (512, h),
        "bert/embeddings/token_type_embeddings": (2, h), "bert/embeddings/LayerNorm/gamma": (h,), "bert/embeddings/LayerNorm/beta": (h,),
    }  # fmt: skip
    for n in range(b.layers):
        p = f"bert/encoder/layer_{n}/"
        for x, (a, c) in {
            "attention/self/query": (h, h), "attention/self/key": (h, h), "attention/self/value": (h, h),
            "attention/output/dense": (h, h), "intermediate/dense": (h, i), "output/dense": (i, h),
        }.items():  # fmt: skip
            out |= {f"{p}{x}/kernel": (a, c), f"{p}{x}/bias": (c,)}
        for x in ("attention/output/LayerNorm", "output/LayerNorm"):
            out |= {f"{p}{x}/gamma": (h,), f"{p}{x}/beta": (h,)}
    out |= {"bert/pooler/dense/kernel": (h, h), "bert/pooler/dense/bias": (h,), "cls/predictions/output_bias": (b.vocab,)}
    out |= {"cls/predictions/transform/dense/kernel": (h, h), "cls/predictions/transform/dense/bias": (h,)}
    out |= {"cls/predictions/transform/LayerNorm/gamma": (h,), "cls/predictions/transform/LayerNorm/beta": (h,)}
    out |= {"cls/seq_relationship/output_weights": (2, h), "cls/seq_relationship/output_bias": (2,)}
    return out


def hf_name(name: str) -> tuple[str, bool]:
    """transformers' name of one of `google_shapes`, and whether it holds the matrix transposed."""
    fixed = {
        "cls/predictions/output_bias": "cls.predictions.bias", "cls/seq_relationship/output_weights": "cls.seq_relationship.weight",
        "cls/seq_relationship/output_bias": "cls.seq_relationship.bias",
    }  # fmt: skip
    if name in fixed:
        return fixed[name], False
    head, _, last = name.rpartition("/")
    head = head.replace("/layer_", "/layer/").replace("/", ".")
    if last.endswith("_embeddings"):
        return f"{head}.{last}.weight", False
    return f"{head}.{ {'kernel': 'weight', 'gamma': 'weight'}.get(last, 'bias') }", last == "kernel"


def hf_shapes(b: Bert) -> Shapes:
    """The same model in transformers' naming."""
    named = {n: (*hf_name(n), s) for n, s in google_shapes(b).items()}
    return {hf: s[::-1] if turned else s for hf, turned, s in named.values()}


def decoder_shapes(layers: int) -> Shapes:
    """A Llama of width 2048: 20 layers are 3.2 GB of bfloat16."""
    h, i, vocab = 2048, 8192, 64000
    out: Shapes = {"model.embed_tokens.weight": (vocab, h)}
    for n in range(layers):
        p = f"model.layers.{n}."
        out |= {f"{p}self_attn.{x}_proj.weight": (h, h) for x in "qkvo"}
        out |= {f"{p}mlp.gate_proj.weight": (i, h), f"{p}mlp.up_proj.weight": (i, h), f"{p}mlp.down_proj.weight": (h, i)}
        out |= {f"{p}input_layernorm.weight": (h,), f"{p}post_attention_layernorm.weight": (h,)}
    return out | {"model.norm.weight": (h,), "lm_head.weight": (vocab, h)}


def small_shapes() -> Shapes:
    """20,000 tensors of 2.2 kB, 44 MB together."""
    return {f"block_{n // 20}.part_{n % 20}.weight": (550,) for n in range(SMALL_TENSORS)}


def arrays(shapes: Shapes) -> Iterator[tuple[str, object]]:
    """(name, float32 array) of each, pseudo-random."""
    import numpy as np

    for k, (name, shape) in enumerate(shapes.items()):
        out = np.random.default_rng(k).standard_normal(shape, np.float32)
        out *= np.float32(0.02)
        yield name, out


def turned(array: object) -> object:
    """A matrix transposed, row-major again."""
    import numpy as np

    return np.ascontiguousarray(np.asarray(array).T)


def bert_config(b: Bert) -> dict[str, object]:
    return {
        "model_type": "bert", "architectures": ["BertForPreTraining"], "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu_new",
        "hidden_dropout_prob": 0.1, "hidden_size": b.hidden, "initializer_range": 0.02, "intermediate_size": 4 * b.hidden,
        "layer_norm_eps": 1e-12, "max_position_embeddings": 512, "num_attention_heads": b.heads, "num_hidden_layers": b.layers,
        "type_vocab_size": 2, "vocab_size": b.vocab,
    }  # fmt: skip


def decoder_config(layers: int) -> dict[str, object]:
    return {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 2048, "intermediate_size": 8192, "vocab_size": 64000,
        "num_hidden_layers": layers, "num_attention_heads": 16, "num_key_value_heads": 16, "hidden_act": "silu", "rms_norm_eps": 1e-5,
        "max_position_embeddings": 2048, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    }  # fmt: skip


def _save_tf(folder: Path, tensors: dict[str, object]) -> None:
    import tensorflow as tf

    order = sorted(tensors)
    tf.raw_ops.SaveV2(
        prefix=str(folder / "bert_model.ckpt"), tensor_names=order, shape_and_slices=[""] * len(order), tensors=[tensors[n] for n in order]
    )


def make_bert(folder: Path, b: Bert, form: str) -> None:
    """`form`: tf, tf-adam, safetensors, torch, bf16 (safetensors), changed (safetensors, every value another). All the others are one
    model: TensorFlow's kernels are transformers' weights turned round."""
    config = bert_config(b)
    if form.startswith("tf"):
        tensors = {n: turned(a) if hf_name(n)[1] else a for n, (_, a) in zip(google_shapes(b), arrays(hf_shapes(b)), strict=True)}
        if form == "tf-adam":
            for n in list(tensors):
                tensors |= {f"{n}/adam_m": tensors[n], f"{n}/adam_v": tensors[n]}
        _save_tf(folder, tensors)
        keep = {k: v for k, v in config.items() if k not in ("model_type", "architectures", "layer_norm_eps")}
        (folder / "bert_config.json").write_text(json.dumps({**keep, "hidden_act": "gelu"}))
    else:
        import torch

        state = {n: torch.from_numpy(a) for n, a in arrays(hf_shapes(b))}
        if form == "changed":
            state = {n: t * 1.001 + 1e-5 for n, t in state.items()}
        if form == "bf16":
            state = {n: t.bfloat16() for n, t in state.items()}
        if form == "torch":
            torch.save(state, folder / "pytorch_model.bin")
        else:
            from safetensors.torch import save_file

            save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("".join(f"[unused{n}]\n" for n in range(b.vocab)))


def make_decoder(folder: Path, layers: int, form: str) -> None:
    """`form`: sharded (four safetensors), single, torch (four zips)."""
    import torch
    from safetensors.torch import save_file

    shapes = decoder_shapes(layers)
    count = 1 if form == "single" else 4
    names = list(shapes)
    each = -(-len(names) // count)
    suffix = "bin" if form == "torch" else "safetensors"
    stem = "pytorch_model" if form == "torch" else "model"
    held: dict[str, str] = {}
    for k in range(count):
        mine = names[k * each : (k + 1) * each]
        file = f"{stem}.{suffix}" if count == 1 else f"{stem}-{k + 1:05d}-of-{count:05d}.{suffix}"
        state = {n: torch.from_numpy(a).bfloat16() for n, a in arrays({n: shapes[n] for n in mine})}
        if form == "torch":
            torch.save(state, folder / file)
        else:
            save_file(state, folder / file, metadata={"format": "pt"})
        held |= dict.fromkeys(mine, file)
    if count > 1:
        size = sum(2 * n for n in (a * b if b else a for a, b in ((*s, 0)[:2] for s in shapes.values())))
        index = {"metadata": {"total_size": size}, "weight_map": held}
        (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(decoder_config(layers)))


def make_small(folder: Path, form: str) -> None:
    """`form`: tf, torch, safetensors."""
    if form == "tf":
        _save_tf(folder, dict(arrays(small_shapes())))
        return
    import torch

    state = {n: torch.from_numpy(a) for n, a in arrays(small_shapes())}
    if form == "torch":
        torch.save(state, folder / "pytorch_model.bin")
    else:
        from safetensors.torch import save_file

        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def make_variables(folder: Path, form: str) -> None:
    """20,000 variables of 8 x 8 as TensorFlow 2 and Keras keep them. `form`: object, savedmodel, keras and h5 (one layer),
    keras_layers (10,000 layers, whose configuration is 8 MB), tf_model (some 200 variables in transformers' layout).
    """
    if form == "tf_model":
        _save_tf_model(folder)
    elif form in ("object", "savedmodel"):
        import tensorflow as tf

        model = tf.Module()
        model.blocks = [tf.Module() for _ in range(SMALL_TENSORS // 8)]
        for block in model.blocks:
            for k in range(8):
                setattr(block, f"w{k}", tf.Variable(tf.ones((8, 8)), name=f"w{k}"))
        if form == "object":
            tf.train.Checkpoint(model=model).write(str(folder / "model.ckpt"))
        else:
            tf.saved_model.save(model, str(folder))
    else:
        _deep(lambda: _save_keras(folder, form))


def _save_keras(folder: Path, form: str) -> None:
    import keras

    class Many(keras.layers.Layer):  # type: ignore[misc]
        def build(self, shape: object) -> None:
            self.held = [self.add_weight(shape=(8, 8), name=f"w{k}") for k in range(SMALL_TENSORS)]
            self.built = True

        def call(self, x: object) -> object:
            return x

    layers = [keras.layers.Dense(8) for _ in range(SMALL_TENSORS // 2)] if form == "keras_layers" else [Many()]
    model = keras.Sequential([keras.layers.Input((8,)), *layers])
    if form == "h5":
        model.save_weights(str(folder / "model.weights.h5"))
    else:
        model.save(str(folder / "model.keras"))


def _save_tf_model(folder: Path) -> None:
    """The layout of transformers' TFBertModel.save_weights: a group for the layer, in it the variables by their full names."""
    import h5py
    import numpy as np

    names = [f"tf_bert_model/{n}:0" for n in google_shapes(BASE) if n.startswith("bert/")]
    with h5py.File(folder / "tf_model.h5", "w") as f:
        f.attrs["layer_names"] = [b"bert"]
        f.attrs["backend"] = "tensorflow"
        f.attrs["keras_version"] = "2.12.0"
        group = f.create_group("bert")
        group.attrs["weight_names"] = [n.encode() for n in names]
        for name, shape in zip(names, (s for n, s in google_shapes(BASE).items() if n.startswith("bert/")), strict=True):
            group.create_dataset(name, data=np.zeros(shape, np.float32))


def _deep(work: Callable[[], None]) -> None:
    """Run what recurses once for each of 10,000 layers."""
    import sys
    import threading

    old = sys.getrecursionlimit(), threading.stack_size(1 << 30)
    sys.setrecursionlimit(1 << 20)
    try:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    finally:
        sys.setrecursionlimit(old[0])
        threading.stack_size(old[1])


def make_sparse(folder: Path, gigabytes: int) -> None:
    """A safetensors file whose weights are a hole: matrices of 100 MB and, last, one of 1 GB."""
    shapes = {f"model.layers.{n}.weight": (5000, 5000) for n in range(10 * gigabytes - 10)} | {"lm_head.weight": (16000, 15625)}
    entries: dict[str, object] = {}
    at = 0
    for name, (a, b) in shapes.items():
        entries[name] = {"dtype": "F32", "shape": [a, b], "data_offsets": [at, at + 4 * a * b]}
        at += 4 * a * b
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        f.truncate(8 + len(text) + at)


def make_table(folder: Path, rows: int) -> None:
    """A TensorFlow BERT whose largest matrix, `rows` x 8192 float32, is turned when it goes over to transformers' naming."""
    h = 8192
    b = Bert("wide", 1, h, 64, vocab=100)
    shapes = google_shapes(b)
    for n in list(shapes):
        if "intermediate/dense" in n or n.endswith("layer_0/output/dense/kernel"):
            shapes[n] = {"intermediate/dense/kernel": (h, rows), "intermediate/dense/bias": (rows,)}.get(
                "/".join(n.split("/")[-3:]), (rows, h)
            )
    _save_tf(folder, dict(arrays(shapes)))
    config = {**bert_config(b), "intermediate_size": rows}
    keep = {k: v for k, v in config.items() if k not in ("model_type", "architectures", "layer_norm_eps")}
    (folder / "bert_config.json").write_text(json.dumps({**keep, "hidden_act": "gelu"}))


def ensure(root: Path, name: str) -> Path:
    """The folder of the data set `name` ("bert-base-tf", "decoder-20-sharded", "small-torch", ...), made if it is not there."""
    folder = root / name
    if folder.exists():
        return folder
    made = root / f".{name}-{os.getpid()}"
    made.mkdir(parents=True)
    kind, _, rest = name.partition("-")
    if kind == "bert":
        size, _, form = rest.partition("-")
        make_bert(made, {b.name: b for b in (BASE, LARGE, TINY)}[size], form)
    elif kind == "decoder":
        layers, _, form = rest.partition("-")
        make_decoder(made, int(layers), form)
    elif kind == "small":
        make_small(made, rest)
    elif kind == "variables":
        make_variables(made, rest)
    elif kind == "gguf":
        from gguf_data import make_gguf

        make_gguf(made, rest)
    elif kind == "sparse":
        make_sparse(made, int(rest))
    elif kind in ("dcp", "zero3"):
        from data_ranks import make_dcp, make_zero3

        (make_dcp if kind == "dcp" else make_zero3)(made, int(rest))
    elif kind == "fp8":
        from data_packed import make_fp8

        layers, _, form = rest.partition("-")
        make_fp8(made, int(layers), plain=form == "plain")
    else:
        make_table(made, int(rest))
    os.rename(made, folder)
    return folder


if __name__ == "__main__":
    import sys

    for wanted in sys.argv[2:]:
        ensure(Path(sys.argv[1]), wanted)
