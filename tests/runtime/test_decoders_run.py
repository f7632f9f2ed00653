"""Today's decoders rebuilt here give what transformers gives: every hidden state and the logits, in PyTorch and in Keras."""

from __future__ import annotations

import json
import re
from pathlib import Path

import decoders
import numpy as np
import pytest
import running

from ckptkit.errors import UndecidedError
from ckptkit.runtime.build import build_transformer_model
from ckptkit.runtime.export import export

TOLERANCE = 1e-5
ROUNDINGS = 4  # as many times what float32 itself loses may two programs differ by


def gaps(mine: dict[str, np.ndarray], theirs: dict[str, np.ndarray], given: dict[str, np.ndarray] | None = None) -> dict[str, float]:
    """The largest difference at each place, padded positions left out."""
    real = (given or decoders.inputs())["attention_mask"].astype(bool)
    return {name: float(np.abs(mine[name].astype(np.float64) - want)[real].max()) for name, want in theirs.items()}


def allowed(path: Path, places: dict[str, np.ndarray], given: dict[str, np.ndarray] | None = None) -> dict[str, float]:
    """What may differ: 1e-5, or four times what transformers' own float32 run loses against its float64 run."""
    lost = gaps(places, decoders.expected(path, "float64", given), given)
    return {name: max(TOLERANCE, ROUNDINGS * worst) for name, worst in lost.items()}


@pytest.mark.parametrize("case", decoders.CASES)
def test_a_rebuilt_decoder_gives_what_transformers_gives(case: str, tmp_path: Path) -> None:
    path = decoders.make(case, tmp_path)
    want = decoders.expected(path)
    found = gaps(running.run(running.built(path, "torch"), decoders.inputs()), want)
    if not all(gap <= TOLERANCE for gap in found.values()):
        most = allowed(path, want)
        assert {n: g for n, g in found.items() if not g <= most[n]} == {}


HYBRIDS = ("falcon_h1", "nemotron_h", "recurrent_gemma", "minimax", "kimi_linear")


@pytest.mark.parametrize("case", ["llama", "mamba", "mamba2", "bamba", "lfm2", "qwen3_next", "deepseek_v32", *HYBRIDS])
def test_what_comes_after_padding_is_as_transformers_has_it(case: str, tmp_path: Path) -> None:
    """A state must not carry what padding left in it."""
    path = decoders.make(case, tmp_path)
    given = decoders.inputs(padded=slice(1, 5))
    want = decoders.expected(path, given=given)
    found = gaps(running.run(running.built(path, "torch"), given), want, given)
    most = allowed(path, want, given)
    assert {n: g for n, g in found.items() if not g <= most[n]} == {}


# one for each thing that only some decoders have
KERAS = (
    "llama tied, yarn", "llama dynamic", "ministral3", "gemma2", "gemma3", "phi3 longrope", "qwen2_moe", "olmo", "granite", "stablelm",
    "cohere", "smollm3", "hunyuan", "apertus", "bloom", "opt", "gpt_oss", "deepseek_v2", "deepseek_v3", "llama4", "xglm", "phimoe",
    "falcon, by distance", "mamba", "falcon_mamba", "mamba2", "jamba", "lfm2", "granitemoehybrid", "qwen3_next", "qwen3_5", "deepseek_v32",
    "glm_moe_dsa", "gemma3n", "gemma4", "gemma4 experts", "deepseek_v4", "deepseek_v4 yarn", "deepseek_v32, equal scores",
    *HYBRIDS,
)  # fmt: skip


@pytest.mark.parametrize("case", KERAS)
def test_keras_gives_what_pytorch_gives(case: str, tmp_path: Path) -> None:
    path = decoders.make(case, tmp_path, **decoders.shorter(case))
    one = running.run(running.built(path, "torch"), decoders.inputs())
    two = running.run(running.built(path, "keras"), decoders.inputs())
    places = {n: x for n, x in one.items() if n.startswith("decoder") or n in ("hidden", "lm")}
    found = gaps(two, places)
    if not all(gap <= TOLERANCE for gap in found.values()):
        exact = running.run(running.built(path, "torch").double(), decoders.inputs())
        lost = gaps(places, {n: exact[n] for n in places})
        assert {n: g for n, g in found.items() if not g <= max(TOLERANCE, ROUNDINGS * lost[n])} == {}


PROGRAMS = [
    ("llama", "pt2"),
    ("qwen3", "onnx"),
    ("gemma3", "pt2"),
    ("mixtral", "onnx"),
    ("mamba, one layer", "pt2"),
    ("mamba2, one layer", "onnx"),
    ("qwen3_5", "pt2"),
    ("recurrent_gemma", "pt2"),
    ("minimax", "pt2"),
    ("deepseek_v32", "pt2"),
]


