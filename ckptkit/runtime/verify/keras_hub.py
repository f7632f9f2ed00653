"""keras_hub's own model of a preset folder, asked for what ours give."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...errors import LoadError, UnsupportedError
from ..build import require

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ...graph.examine import Subject

    Arrays = dict[str, NDArray[np.generic]]

# layers whose outputs are those of a block: transformer_layer_3, group_0_inner_layer_0, transformer_decoder_layer_1
BLOCK = re.compile(r"(?:transformer_(?:(encoder|decoder)_)?layer_\d+|group_\d+_inner_layer_\d+)", re.ASCII)
FIELDS = {"sequence_output": "hidden", "pooled_output": "pooler", "encoder_sequence_output": "encoder", "decoder_sequence_output": "hidden"}


def load_and_run(subject: Subject, inputs: Arrays, like: Arrays) -> tuple[Arrays, str]:
    """(outputs under the names of a trace, ""). `like`: a trace of ours. keras_hub raises where a weight has no place."""
    require("keras")
    try:
        import keras_hub
    except ImportError as e:
        raise UnsupportedError(f"keras_hub is not installed ({e})", hint="pip install keras-hub") from None
    folder = os.path.dirname(os.path.abspath(subject.checkpoint.files[0]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = keras_hub.models.Backbone.from_preset(folder)
        except Exception as e:  # whatever a library raises is its answer
            raise LoadError(f"keras_hub cannot load it: {type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}", path=folder) from e
        return _run(model, inputs, like), ""


def _run(model: Any, inputs: Arrays, like: Arrays) -> Arrays:
    import keras
    import numpy as np

    seen: dict[str, list[Any]] = {}
    for layer in model.layers:
        found = BLOCK.fullmatch(layer.name)
        if found is not None:
            stack = found[1] or ("encoder" if "encoder.input" in like else "decoder")
            layer.call = _kept(layer.call, seen.setdefault(stack, []))
    out = model({t.name: keras.ops.convert_to_tensor(_input(t.name, inputs), "int32") for t in model.inputs})
    given = {f"{stack}.{i}": x for stack, states in seen.items() for i, x in enumerate(states)}
    given |= {FIELDS[k]: x for k, x in (out.items() if isinstance(out, dict) else [("sequence_output", out)])}
    return {k: np.asarray(keras.ops.convert_to_numpy(given[k])) for k in like if k in given}


def _kept(call: Callable[..., Any], states: list[Any]) -> Callable[..., Any]:
    def keep(*args: Any, **options: Any) -> Any:
        out = call(*args, **options)
        states.append(out[0] if isinstance(out, tuple) else out)
        return out

    return keep


def _input(name: str, inputs: Arrays) -> NDArray[np.generic]:
    """One of the inputs that a backbone names."""
    import numpy as np

    ids = inputs["decoder_input_ids" if name.startswith("decoder_") else "input_ids"]
    what = name.removeprefix("decoder_").removeprefix("encoder_")
    if what == "token_ids":
        return ids
    if what == "segment_ids":
        return inputs.get("token_type_ids", np.zeros_like(ids))
    mask = inputs.get("decoder_attention_mask" if name.startswith("decoder_") else "attention_mask")
    return np.ones_like(ids) if mask is None else mask
