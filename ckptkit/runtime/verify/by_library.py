"""Both sides of a comparison run by the library that defines their architecture, where ckptkit has no runtime of its own for it.

The inputs are drawn for what the model takes first (tokens, pixels, a waveform); code that comes with a checkpoint is never run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...comparison.pair import ATOL, RTOL, Level, Step
from ...errors import LoadError, UndecidedError, UnsupportedError

if TYPE_CHECKING:
    from ...comparison.pair import Pair
    from ...graph.examine import Subject


def compare_by_library(pair: Pair, library: str) -> Level:
    """Both loaded and run by `library`, every output compared. UndecidedError where it cannot run them."""
    if library != "transformers":
        raise UndecidedError(f"{library} has no {pair.one.graph.recognition.architecture.title}" if pair.one.graph.recognition else library)
    try:
        import torch
    except ImportError as e:
        raise UnsupportedError(f"{library} is not installed ({e})", hint=f"pip install {library} torch") from None
    (one, said_one), (two, said_two) = (_load(s) for s in (pair.one, pair.two))
    torch.manual_seed(0)
    inputs = _inputs(one)
    steps = []
    try:
        with torch.no_grad():
            first, second = (_flat(m(**inputs, return_dict=True)) for m in (one, two))
    except Exception as e:  # whatever a library raises: it needs other inputs than these
        raise UndecidedError(
            f"{library} does not run it on made inputs ({', '.join(inputs)}): {type(e).__name__}: {str(e)[:160]}"
        ) from None
    for name, a in first.items():
        b = second.get(name)
        worst = float("inf") if b is None or a.shape != b.shape else float((a - b).abs().max()) if a.numel() else 0.0
        steps.append(Step(name, worst, (pair.atol or ATOL) + (pair.rtol or RTOL) * float(a.abs().max() if a.numel() else 0)))
    complaints = "; ".join(filter(None, (said_one, said_two)))
    basis = f"both loaded and run by {library} ({type(one).__name__}), {len(steps)} outputs of {', '.join(inputs)} compared"
    bad = complaints or not steps or any(not s.worst <= s.allowed for s in steps)
    return Level(
        f"against {library}",
        "different" if bad else "same",
        f"{basis}; its loader reports {complaints}" if complaints else basis,
        (),
        tuple(steps),
    )


def _load(subject: Subject) -> tuple[Any, str]:
    import torch
    import transformers

    named = subject.config.raw.get("architectures") if subject.config is not None else None
    cls: Any = getattr(transformers, str(named[0]), transformers.AutoModel) if isinstance(named, list) and named else transformers.AutoModel
    try:
        model, info = cls.from_pretrained(
            subject.checkpoint.folder, output_loading_info=True, dtype=torch.float32, local_files_only=True, trust_remote_code=False
        )
    except Exception as e:  # whatever a library raises is its answer
        raise LoadError(f"transformers cannot load it: {type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}") from e
    wrong = {
        k: sorted(map(str, v)) for k, v in info.items() if v and k in ("missing_keys", "mismatched_keys", "unexpected_keys", "error_msgs")
    }
    return model.eval(), "; ".join(f"{k.replace('_', ' ')} {', '.join(v[:4])}" for k, v in wrong.items())


def _inputs(model: Any) -> dict[str, Any]:
    """Made inputs, by what a model takes first."""
    import inspect

    import torch

    config = model.config
    takes = inspect.signature(model.forward).parameters
    text, vision = getattr(config, "text_config", config), getattr(config, "vision_config", config)
    out: dict[str, Any] = {}
    vocab = getattr(text, "vocab_size", None)
    if "input_ids" in takes and isinstance(vocab, int):
        out["input_ids"] = torch.randint(0, max(2, vocab - 2), (2, 7))
        if "decoder_input_ids" in takes:
            out["decoder_input_ids"] = torch.randint(0, max(2, vocab - 2), (2, 5))
    main = getattr(model, "main_input_name", "")
    if "pixel_values" in takes and (main == "pixel_values" or "input_ids" not in out or model.base_model_prefix in ("clip", "siglip")):
        size = getattr(vision, "image_size", 32)
        high, wide = size if isinstance(size, (list, tuple)) else (size, size)
        out["pixel_values"] = torch.randn(2, getattr(vision, "num_channels", 3), high, wide)
    if main == "input_features" and hasattr(config, "num_mel_bins"):
        out[main] = torch.randn(2, config.num_mel_bins, 2 * getattr(config, "max_source_positions", 50))
        out["decoder_input_ids"] = torch.randint(0, max(2, config.vocab_size - 2), (2, 5))
    if main == "input_values":
        out[main] = torch.randn(2, 4000)
    if not out:
        raise UndecidedError(f"no inputs can be made for {type(model).__name__}, which takes {main or 'none of the usual'}")
    return out


def _flat(value: Any, name: str = "output") -> dict[str, Any]:
    """Every floating tensor of an output, by its path."""
    import torch

    if isinstance(value, torch.Tensor):
        return {name: value.float()} if value.is_floating_point() else {}
    items = value.items() if hasattr(value, "items") else enumerate(value) if isinstance(value, (list, tuple)) else ()
    return {k: v for key, x in items for k, v in _flat(x, f"{name}.{key}").items()}
