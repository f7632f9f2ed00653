"""A tiny model of a family, made by transformers, and what must hold of it: known, whole, wrong where it is made wrong, and carried between
the forms on disk and in memory to the bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.numpy import load_file, save_file

import ckptkit

SMALL: dict[str, Any] = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
EXPERTS: dict[str, Any] = {"num_experts_per_tok": 2, "moe_intermediate_size": 20}


def model(model_type: str, settings: dict[str, Any], folder: Path) -> dict[str, torch.Tensor]:
    """Save a model of random weights as transformers does; its state in memory."""
    torch.manual_seed(3)
    config = transformers.AutoConfig.for_model(model_type, **settings)
    made = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for p in made.parameters():
            p.add_(torch.randn_like(p) * 0.02)
    made.save_pretrained(folder)
    return {k: v.detach().clone().contiguous() for k, v in made.state_dict().items()}


def settings_tied(folder: Path) -> bool:
    return bool(json.loads((folder / "config.json").read_text()).get("tie_word_embeddings"))


def holds(name: str, model_type: str, settings: dict[str, Any], folder: Path) -> None:
    """Everything of the module's docstring, of the model that `settings` describe."""
    state = model(model_type, settings, folder / "disk")
    raw = json.loads((folder / "disk" / "config.json").read_text())
    report = ckptkit.validate(folder / "disk")
    assert report.subject.architecture is not None and report.subject.architecture.name == name
    layers = len(raw["layers_block_type"]) if COUNTED not in raw and "layers_block_type" in raw else raw[counting(raw)]
    assert report.subject.graph.counts["layers"] == layers and not report.subject.graph.of_role("unexplained")
    assert report.exit_code == 0, report.findings
    from_memory(state, folder)
    for form in ("disk", "memory"):
        alone(folder / form)
    want = load_file(folder / "disk" / "model.safetensors")
    wrong_counts(raw, layers, folder)
    for n in middles(want):
        save_file({k: v for k, v in want.items() if k != n}, folder / "disk" / "model.safetensors")
        missing = [f.message for f in ckptkit.validate(folder / "disk").findings if f.severity == "error"]
        assert any(n in m for m in missing), (n, missing)


def alone(folder: Path) -> None:
    """Without a configuration nothing of a sound model is an error: what the weights do not say is undecided."""
    (folder / "config.json").rename(folder / "said")
    assert [f for f in ckptkit.validate(folder).findings if f.severity == "error"] == []
    (folder / "said").rename(folder / "config.json")


COUNTED = "num_hidden_layers"


def counting(raw: dict[str, Any]) -> str:
    return next(k for k in (COUNTED, "n_layer", "num_layers") if k in raw)


def from_memory(state: dict[str, torch.Tensor], folder: Path) -> None:
    """The form in memory is read, and written as the form on disk to the bit, which the library loads whole."""
    memory = folder / "memory"
    memory.mkdir()
    ties = {k for k in state if k == "lm_head.weight" and settings_tied(folder / "disk")}
    save_file({k: v.numpy() for k, v in state.items() if k not in ties}, memory / "model.safetensors")
    (memory / "config.json").write_text((folder / "disk" / "config.json").read_text())
    ckptkit.convert(memory, folder / "back", to="hf")
    want, got = load_file(folder / "disk" / "model.safetensors"), load_file(folder / "back" / "model.safetensors")
    assert want.keys() == got.keys()
    for n in want:
        assert want[n].tobytes() == got[n].tobytes() and want[n].shape == got[n].shape, n
    loaded, info = transformers.AutoModelForCausalLM.from_pretrained(folder / "back", output_loading_info=True, dtype=torch.float32)
    assert not any(info.values()), info
    held = loaded.state_dict()
    assert held.keys() == state.keys() and all(torch.equal(held[n], state[n]) for n in state)


def wrong_counts(raw: dict[str, Any], layers: int, folder: Path) -> None:
    """A layer more, a layer less and twice as many in the configuration: an error with both numbers."""
    key = counting(raw) if COUNTED in raw or "layers_block_type" not in raw else "layers_block_type"
    for n in {layers + 1, max(layers - 1, 1), 2 * layers} - {layers}:
        value = (raw[key] * 2)[:n] if isinstance(raw[key], list) else n
        (folder / "memory" / "config.json").write_text(json.dumps({**raw, key: value}))
        report = ckptkit.validate(folder / "memory")
        said = [f.message for f in report.findings if f.rule == "layers" and f.severity == "error"]
        assert report.exit_code == 1 and len(said) == 1 and f" {n} " in said[0] and f" {layers} " in said[0], (n, said)


def middles(tensors: dict[str, Any]) -> list[str]:
    """The first weight of the middle layer, and the first of each name that is there only in some layers."""
    numbers = {n: [int(w) for w in n.split(".") if w.isdigit()] for n in tensors}
    inside = sorted(n for n in tensors if numbers[n] and n.endswith("weight"))
    place = sorted({numbers[n][0] for n in inside})
    ends: dict[str, list[str]] = {}
    for n in inside:
        ends.setdefault(".".join("#" if w.isdigit() else w for w in n.split(".")), []).append(n)
    some = [found[-1] for found in ends.values() if len({numbers[n][0] for n in found}) < len(place)]
    return [next(n for n in inside if numbers[n][0] == place[len(place) // 2]), *some]
