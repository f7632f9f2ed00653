"""The namings of JAX programs: MaxText's and T5X' trees, made by hand out of transformers' models by what those programs say of kernels."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
from flax_files import pack
from safetensors.numpy import load_file, save_file

import ckptkit
from ckptkit.containers import open_checkpoint

Arrays = dict[str, np.ndarray]
LLAMA = oracles.FIXTURES / "forms" / "llama_whole"
LLAMA_31 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}


def decoder(hf: Arrays, heads: int, kv: int, *, scanned: bool, beside: bool, gemma: bool = False) -> Arrays:
    """MaxText's tree of a decoder. `beside`: rotary pairs lie side by side."""
    layers = 1 + max(int(n.split(".")[2]) for n in hf if ".layers." in n)
    hidden = hf["model.norm.weight"].shape[0]

    def split(w: np.ndarray, n: int, *, rotary: bool) -> np.ndarray:
        """(out, in) -> (in, heads, columns)"""
        apart = w.T.reshape(hidden, n, -1)
        return apart.reshape(*apart.shape[:2], 2, -1).swapaxes(2, 3).reshape(apart.shape) if rotary and beside else apart

    def layer(i: int) -> Arrays:
        h = {n.removeprefix(f"model.layers.{i}.").removesuffix(".weight"): a for n, a in hf.items() if n.startswith(f"model.layers.{i}.")}
        width = h["self_attn.q_proj"].shape[0] // heads
        one = ("pre_self_attention_norm", "pre_ffw_norm") if gemma else ("pre_self_attention_layer_norm", "post_self_attention_layer_norm")
        norms = dict(zip(one, (h["input_layernorm"], h["post_attention_layernorm"]), strict=True))
        return {
            "self_attention.query.kernel": split(h["self_attn.q_proj"], heads, rotary=True) / np.float32(width**0.5),
            "self_attention.key.kernel": split(h["self_attn.k_proj"], kv, rotary=True),
            "self_attention.value.kernel": split(h["self_attn.v_proj"], kv, rotary=False),
            "self_attention.out.kernel": h["self_attn.o_proj"].T.reshape(heads, width, hidden),
            "mlp.wi_0.kernel": h["mlp.gate_proj"].T,
            "mlp.wi_1.kernel": h["mlp.up_proj"].T,
            "mlp.wo.kernel": h["mlp.down_proj"].T,
            **{f"{n}.scale": a + (1 if gemma else 0) for n, a in norms.items()},
        }

    each = [layer(i) for i in range(layers)]
    out: Arrays = {"token_embedder.embedding": hf["model.embed_tokens.weight"] * np.float32(hidden**0.5 if gemma else 1)}
    out["decoder.decoder_norm.scale"] = hf["model.norm.weight"] + (1 if gemma else 0)
    if "lm_head.weight" in hf and not gemma:
        out["decoder.logits_dense.kernel"] = hf["lm_head.weight"].T
    for name in each[0]:
        if scanned:
            out[f"decoder.layers.{name}"] = np.stack([a[name] for a in each], axis=1)
        else:
            out |= {f"decoder.layers_{i}.{name}": a[name] for i, a in enumerate(each)}
    return {f"params.params.{n}": np.ascontiguousarray(a) for n, a in out.items()}


