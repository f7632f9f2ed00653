"""A copy in ggml's blocks, and one in another layout, against its original, in steps of the packing."""

from __future__ import annotations

import json
from pathlib import Path

import gguf_files
import numpy as np
import pytest
from safetensors.numpy import save_file

import ckptkit
from ckptkit.packing.ggml._scales import SCALES
from ckptkit.tensors import DTYPES

FORMS = Path(__file__).resolve().parents[2] / "fixtures" / "forms"
NUMBERS = {  # ggml.h
    "Q4_0": 2, "Q4_1": 3, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8, "Q2_K": 10, "Q3_K": 11, "Q4_K": 12, "Q5_K": 13, "Q6_K": 14, "IQ2_XXS": 16,
    "IQ2_XS": 17, "IQ3_XXS": 18, "IQ1_S": 19, "IQ4_NL": 20, "IQ3_S": 21, "IQ2_S": 22, "IQ4_XS": 23, "TQ1_0": 34, "TQ2_0": 35, "Q2_0": 42,
}  # fmt: skip
SCALE_AT = {  # where the scale of a whole block lies, in half precision
    "Q2_K": 80, "Q3_K": 108, "Q6_K": 208, "TQ1_0": 52, "TQ2_0": 64,
}  # fmt: skip


def steps(original: dict[str, np.ndarray], packed: Path, folder: Path) -> dict[str, ckptkit.verbs.diff.Change]:
    save_file(original, folder / "original.safetensors")
    with ckptkit.examine(folder / "original.safetensors") as a, ckptkit.examine(packed) as b:
        return {c.name: c for c in ckptkit.diff(a, b).changes}


def array(file: str, name: str) -> np.ndarray:
    with np.load(FORMS / "gguf_alltypes" / file) as z:
        found: np.ndarray = z[name]
        return found


def raw_blocks(path: Path) -> dict[str, tuple[str, np.ndarray, tuple[int, ...]]]:
    out = {}
    with ckptkit.examine(path) as s:
        for name, weight in s.packings.weights.items():
            t, kind = weight.parts["codes"], str(weight.form.options["type"])
            data = b"".join(s.checkpoint.read_extent(e) for e in t.extents)
            out[name] = (kind, np.frombuffer(data, np.uint8).reshape(-1, DTYPES[kind].block_bytes).copy(), weight.form.shape)
    return out


def test_what_llama_cpp_makes_is_what_rounding_gives(tmp_path: Path) -> None:
    """Normal values, zeros, outliers, tiny and positive values and three values alone, quantised by ggml's own code to every type."""
    blocks = raw_blocks(FORMS / "gguf_alltypes" / "alltypes.gguf")
    kinds = {n: k for n, (k, _, _) in blocks.items() if n.startswith("quantised")}
    assert {*kinds.values()} >= SCALES.keys() and len(SCALES) == 24  # Q1_0's codes are signs
    source = array("source.npz", "source")
    found = steps(dict.fromkeys(kinds, source), FORMS / "gguf_alltypes" / "alltypes.gguf", tmp_path)
    for name, kind in kinds.items():
        s = found[name].steps
        if kind == "Q1_0":
            assert s is None
            continue
        assert s is not None and s.packing == kind, name
        if kind == "IQ1_M":  # one run of three values alone, which its own choice of entries serves worse than zeros would
            assert s.beyond == 0 and s.off <= 1
            continue
        outliers = kind.startswith(("IQ2", "IQ3"))  # beside which its entries are chosen for the outlier alone
        assert s.is_rounding or (outliers and s.beyond < 0.1), (name, s)
        assert not s.is_damage, (name, s)


@pytest.mark.parametrize("kind", [k for k in SCALES if k not in ("MXFP4", "NVFP4", "IQ1_M")])
@pytest.mark.parametrize("by", [8, 0.125, -1])
def test_a_damaged_block_is_found_where_it_is(kind: str, by: float, tmp_path: Path) -> None:
    """The scale of one block times `by`; the original is what the undamaged blocks decode to."""
    name, (_, raw, shape) = next((n, b) for n, b in raw_blocks(FORMS / "gguf_alltypes" / "alltypes.gguf").items() if b[0] == kind)
    expected = array("expected.npz", name)
    at = SCALE_AT.get(kind, 0)
    raw[0, at : at + 2] = (raw[0, at : at + 2].view("<f2") * np.float16(by)).astype("<f2").view(np.uint8)
    (tmp_path / "m.gguf").write_bytes(gguf_files.gguf({name: (shape, NUMBERS[kind], raw.tobytes())}))
    s = steps({name: expected}, tmp_path / "m.gguf", tmp_path)[name].steps
    assert s is not None and not s.is_rounding and s.is_damage
    assert s.worst[0] == 0 and s.place[:2] == (0, 0) and s.place[3] < max(32, DTYPES[kind].block)