@pytest.mark.parametrize(("case", "form"), PROGRAMS)
def test_a_program_of_a_decoder_runs_with_another_batch_and_length(case: str, form: str, tmp_path: Path) -> None:
    if form == "onnx":
        running.needs("onnx", "onnxscript", "onnxruntime")
    path = decoders.make(case, tmp_path, **decoders.shorter(case, alike=1))
    given = {n: np.concatenate([a, a[:1]])[:, :-2] for n, a in decoders.inputs().items()}  # neither what it was traced nor checked with
    done = export(path, tmp_path / f"model.{form}", to=form)
    assert done.outputs == ("hidden", "lm") and done.worst <= TOLERANCE
    theirs = program(Path(done.path), given)
    mine = running.run(running.built(path, "torch"), given)
    real = given["attention_mask"].astype(bool)
    assert all(np.abs(theirs[n] - mine[n])[real].max() <= 2 * TOLERANCE for n in done.outputs)


def program(path: Path, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a program gives in its own runtime."""
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return dict(zip((o.name for o in session.get_outputs()), session.run(None, given), strict=True))
    import torch

    with torch.no_grad():
        out = torch.export.load(path).module()(*(torch.from_numpy(given[n]) for n in ("input_ids", "attention_mask")))
    return {n: x.numpy() for n, x in out.items()}


AGAINST = (
    "llama", "gemma3", "qwen3_moe", "deepseek_v3", "olmo", "mamba", "bamba", "qwen3_next", "deepseek_v32", "gemma3n", "gemma4",
    "deepseek_v4", *HYBRIDS,
)  # fmt: skip


@pytest.mark.parametrize("case", AGAINST)
def test_transformers_runs_a_decoder_to_the_same_outputs(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = decoders.make(case, tmp_path)
    status, out, err = running.command(monkeypatch, "verify", path, path, "--against", "transformers", "--format", "json")
    level = json.loads(out)["levels"][-1]
    assert (status, level["name"], level["verdict"]) == (0, "against transformers", "same"), err
    assert {"decoder.0", "decoder.1", "hidden", "lm"} <= {s["name"] for s in level["steps"]}


CONFIGURED = (
    "qwen2_moe", "llama", "gemma3", "mixtral", "deepseek_v2", "deepseek_v3", "glm4_moe", "dots1", "ernie4_5_moe",
    "ernie4_5_moe, none shared", "hunyuan_v1_moe", "stablelm", "apertus", "mpt", "falcon", "falcon, new", "falcon, one after the other",
    "mamba", "mamba2", "bamba", "jamba", "qwen3_5", "qwen3_next", "glm_moe_dsa", "falcon_h1", "falcon_h1, not normed", "nemotron_h",
    "nemotron_h by a pattern", "recurrent_gemma", "kimi_linear", "kimi_linear, queries of full rank", "gemma3n", "gemma4",
    "gemma4 experts", "deepseek_v4",
)  # fmt: skip


def test_a_model_of_a_configuration_alone_has_the_parts_that_it_says(tmp_path: Path) -> None:
    """Layers of two kinds, biases by switch, experts: without a tensor to read them from."""
    for case in CONFIGURED:
        path = decoders.make(case, tmp_path)
        held = running.built(path, "torch").state_dict()
        made = build_transformer_model(path / "config.json", heads=("lm",)).state_dict()
        assert {n: x.shape for n, x in made.items()} == {n: x.shape for n, x in held.items()}, case
        if case == "gemma4":  # whose layers are multiplied by one until they learn otherwise
            assert {x.item() for n, x in made.items() if n.endswith(".scale")} == {1.0}


def changed(path: Path, **said: object) -> Path:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, **said}))
    return path


REFUSED = {
    "llama": [
        ({"rope_parameters": {"rope_type": "spiral", "rope_theta": 1e4}}, "type 'spiral'"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}}, "rope_original_max_position_embeddings"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}}, "rope_part 0.5"),
    ],
    "gemma3": [
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention True"),
        ({"layer_types": ["full_attention", "full_attention", "chunked_attention"]}, "layer_types says 'chunked_attention'"),
        ({"layer_types": ["full_attention"]}, "layer_types is a list of 1, and there are 3 layers"),
    ],
    "mpt": [({"attn_config": {"alibi": False, "softmax_scale": None, "clip_qkv": None}}, "alibi False")],
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_known_to_run_is_refused_by_name(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = decoders.make(case, tmp_path)
    config = (path / "config.json").read_text()
    for said, words in REFUSED[case]:
        (path / "config.json").write_text(config)
        with pytest.raises(UndecidedError, match=re.escape(words)):
            running.built(changed(path, **said), "torch")
        status, _, err = running.command(monkeypatch, "verify", path, path)
        assert status != 0, (case, said, err)