def written(folder: Path, arrays: Arrays, config: dict[str, Any]) -> Path:
    folder.mkdir(parents=True)
    save_file(arrays, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def same(got: Path, want: Arrays, within: float = 0.0) -> None:
    """Hold the tensors of a checkpoint against these, name for name."""
    with open_checkpoint(got) as ck:
        assert set(ck.tensors) == set(want)
        for name, a in want.items():
            assert ck.array(name).shape == a.shape and np.allclose(ck.array(name), a, rtol=0, atol=within), name


def llama(**more: Any) -> tuple[Arrays, dict[str, Any]]:
    config = json.loads((LLAMA / "config.json").read_text())
    config.pop("rope_parameters", None)
    return load_file(LLAMA / "model.safetensors"), {**config, "rope_theta": 10000.0, **more}


@pytest.mark.parametrize("scanned", [True, False])
@pytest.mark.parametrize("beside", [False, True])
def test_maxtexts_llama_there_and_back(scanned: bool, beside: bool, tmp_path: Path) -> None:
    """Rotary pairs lie side by side exactly where the positions are scaled as Llama 3.1's: the configuration tells."""
    hf, config = llama(**({"rope_scaling": LLAMA_31} if beside else {}))
    tree = decoder(hf, 4, 2, scanned=scanned, beside=beside)
    source = written(tmp_path / "tree", tree, config)
    ckptkit.convert(source, tmp_path / "hf", to="hf")
    same(tmp_path / "hf", hf, 1e-7)  # the query was divided by the root of 8 and comes back
    base = written(tmp_path / "base", hf, config)
    to = f"maxtext{'' if scanned else '_unscanned'}{'_llama31' if beside else ''}"
    ckptkit.convert(base, tmp_path / "written", to=to)
    same(tmp_path / "written", tree, 1e-7)


def test_maxtext_is_written_as_the_models_positions_are(tmp_path: Path) -> None:
    hf, config = llama(rope_scaling=LLAMA_31)
    ckptkit.convert(written(tmp_path / "base", hf, config), tmp_path / "out", to="maxtext")
    same(tmp_path / "out", decoder(hf, 4, 2, scanned=True, beside=True), 1e-7)
    plain = written(tmp_path / "plain", hf, llama()[1])
    with pytest.raises(ckptkit.CheckpointError, match="rope_type"):
        ckptkit.convert(plain, tmp_path / "refused", to="maxtext_llama31")


def test_maxtexts_gemma_multiplies_its_embeddings(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    hidden, heads, width, inner = 24, 3, 16, 40
    shapes = {
        "self_attn.q_proj": (heads * width, hidden), "self_attn.k_proj": (width, hidden), "self_attn.v_proj": (width, hidden),
        "self_attn.o_proj": (hidden, heads * width), "mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner), "input_layernorm": (hidden,), "post_attention_layernorm": (hidden,),
    }  # fmt: skip
    hf = {f"model.layers.{i}.{n}.weight": rng.standard_normal(s).astype("f4") for i in range(2) for n, s in shapes.items()}
    hf |= {"model.embed_tokens.weight": rng.standard_normal((50, hidden)).astype("f4"), "model.norm.weight": np.ones(hidden, "f4")}
    config = {
        "model_type": "gemma", "architectures": ["GemmaForCausalLM"], "vocab_size": 50, "hidden_size": hidden, "intermediate_size": inner,
        "num_hidden_layers": 2, "num_attention_heads": heads, "num_key_value_heads": 1, "head_dim": width, "rope_theta": 10000.0,
        "hidden_act": "gelu_pytorch_tanh", "rms_norm_eps": 1e-6, "max_position_embeddings": 64,
    }  # fmt: skip
    tree = decoder(hf, heads, 1, scanned=True, beside=False, gemma=True)
    padded = {n: np.concatenate([a, np.zeros((14, hidden), "f4")]) if "token_embedder" in n else a for n, a in tree.items()}
    ckptkit.convert(written(tmp_path / "tree", padded, config), tmp_path / "hf", to="hf")
    same(tmp_path / "hf", hf, 1e-6)
    ckptkit.convert(written(tmp_path / "base", hf, config), tmp_path / "written", to="maxtext")
    same(tmp_path / "written", tree, 1e-6)


@pytest.mark.parametrize("axis", [0, 1])
def test_scanned_layers_of_transformers_modules(axis: int, tmp_path: Path) -> None:
    hf, config = llama()
    out: Arrays = {}
    for name, a in hf.items():
        leaf = "embedding" if "embed_tokens" in name else "kernel" if a.ndim == 2 else "scale"
        a = a.T if leaf == "kernel" else a
        called = (
            name.replace("model.layers.", "decoder.layers.").replace("model.embed_tokens", "token_embedder").replace(".weight", f".{leaf}")
        )
        called = called.replace("model.norm", "decoder.norm")
        if ".layers." not in called:
            out[f"params.{called}"] = np.ascontiguousarray(a)
        elif ".layers.0." in called:
            every = [hf[name.replace(".layers.0.", f".layers.{i}.")] for i in range(3)]
            stacked = np.stack([x.T if leaf == "kernel" else x for x in every], axis=axis)
            out["params." + called.replace(".layers.0.", ".layers.")] = np.ascontiguousarray(stacked)
    ckptkit.convert(written(tmp_path / "tree", out, config), tmp_path / "hf", to="hf")
    same(tmp_path / "hf", hf)
    ckptkit.convert(written(tmp_path / "base", hf, config), tmp_path / "again", to=f"flax_scanned{axis}")
    with open_checkpoint(tmp_path / "again") as ck:
        assert {f"params.{n}" for n in ck.tensors} == set(out)
        assert all(np.array_equal(ck.array(n.removeprefix("params.")), a) for n, a in out.items())


def t5x_tree(state: Arrays, heads: int, *, scanned: bool) -> Arrays:
    """T5X' tree of a T5 (scanned: of a UMT5) whose tensors are these."""
    parts = {"q": "query", "k": "key", "v": "value", "o": "out"}
    blocks = {
        "encoder": ((0, "SelfAttention", "attention", "pre_attention_layer_norm"), (1, "DenseReluDense", "mlp", "pre_mlp_layer_norm")),
        "decoder": (
            (0, "SelfAttention", "self_attention", "pre_self_attention_layer_norm"),
            (1, "EncDecAttention", "encoder_decoder_attention", "pre_cross_attention_layer_norm"),
            (2, "DenseReluDense", "mlp", "pre_mlp_layer_norm"),
        ),
    }
    out: Arrays = {"token_embedder.embedding": state["shared.weight"]}
    if "lm_head.weight" in state:
        out["decoder.logits_dense.kernel"] = state["lm_head.weight"].T
    for stack, of in blocks.items():
        layers = 1 + max(int(n.split(".")[2]) for n in state if n.startswith(f"{stack}.block."))
        each: list[Arrays] = []
        for i in range(layers):
            one: Arrays = {}
            for k, theirs, ours, norm in of:
                at = f"{stack}.block.{i}.layer.{k}."
                one[f"{norm}.scale"] = state[f"{at}layer_norm.weight"]
                for short, part in parts.items() if "Attention" in theirs else ():
                    w = state[f"{at}{theirs}.{short}.weight"].T
                    split = (heads, -1, w.shape[1]) if part == "out" else (w.shape[0], heads, -1)
                    one[f"{ours}.{part}.kernel"] = w.reshape(split) if scanned else w
                for short in ("wi", "wi_0", "wi_1", "wo") if theirs == "DenseReluDense" else ():
                    if f"{at}{theirs}.{short}.weight" in state:
                        one[f"{ours}.{short}.kernel"] = state[f"{at}{theirs}.{short}.weight"].T
                table = state.get(f"{at}{theirs}.relative_attention_bias.weight")
                if table is not None and scanned:
                    one["relpos_bias.rel_embedding"] = table.T
                elif table is not None:
                    out[f"{stack}.relpos_bias.rel_embedding"] = table.T
            each.append(one)
        for name in each[0]:
            if scanned:
                out[f"{stack}.{stack}.{name}"] = np.stack([a[name] for a in each], axis=1)
            else:
                out |= {f"{stack}.layers_{i}.{name}": a[name] for i, a in enumerate(each)}
        out[f"{stack}.{stack}_norm.scale"] = state[f"{stack}.final_layer_norm.weight"]
    return {f"target.{n}": np.ascontiguousarray(a) for n, a in out.items()}


@pytest.mark.parametrize(
    "kind, words", [("T5", {}), ("T5", {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}), ("MT5", {}), ("UMT5", {})]
)
def test_t5x_there_and_back(kind: str, words: dict[str, Any], tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    sizes = {
        "d_model": 24, "d_ff": 40, "d_kv": 6, "num_heads": 3, "num_layers": 2, "num_decoder_layers": 3, "vocab_size": 50,
        "relative_attention_num_buckets": 8,
    }  # fmt: skip
    model = getattr(transformers, f"{kind}ForConditionalGeneration")(getattr(transformers, f"{kind}Config")(**sizes, **words))
    model.save_pretrained(tmp_path / "base")
    state = load_file(tmp_path / "base" / "model.safetensors")
    tree = t5x_tree(state, 3, scanned=kind == "UMT5")
    ckptkit.convert(tmp_path / "base", tmp_path / "written", to="t5x")
    same(tmp_path / "written", tree)
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    ckptkit.convert(written(tmp_path / "tree", tree, config), tmp_path / "hf", to="hf")
    same(tmp_path / "hf", state)


def zarr_gzip(folder: Path, a: np.ndarray) -> None:
    """An array as T5X has tensorstore write it: zarr 2, gzip, one chunk."""
    folder.mkdir(parents=True)
    about = {
        "chunks": list(a.shape), "compressor": {"id": "gzip", "level": 1}, "dimension_separator": ".", "dtype": a.dtype.str,
        "fill_value": None, "filters": None, "order": "C", "shape": list(a.shape), "zarr_format": 2,
    }  # fmt: skip
    (folder / ".zarray").write_text(json.dumps(about))
    (folder / (".".join("0" * a.ndim) or "0")).write_bytes(gzip.compress(a.tobytes(), 1))


def test_a_folder_of_t5x_is_read_by_its_own_tree(tmp_path: Path) -> None:
    """`checkpoint` is a tree in msgpack that says of each array where it lies, or holds it. What is listed and gone is an error."""
    hf, config = llama()
    arrays = {n.replace("params.params.", "target."): a for n, a in decoder(hf, 4, 2, scanned=False, beside=False).items()}
    folder = tmp_path / "checkpoint_1000"
    tree: dict[str, Any] = {"target": {}, "state": {"step": np.array(7, "i4")}}
    for name, a in arrays.items():
        zarr_gzip(folder / name, a)
        at = tree["target"]
        *outer, leaf = name.split(".")[1:]
        for key in outer:
            at = at.setdefault(key, {})
        at[leaf] = {"driver": "zarr", "kvstore": {"driver": "gfile", "path": f"{name}/"}, "metadata": {"shape": list(a.shape)}}
    (folder / "checkpoint").write_bytes(pack({"version": 3, "optimizer": tree}))
    (folder / "config.json").write_text(json.dumps(config))
    with open_checkpoint(tmp_path) as ck:
        assert ck.container == "orbax" and set(ck.tensors) == {*arrays, "state.step"} and ck.beside == {"state.step"}
        assert ck.array("state.step") == 7 and all(np.array_equal(ck.array(n), a) for n, a in arrays.items())
    ckptkit.convert(folder, tmp_path / "hf", to="hf")
    same(tmp_path / "hf", hf, 1e-7)
    shutil.rmtree(folder / "target.decoder.decoder_norm.scale")
    found = ckptkit.validate(folder).findings
    assert any(f.severity == "error" and "decoder_norm" in f.message and "not there" in f.message for f in found)


@pytest.mark.parametrize("where", ["../out", "/etc", "a/../../out", ".."])
def test_a_tree_that_leads_out_of_its_folder_is_not_followed(where: str, tmp_path: Path) -> None:
    zarr_gzip(tmp_path / "out", np.ones(3, "f4"))
    zarr_gzip(tmp_path / "m" / "target.norm", np.ones(3, "f4"))
    leaf = {"driver": "zarr", "kvstore": {"driver": "file", "path": where}}
    (tmp_path / "m" / "checkpoint").write_bytes(pack({"target": {"x": leaf, "norm": {**leaf, "kvstore": {"path": "target.norm"}}}}))
    with open_checkpoint(tmp_path / "m") as ck:
        assert set(ck.tensors) == {"target.norm"} and any(f.severity == "error" for f in ck.findings)