def test_a_copy_in_another_layout_is_measured_too(tmp_path: Path) -> None:
    """Turned pairs and stacked experts of a GGUF file, and MLX's stacked experts, against what transformers has."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    sizes = {"vocab_size": 64, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.AutoConfig.for_model("mixtral", num_key_value_heads=2, num_local_experts=3, num_experts_per_tok=2, **sizes)
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(tmp_path / "hf")
    ckptkit.convert(tmp_path / "hf", tmp_path / "q.gguf", to="gguf", quantize="q8_0")
    ckptkit.convert(tmp_path / "hf", tmp_path / "mlx", to="mlx", quantize="mlx-4")
    for packed, kind in ((tmp_path / "mlx", "mlx-affine"), (tmp_path / "q.gguf", "Q8_0")):
        with ckptkit.examine(tmp_path / "hf") as a, ckptkit.examine(packed) as b:
            changed = [c for c in ckptkit.diff(a, b).changes if c.kind != "same"]
            assert len(changed) >= 20 and all(c.steps is not None and c.steps.packing == kind and c.steps.is_rounding for c in changed)
        notes = ckptkit.verify(tmp_path / "hf", packed, level="values").notes
        assert any(f"packed as {kind}" in n and "what rounding gives" in n for n in notes), notes


def test_another_layout_is_measured_in_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a weight whose pairs are turned no more than a window is held, and windows of any size give the same."""
    import tracemalloc

    from ckptkit.comparison import packing_error
    from ckptkit.packing import _parts

    rng, hidden, heads = np.random.default_rng(0), 1024, 16
    square = (*(f"self_attn.{p}_proj" for p in "qkvo"), *(f"mlp.{p}_proj" for p in ("gate", "up", "down")))
    names: dict[str, tuple[int, ...]] = {f"model.layers.0.{n}.weight": (hidden, hidden) for n in square}
    names |= {"model.embed_tokens.weight": (64, hidden), "model.norm.weight": (hidden,)}
    names |= {f"model.layers.0.{n}_layernorm.weight": (hidden,) for n in ("input", "post_attention")}
    (tmp_path / "hf").mkdir()
    arrays = {n: rng.standard_normal(s, np.float32) for n, s in names.items()}
    save_file(arrays, tmp_path / "hf" / "model.safetensors", {"format": "pt"})
    said = {
        "model_type": "llama", "hidden_size": hidden, "intermediate_size": hidden, "num_attention_heads": heads, "num_hidden_layers": 1,
        "vocab_size": 64, "rms_norm_eps": 1e-6, "tie_word_embeddings": True, "max_position_embeddings": 64, "rope_theta": 1e4,
    }  # fmt: skip
    (tmp_path / "hf" / "config.json").write_text(json.dumps(said))
    (tmp_path / "npz").mkdir()
    np.savez_compressed(tmp_path / "npz" / "weights.npz", **arrays)  # of which no part can be read by itself
    (tmp_path / "npz" / "config.json").write_text(json.dumps(said))
    ckptkit.convert(tmp_path / "hf", tmp_path / "q.gguf", to="gguf", quantize="q8_0")
    with ckptkit.examine(tmp_path / "npz") as a, ckptkit.examine(tmp_path / "q.gguf") as b:
        found = [dict(packing_error.steps_between(a, b))]
    with ckptkit.examine(tmp_path / "hf") as a, ckptkit.examine(tmp_path / "q.gguf") as b:
        for cap, tile in ((16 << 20, 1 << 18), (1 << 16, 1 << 13), (1 << 12, 1 << 10)):
            monkeypatch.setattr(packing_error, "CAP", cap)
            monkeypatch.setattr(_parts, "TILE", tile)
            tracemalloc.start()
            found.append(dict(packing_error.steps_between(a, b)))
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 2 << 20  # half of one of the matrices; a run's mean of each 32 elements is held
    assert len(found[0]) == 8 and all(s.is_rounding for s in found[0].values())
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        assert all(abs(s.mean - found[0][n].mean) < 1e-6 and s._replace(mean=0) == found[0][n]._replace(mean=0) for n, s in other.items())


def test_what_is_quantised_at_run_time_is_said_and_weights_are_compared(tmp_path: Path) -> None:
    ckptkit.convert(FORMS / "quant_fp8_block", tmp_path / "plain", container="safetensors", dequantize=True)
    said = ckptkit.verify(FORMS / "quant_fp8_block", tmp_path / "plain")
    assert said.exit_code == 0 and "when A runs, activations are quantised (dynamic): the decoded weights are compared" in said.notes


def test_words_that_no_packing_reads_stay_unexplained(tmp_path: Path) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    sizes = {"vocab_size": 64, "hidden_size": 128, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = transformers.AutoConfig.for_model("llama", **sizes)
    transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(tmp_path / "hf")
    ckptkit.convert(tmp_path / "hf", tmp_path / "q", to="hf", quantize="fp8-block")
    ckptkit.convert(tmp_path / "q", tmp_path / "plain", to="hf", dequantize=True)
    assert ckptkit.verify(tmp_path / "q", tmp_path / "plain").exit_code == 0
    said = json.loads((tmp_path / "q" / "config.json").read_text())
    said["quantization_config"]["rotation"] = {"kind": "hadamard"}
    (tmp_path / "q" / "config.json").write_text(json.dumps(said))
    with ckptkit.examine(tmp_path / "q") as s:
        assert [e.name for e in s.account.of("unexplained", "key")] == ["quantization_config.rotation"]
    assert ckptkit.verify(tmp_path / "q", tmp_path / "plain").exit_code == 3


def test_configurations_of_an_unknown_architecture_that_differ_bar_same(tmp_path: Path) -> None:
    for name, heads in (("a", 4), ("b", 8)):
        (tmp_path / name).mkdir()
        save_file({"strange.weight": np.ones((3, 4), np.float32)}, tmp_path / name / "model.safetensors")
        (tmp_path / name / "config.json").write_text(json.dumps({"model_type": "none", "num_attention_heads": heads}))
    assert ckptkit.verify(tmp_path / "a", tmp_path / "a").exit_code == 0
    said = ckptkit.verify(tmp_path / "a", tmp_path / "b")
    assert said.exit_code == 3 and any("num_attention_heads (A 4, B 8)" in n for n in said.notes)


@pytest.mark.parametrize("path", sorted(p.parent for p in FORMS.glob("*/config.json")), ids=lambda p: p.name)
def test_every_word_of_the_public_cases_is_explained(path: Path) -> None:
    with ckptkit.examine(path) as s:
        keys = [e.name for e in s.account.of("unexplained", "key")]
        assert not [k for k in keys if k.startswith(("quantization", "compression"))], keys
