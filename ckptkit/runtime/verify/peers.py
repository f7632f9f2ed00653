"""Other libraries' own models, asked for what ours give: the users of a converted checkpoint load it with these."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any

from ...errors import LoadError, UnsupportedError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ...graph.examine import Subject

    Arrays = dict[str, NDArray[np.generic]]

PEERS = {"transformers": "hf", "keras_hub": "keras_hub"}  # library -> the naming that it reads
# fields of transformers' outputs -> our heads, the first that the model has
FIELDS = {
    "pooler_output": ("pooler",), "prediction_logits": ("mlm",), "seq_relationship_logits": ("nsp",), "sop_logits": ("sop",),
    "logits": ("classifier", "classification", "lm", "mlm", "rtd", "score", "nsp"), "encoder_last_hidden_state": ("encoder",),
}  # fmt: skip

STREAMS_FIRST = ("gemma3n_text",)  # their hidden states have the streams before the batch, and the last is not normed
BLOCKS_ONLY = ("mamba", "mamba2", "falcon_mamba")  # their hidden states begin with what the first block gives


def load_and_run(library: str, subject: Subject, inputs: Arrays, like: Arrays) -> tuple[Arrays, str]:
    """(outputs under the names of a trace, what the loader complained of). `like`: a trace of ours, to tell which head `logits` is."""
    if library == "keras_hub":
        from . import keras_hub

        return keras_hub.load_and_run(subject, inputs, like)
    try:
        import torch
        import transformers
    except ImportError as e:
        raise UnsupportedError(f"{library} is not installed ({e})", hint=f"pip install {library} torch") from None
    folder = subject.checkpoint.folder
    named = subject.config.raw.get("architectures") if subject.config is not None else None
    name = str(named[0]) if isinstance(named, list) and named else "AutoModel"
    log: Any = transformers.utils.logging
    level = log.get_verbosity()
    log.set_verbosity(50)
    log.disable_progress_bar()
    try:
        model, info = getattr(transformers, name, transformers.AutoModel).from_pretrained(
            folder, output_loading_info=True, dtype=torch.float32, attn_implementation="eager", local_files_only=True
        )
    except Exception as e:  # whatever a library raises is its answer
        raise LoadError(f"{library} cannot load it: {type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}", path=folder) from e
    finally:
        log.set_verbosity(level)
    wrong = {k: sorted(map(str, v)) for k, v in info.items() if v and k in ("missing_keys", "mismatched_keys", "error_msgs")}
    model.eval()
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")  # the others ask for sizes that are multiples of 16 bytes
    return _run(model, inputs, like), "; ".join(f"{k.replace('_', ' ')} {', '.join(v[:4])}" for k, v in wrong.items())


def _run(model: Any, inputs: Arrays, like: Arrays) -> Arrays:
    import torch

    seen: dict[str, Any] = {}

    def keep(_module: Any, _args: Any, output: Any) -> None:
        for field in ("last_hidden_state", "pooler_output"):
            if output.get(field) is not None:
                seen[field] = output[field]

    hook = model.base_model.register_forward_hook(keep)
    given: dict[str, Any] = {k: torch.from_numpy(v).long() for k, v in inputs.items()}
    if "use_cache" in signature(model.forward).parameters:  # a cache is as deep as the encoder, even where the decoder is deeper
        given["use_cache"] = False
    try:
        with torch.no_grad():
            output = model(**given, output_hidden_states=True, return_dict=True)
    finally:
        hook.remove()
    fields = {**seen, **{k: v for k, v in output.items() if v is not None}}
    out: dict[str, Any] = {}
    for field, prefix in (("hidden_states", _stack(like)), ("encoder_hidden_states", "encoder"), ("decoder_hidden_states", "decoder")):
        states = fields.get(field)
        if isinstance(states, tuple):
            if "restored.input" in like:
                out |= dict(zip([n for n in like if n.partition(".")[0] in ("encoder", "restored")], states, strict=True))
                continue
            names = [f"{prefix}.input", *(f"{prefix}.{i}" for i in range(len(states) - 1))]
            if model.config.model_type in BLOCKS_ONLY:
                names = [*names[1:], f"{prefix}.norm"]
            if model.config.model_type in STREAMS_FIRST:
                states = tuple(s.movedim(0, 2) if s.dim() == 4 else s for s in states)
            elif f"{prefix}.norm" in like:
                names[-1] = f"{prefix}.norm"  # transformers' last state is normed
            out |= dict(zip(names, states, strict=True))
    for field, heads in FIELDS.items():
        head = next((h for h in heads if h in like), None)
        if head is not None and isinstance(fields.get(field), torch.Tensor):
            out[head] = fields[field]
    if "last_hidden_state" in fields:
        out["hidden"] = fields["last_hidden_state"]
    order = [k for k in like if k in out]
    return {k: out[k].to(torch.float32).numpy() for k in order}


def _stack(like: Arrays) -> str:
    return "encoder" if "encoder.input" in like else "decoder"
