"""Files of ranks as they are written: every tensor is what the same cut by hand gives, and torch loads every file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
from megatron_files import megatron_rank, meta_rank, qkv
from safetensors.numpy import load_file, save_file

import ckptkit
from ckptkit.errors import UndecidedError, UnsupportedError, UsageError
from ckptkit.plan.ranks import stage_layers

torch = pytest.importorskip("torch")
WHOLE = oracles.FIXTURES / "forms" / "llama_whole"
GIVEN = {"initializer_range": 0.02}


def whole() -> dict[str, np.ndarray]:
    found = load_file(WHOLE / "model.safetensors")
    return {**found, "lm_head.weight": found.get("lm_head.weight", found.get("model.embed_tokens.weight"))}  # type: ignore[dict-item]


def same(have: dict[str, Any], want: dict[str, np.ndarray]) -> None:
    assert have.keys() == want.keys()
    for name, a in want.items():
        np.testing.assert_array_equal(have[name].numpy(), a, err_msg=name)


def back(path: Path, tmp_path: Path, **words: Any) -> None:
    """What was written becomes the model again."""
    ckptkit.convert(path, tmp_path / "back", to="hf", given=GIVEN, **words)
    for name, a in load_file(tmp_path / "back" / "model.safetensors").items():
        np.testing.assert_array_equal(a, whole()[name], err_msg=name)


@pytest.mark.parametrize("tp", [1, 2])
def test_metas_files_are_cut_along_the_axes_of_its_layers(tp: int, tmp_path: Path) -> None:
    ckptkit.convert(WHOLE, tmp_path / "c", to="meta", tp=tp)
    for rank in range(tp):
        held = torch.load(tmp_path / "c" / f"consolidated.{rank:02}.pth", weights_only=True)
        same(held, meta_rank(whole(), tp, rank, words=1))
    assert len(list((tmp_path / "c").glob("*.pth"))) == tp
    back(tmp_path / "c", tmp_path)


def test_embeddings_of_newer_models_are_cut_along_the_words(tmp_path: Path) -> None:
    ckptkit.convert(WHOLE, tmp_path / "c", to="meta", tp=2, given={"rope_theta": 500000.0})
    held = torch.load(tmp_path / "c" / "consolidated.01.pth", weights_only=True)
    same(held, meta_rank(whole(), 2, 1, words=0))


@pytest.mark.parametrize(("tp", "pp"), [(1, 1), (2, 1), (1, 3), (2, 2)])
def test_megatrons_files_are_cut_into_ranks_and_stages(tp: int, pp: int, tmp_path: Path) -> None:
    ckptkit.convert(WHOLE, tmp_path / "c", to="megatron", tp=tp, pp=pp)
    assert (tmp_path / "c" / "latest_checkpointed_iteration.txt").read_text() == "1"
    rows, first = 128 * tp * -(-179 // (128 * tp)), 0
    for stage in range(pp):
        n = 3 // pp + (stage < 3 % pp)
        for rank in range(tp):
            name = f"mp_rank_{rank:02}" + (f"_{stage:03}" if pp > 1 else "")
            held = torch.load(tmp_path / "c" / "iter_0000001" / name / "model_optim_rng.pt", weights_only=False)
            args = held["args"]
            assert (args.num_layers, args.num_attention_heads, args.num_query_groups, args.padded_vocab_size) == (3, 4, 2, rows)
            assert (args.tensor_model_parallel_size, args.pipeline_model_parallel_size) == (tp, pp)
            assert (args.swiglu, args.normalization, args.position_embedding_type) == (True, "RMSNorm", "rope")
            assert getattr(args, "decoder_first_pipeline_num_layers", None) == (2 if pp == 2 else None)  # 2 layers and 1
            want = megatron_rank(
                whole(), tp, rank, range(first, first + n), first=stage == 0, last=stage == pp - 1, te=True, rows=rows
            )  # fmt: skip
            same(held["model"], want)
        first += n
    back(tmp_path / "c", tmp_path)


def test_local_layers_keep_their_norms_apart(tmp_path: Path) -> None:
    ckptkit.convert(WHOLE, tmp_path / "c", to="megatron_local", tp=2)
    held = torch.load(tmp_path / "c" / "iter_0000001" / "mp_rank_01" / "model_optim_rng.pt", weights_only=False)
    same(held["model"], megatron_rank(whole(), 2, 1, range(3), first=True, last=True))
    back(tmp_path / "c", tmp_path)


@pytest.mark.parametrize(
    ("layers", "stages", "each"),
    [(4, 2, [2, 2]), (3, 2, [2, 1]), (5, 3, [2, 2, 1]), (6, 4, [1, 2, 2, 1]), (7, 4, [2, 2, 2, 1]), (5, 4, [2, 1, 1, 1]), (1, 1, [1])],
)
def test_only_the_first_and_the_last_stage_differ(layers: int, stages: int, each: list[int]) -> None:
    assert stage_layers(layers, stages) == each


@pytest.mark.parametrize("layers", range(1, 30))
def test_every_layer_is_in_one_stage_and_no_stage_is_empty(layers: int) -> None:
    for stages in range(1, layers + 1):
        each = stage_layers(layers, stages)
        assert sum(each) == layers and len(each) == stages and min(each) > 0 and len(set(each[1:-1])) < 2


@pytest.mark.parametrize("window", [None, 8])
@pytest.mark.parametrize("words", [{"tp": 2}, {"tp": 2, "pp": 2, "container": "dcp"}])
def test_a_window_is_a_setting_of_the_run_and_tells_mistral(window: int | None, words: dict[str, Any], tmp_path: Path) -> None:
    config = json.loads((WHOLE / "config.json").read_text())
    source = tmp_path / "m"
    source.mkdir()
    save_file(whole(), source / "model.safetensors")
    said = {**config, "model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": window, "head_dim": 8}
    (source / "config.json").write_text(json.dumps({k: v for k, v in said.items() if k not in ("mlp_bias", "attention_bias")}))
    ckptkit.convert(source, tmp_path / "c", to="megatron", **words)
    path = next((tmp_path / "c").rglob("model_optim_rng.pt"), tmp_path / "c" / "common.pt")
    args = torch.load(path, weights_only=False)["args"]
    assert getattr(args, "window_size", None) == (None if window is None else (window - 1, 0)) and args.padded_vocab_size == 256
    ckptkit.convert(tmp_path / "c", tmp_path / "back", to="hf")
    again = json.loads((tmp_path / "back" / "config.json").read_text())
    assert (again["model_type"], again.get("sliding_window")) == (("llama", None) if window is None else ("mistral", window))


def test_torch_dist_has_the_layers_of_a_kind_in_one_tensor(tmp_path: Path) -> None:
    import torch.distributed.checkpoint as dcp

    ckptkit.convert(WHOLE, tmp_path / "c", to="megatron", container="dcp")
    hf = whole()
    want = {
        "decoder.layers.self_attention.linear_qkv.weight": np.stack(
            [qkv(*(hf[f"model.layers.{i}.self_attn.{x}_proj.weight"] for x in "qkv")) for i in range(3)]
        ),
        "decoder.layers.mlp.linear_fc1.weight": np.stack(
            [np.concatenate([hf[f"model.layers.{i}.mlp.{x}_proj.weight"] for x in ("gate", "up")]) for i in range(3)]
        ),
        "decoder.layers.mlp.linear_fc1.layer_norm_weight": np.stack(
            [hf[f"model.layers.{i}.post_attention_layernorm.weight"] for i in range(3)]
        ),
        "output_layer.weight": hf["lm_head.weight"],
    }  # fmt: skip
    into = {n: torch.zeros(a.shape) for n, a in want.items()}
    dcp.load(into, checkpoint_id=tmp_path / "c", no_dist=True)
    same(into, want)
    assert torch.load(tmp_path / "c" / "common.pt", weights_only=False)["args"].num_layers == 3
    back(tmp_path / "c", tmp_path)


def experts() -> dict[str, np.ndarray]:
    """A Mixtral of one layer."""
    rng = np.random.default_rng(0)
    a = "model.layers.0."
    shapes = {
        "model.embed_tokens.weight": (20, 16), "lm_head.weight": (20, 16), "model.norm.weight": (16,), a + "input_layernorm.weight": (16,),
        a + "post_attention_layernorm.weight": (16,), a + "block_sparse_moe.gate.weight": (3, 16),
        **{a + f"self_attn.{x}_proj.weight": s for x, s in (("q", (16, 16)), ("k", (8, 16)), ("v", (8, 16)), ("o", (16, 16)))},
        **{
            a + f"block_sparse_moe.experts.{e}.{w}.weight": s
            for e in range(3) for w, s in (("w1", (12, 16)), ("w3", (12, 16)), ("w2", (16, 12)))
        },
    }  # fmt: skip
    return {n: rng.normal(size=s).astype("f4") for n, s in shapes.items()}


@pytest.mark.parametrize("words", [{"tp": 2}, {"container": "dcp"}])
def test_experts_go_there_and_back(words: dict[str, Any], tmp_path: Path) -> None:
    hf = experts()
    (tmp_path / "m").mkdir()
    save_file(hf, tmp_path / "m" / "model.safetensors")
    given = {
        "heads": 4, "kv_heads": 2, "head_dim": 4, "experts_per_token": 2, "norm_eps": 1e-5, "activation": "silu", "rope_theta": 1e6,
        "tied": False, "max_positions": 64, "initializer_range": 0.02,
    }  # fmt: skip
    ckptkit.convert(tmp_path / "m", tmp_path / "c", to="megatron", architecture="mixtral", given=given, **words)
    ckptkit.convert(tmp_path / "c", tmp_path / "back", to="hf", architecture="mixtral", given=given)
    have = load_file(tmp_path / "back" / "model.safetensors")
    assert have.keys() == hf.keys()
    for name, a in hf.items():
        np.testing.assert_array_equal(have[name], a, err_msg=name)


def test_experts_that_torch_dist_keeps_apart_and_norms_of_local_layers_are_read(tmp_path: Path) -> None:
    """What Megatron's local layers and `singleton_local_shards` call them."""
    import torch.distributed.checkpoint as dcp

    hf = experts()
    (tmp_path / "m").mkdir()
    save_file(hf, tmp_path / "m" / "model.safetensors")
    given = {
        "heads": 4, "kv_heads": 2, "head_dim": 4, "experts_per_token": 2, "norm_eps": 1e-5, "activation": "silu", "rope_theta": 1e6,
        "tied": False, "max_positions": 64, "initializer_range": 0.02,
    }  # fmt: skip
    ckptkit.convert(tmp_path / "m", tmp_path / "c", to="megatron", container="dcp", architecture="mixtral", given=given)
    said = dcp.FileSystemReader(tmp_path / "c").read_metadata().state_dict_metadata
    held = {n: torch.zeros(m.size) for n, m in said.items() if hasattr(m, "size")}
    dcp.load(held, checkpoint_id=tmp_path / "c", no_dist=True)
    held["decoder.layers.mlp.linear_fc1.layer_norm_weight"] = held.pop("decoder.layers.pre_mlp_layernorm.weight")
    for n in [n for n in held if ".experts.experts." in n]:
        whole = held.pop(n)
        held |= {n.replace("experts.experts.", f"experts.experts.{e}."): whole[:, e].clone() for e in range(3)}
    dcp.save(held, checkpoint_id=tmp_path / "d", no_dist=True)
    for beside in ("common.pt", "metadata.json"):
        (tmp_path / "d" / beside).write_bytes((tmp_path / "c" / beside).read_bytes())
    ckptkit.convert(tmp_path / "d", tmp_path / "back", to="hf", architecture="mixtral", given=given)
    have = load_file(tmp_path / "back" / "model.safetensors")
    assert have.keys() == hf.keys()
    for name, a in hf.items():
        np.testing.assert_array_equal(have[name], a, err_msg=name)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"to": "meta", "tp": 3}, "hidden is 32, which 3 ranks cannot share"),
        ({"to": "megatron", "tp": 4}, "kv_heads is 2, which 4 ranks cannot share"),
        ({"to": "megatron", "pp": 4}, "3 layers do not fill 4 stages"),
        ({"to": "meta", "pp": 2}, "has no stages of a pipeline"),
        ({"to": "hf", "tp": 2}, "says nothing of ranks"),
        ({"to": "megatron", "tp": 2, "container": "safetensors"}, "files of ranks are megatron's"),
    ],
)
def test_what_cannot_be_shared_is_refused_by_name(words: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises((UnsupportedError, UsageError, UndecidedError), match=said):
        ckptkit.convert(WHOLE, tmp_path / "c", **words)
    assert not (tmp_path / "c").exists()
