"""Of every packing, each part taken away, cut, of another layer, with scales that no quantiser makes: `validate` says so, and where."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from packed_makers import read_raw, write_raw

import ckptkit
from ckptkit.graph.examine import examine

FORMS = Path(__file__).resolve().parents[2] / "fixtures" / "forms"
CASES = sorted(p.name for p in FORMS.iterdir() if p.name.startswith(("quant_", "mlx_")))
FLOATS = (np.float32, np.float16, ml_dtypes.bfloat16)
Arrays = dict[str, np.ndarray]
# what a file may lack and be read all the same: settings that say nothing of the values, scales of what flows through
FREE = (
    "g_idx", "weight_format", "input_scale", "channel_wise", "compute_dtype", "encoded_state_dict", "offload_meta", "optimize", "packing",
    "quant_scale", "quant_zero", "round_zero", "stores_quant_config", "unpack_view_dtype", "view_as_float",
)  # fmt: skip
APART = ("quant_gptq", "quant_awq", "quant_ct_pack", "quant_hqq", "quant_torchao")  # none of whose parts is called `weight`


def arrays_of(case: str) -> tuple[Arrays, dict[str, str]]:
    return read_raw(FORMS / case / "model.safetensors")


def put(tmp: Path, case: str, arrays: Arrays, metadata: dict[str, str], **config: object) -> Path:
    shutil.copytree(FORMS / case, tmp / "m", dirs_exist_ok=True)
    write_raw(tmp / "m" / "model.safetensors", arrays, metadata)
    path = tmp / "m" / "config.json"
    if config:
        path.write_text(json.dumps({**(json.loads(path.read_text()) if path.exists() else {}), **config}))
    return tmp / "m"


def errors(path: Path) -> list[str]:
    found = [f for f in ckptkit.validate(path).findings if f.rule.startswith("packing") and f.severity == "error"]
    return [f"{f.where}: {f.message}" for f in found]


def module_of(name: str) -> str:
    """The weight's module, as messages name it."""
    for end in (".weight", "._weight", "_blocks", "_scales"):
        if end in name:
            return name[: name.rindex(end)]
    return name.rpartition(".")[0]


def parts() -> list[tuple[str, str]]:
    """One module's parts of every case."""
    out = []
    for case in CASES:
        names = list(arrays_of(case)[0])
        ends = ("qweight", "W_q", "scales", "absmax", "SCB", "_scale", "_scale_inv", "_scales")
        first = next(module_of(n) for n in names if n.endswith(ends))
        out += [(case, n) for n in names if module_of(n) == first]
    return out


def one_of_each() -> list[str]:
    """A case of each packing: what is looked at one part after another takes its time."""
    from ckptkit.graph.examine import examine

    out: dict[str, str] = {}
    for case in CASES:
        with examine(FORMS / case) as s:
            for weight in s.packings.weights.values():
                out.setdefault(weight.form.packing, case)
    return sorted(set(out.values()))


PARTS = parts()
ONE_OF_EACH = one_of_each()
EACH = [(c, p) for c, p in PARTS if c in ONE_OF_EACH]


@pytest.mark.parametrize("case", CASES)
def test_what_the_library_wrote_is_sound(case: str) -> None:
    assert errors(FORMS / case) == []


@pytest.mark.parametrize(("case", "part"), [(c, p) for c, p in PARTS if not p.endswith(FREE) or "act" in c])
def test_a_part_that_is_not_there_is_an_error_that_names_the_weight(case: str, part: str, tmp_path: Path) -> None:
    arrays, metadata = arrays_of(case)
    del arrays[part]
    made = put(tmp_path, case, arrays, metadata)
    assert any(module_of(part) in e for e in errors(made))


@pytest.mark.parametrize(("case", "part"), PARTS)
def test_a_part_that_is_cut_is_an_error_that_names_the_weight(case: str, part: str, tmp_path: Path) -> None:
    arrays, metadata = arrays_of(case)
    x = arrays[part]
    alone = part.endswith(".weight") and case in ("quant_ct_fp8_tensor", "quant_modelopt_fp8")
    if x.ndim == 0 or len(x) < 2 or part.endswith(FREE[1:]) or alone:
        pytest.skip("it has one element, or nothing but the architecture says how many")
    if part.endswith(".weight") and ("fp8_block" in case):
        pytest.skip("a row less has as many blocks")
    arrays[part] = x[:-1]
    made = put(tmp_path, case, arrays, metadata)
    assert any(module_of(part) in e for e in errors(made))


def swapped(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x).view(np.uint8).reshape(*x.shape, -1)[..., ::-1].copy().view(x.dtype).reshape(x.shape)


def one(x: np.ndarray, value: float) -> np.ndarray:
    y = x.copy()
    y.reshape(-1)[x.size * 3 // 4] = value
    return y


SCALES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "zero": np.zeros_like, "one zero": lambda x: one(x, 0.0), "NaN": lambda x: one(x, np.nan), "infinite": lambda x: one(x, np.inf),
    "turned round": swapped, "negative": lambda x: -x, "huge": lambda x: (x.astype(np.float64) * 1e9).clip(-6e4, 6e4).astype(x.dtype),
}  # fmt: skip
OF_SCALES = [
    (c, p) for c, p in EACH
    if p.endswith(("scale", "scales", "scale_inv", "SCB", "absmax", "scale_2")) and arrays_of(c)[0][p].dtype in FLOATS
]  # fmt: skip


@pytest.mark.parametrize("how", SCALES)
@pytest.mark.parametrize(("case", "part"), OF_SCALES)
def test_scales_that_no_quantiser_makes_are_an_error(how: str, case: str, part: str, tmp_path: Path) -> None:
    arrays, metadata = arrays_of(case)
    signed = case.startswith("mlx")
    if how in ("turned round", "huge") and part.endswith(("input_scale", "global_scale")):
        pytest.skip("it may have any size")
    if how == "negative" and signed:
        pytest.skip("MLX has negative scales")
    if how == "turned round" and arrays[part].dtype == np.float16 and signed:
        pytest.skip("half precision turned round is half precision")
    with np.errstate(all="ignore"):
        arrays[part] = SCALES[how](arrays[part])
    made = put(tmp_path, case, arrays, metadata)
    found = errors(made)
    assert any(module_of(part) in e for e in found), found


@pytest.mark.parametrize(("case", "part"), [(c, p) for c, p in EACH if "input_scale" not in p])
def test_a_part_of_a_layer_that_is_not_there_is_an_error(case: str, part: str, tmp_path: Path) -> None:
    arrays, metadata = arrays_of(case)
    if "layers.0" not in part:
        pytest.skip("of no layer")
    other = part.replace("layers.0", "layers.7")
    if part.endswith(".weight") and arrays[part].dtype in FLOATS:
        pytest.skip("a plain weight")
    made = put(tmp_path, case, {**arrays, other: arrays[part]}, metadata)
    assert any("layers.7" in e for e in errors(made))


@pytest.mark.parametrize("case", [c for c in CASES if not c.startswith("mlx")])
def test_a_configuration_of_another_packing_or_of_none_is_an_error(case: str, tmp_path: Path) -> None:
    arrays, metadata = arrays_of(case)
    made = put(tmp_path, case, arrays, metadata, quantization_config={"quant_method": "eetq"})
    assert errors(made)
    module = next(module_of(p) if "_blocks" not in p else p.rpartition(".")[0] for c, p in PARTS if c == case)
    said = json.loads((FORMS / case / "config.json").read_text()) if (FORMS / case / "config.json").exists() else {}
    for key in ("modules_to_not_convert", "ignore"):
        made = put(tmp_path, case, arrays, metadata, quantization_config={**said.get("quantization_config", {}), key: [module]})
        assert any(module in e for e in errors(made))


@pytest.mark.parametrize("case", [c for c in CASES if c.startswith(APART)])
def test_a_plain_weight_beside_a_packed_one_is_an_error(case: str, tmp_path: Path) -> None:
    arrays, metadata = arrays_of(case)
    module = next(module_of(p) for c, p in PARTS if c == case)
    made = put(tmp_path, case, {**arrays, f"{module}.weight": np.ones((32, 128), np.float32)}, metadata)
    assert any(module in e for e in errors(made))


ODD = (0, -3, 17, "x", 1.5, 1 << 70, [4], {"bits": 4})


@pytest.mark.parametrize("word", ["bits", "group_size"])
@pytest.mark.parametrize("case", [c for c in CASES if c.startswith(("mlx_", "quant_gptq", "quant_awq")) and "mixed" not in c])
def test_words_that_are_no_sizes_are_errors(case: str, word: str, tmp_path: Path) -> None:
    arrays, metadata = arrays_of(case)
    config = json.loads((FORMS / case / "config.json").read_text())
    for odd in ODD:
        said = {k: {**config[k], word: odd} for k in ("quantization", "quantization_config") if k in config}
        assert errors(put(tmp_path, case, arrays, metadata, **said)), odd


@pytest.mark.parametrize("case", ["mlx_nvfp4", "mlx_mxfp8"])
def test_a_mode_that_is_no_word_is_an_error(case: str, tmp_path: Path) -> None:
    arrays, metadata = arrays_of(case)
    for odd in ODD:
        assert errors(put(tmp_path, case, arrays, metadata, quantization={"mode": odd, "bits": 4}, quantization_config={"mode": odd}))


@pytest.mark.parametrize("case", [c for c in CASES if c.startswith("quant_ct")])
def test_odd_words_of_a_group_end_in_findings(case: str, tmp_path: Path) -> None:
    arrays, metadata = arrays_of(case)
    said = json.loads((FORMS / case / "config.json").read_text())["quantization_config"]
    name = next(iter(said["config_groups"]))
    for key in ("num_bits", "group_size", "block_structure", "strategy", "symmetric"):
        for odd in (*ODD, None, [0, 0], [-1, 128], [1 << 70, 1], [[[[]]]], {}):
            group = said["config_groups"][name]
            words = {**said, "config_groups": {name: {**group, "weights": {**group["weights"], key: odd}}}}
            ckptkit.validate(put(tmp_path, case, arrays, metadata, quantization_config=words))


@pytest.mark.parametrize("case", [c for c in CASES if "gptq_act" in c])
@pytest.mark.parametrize("group", [4, -5, 1 << 30, -(1 << 31)])
def test_a_group_that_is_not_there_is_refused(case: str, group: int, tmp_path: Path) -> None:
    arrays, metadata = arrays_of(case)
    name = next(n for n in arrays if n.endswith("g_idx"))
    arrays[name] = one(arrays[name], group)
    made = put(tmp_path, case, arrays, metadata)
    with pytest.raises(ckptkit.CheckpointError, match="group") as written:
        ckptkit.convert(made, tmp_path / "out", container="safetensors", dequantize=True, dtypes=[("*", "F32")])
    with examine(made) as subject, pytest.raises(ckptkit.CheckpointError, match="names the group") as read:
        subject.checkpoint.array(name.replace("g_idx", "weight"))
    assert all((e.value.path or "").startswith(str(made)) for e in (written, read))


def test_an_error_of_decoding_names_the_file_and_the_weight() -> None:
    from ckptkit.errors import CorruptError
    from ckptkit.packing import in_file

    for path, said in ((None, "/x/m.safetensors: a.weight: two scales"), ("/y", "/y: two scales")):
        with pytest.raises(CorruptError) as e, in_file("/x/m.safetensors", "a.weight"):
            raise CorruptError("two scales", path=path)
        assert said in str(e.value)


def other_layer(arrays: Arrays, *ends: str) -> Arrays:
    """Two further layers, other weights: their scales and codes are turned round."""
    out = dict(arrays)
    for layer in (1, 2):
        for n, x in arrays.items():
            by = np.roll(x, layer, axis=0) if x.ndim and n.endswith(ends) else x
            out[n.replace("layers.0", f"layers.{layer}")] = np.ascontiguousarray(by)
    return out


@pytest.mark.parametrize("part", ["qweight", "scales"])
def test_a_part_that_is_another_layers_is_an_error_that_names_both(part: str, tmp_path: Path) -> None:
    arrays, metadata = arrays_of("quant_gptq_v1")
    three = other_layer(arrays, "qweight", "qzeros", "scales")
    assert errors(put(tmp_path, "quant_gptq_v1", three, metadata)) == []
    names = [n for n in three if n.endswith(f".{part}")]
    three[names[2]] = three[names[1]]
    found = errors(put(tmp_path, "quant_gptq_v1", three, metadata))
    assert len(found) == 1 and names[1] in found[0] and names[2] in found[0]


def test_a_weight_that_is_there_twice_as_a_whole_has_no_part_of_another(tmp_path: Path) -> None:
    arrays, metadata = arrays_of("quant_gptq_v1")
    assert errors(put(tmp_path, "quant_gptq_v1", other_layer(arrays), metadata)) == []


def test_scales_that_agree_by_accident_are_no_copies(tmp_path: Path) -> None:
    arrays, metadata = arrays_of("quant_gptq_v1")
    three = other_layer(arrays, "qweight")
    for n in three:
        if n.endswith(("scales", "qzeros")):
            three[n] = np.full_like(three[n], 0.25 if n.endswith("scales") else 0x77777777)
    assert errors(put(tmp_path, "quant_gptq_v1", three, metadata)) == []


def test_an_order_that_all_siblings_but_one_have_is_an_error(tmp_path: Path) -> None:
    arrays, metadata = arrays_of("quant_gptq_v1")
    three = other_layer(arrays, "qweight", "qzeros", "scales")
    del three[next(n for n in three if "layers.1" in n and n.endswith("g_idx"))]
    found = errors(put(tmp_path, "quant_gptq_v1", three, metadata))
    assert len(found) == 1 and "g_idx" in found[0] and "layers.1" in found[0]


def test_each_weight_that_lacks_a_scale_of_what_flows_in_is_named_whatever_its_module(tmp_path: Path) -> None:
    arrays, metadata = arrays_of("quant_modelopt_fp8")
    three = other_layer(arrays, "weight")
    three |= {n.replace("_proj", "_other"): np.ascontiguousarray(x[::-1]) if x.ndim else x for n, x in three.items() if "_proj" in n}
    gone = [n for n in three if "layers.1" in n and n.endswith("input_scale")]
    assert len(gone) > 1
    found = errors(put(tmp_path, "quant_modelopt_fp8", {n: x for n, x in three.items() if n not in gone}, metadata))
    lacking = [e for e in found if "is there of the siblings" in e]
    assert len(lacking) == 1 and f"{len(gone)} packed weights" in lacking[0]


def test_a_scale_of_another_type_than_its_siblings_is_an_error(tmp_path: Path) -> None:
    arrays, metadata = arrays_of("quant_gptq_v1")
    three = other_layer(arrays, "qweight", "qzeros", "scales")
    name = next(n for n in three if "layers.2" in n and n.endswith("scales"))
    three[name] = three[name].view(ml_dtypes.bfloat16)
    found = errors(put(tmp_path, "quant_gptq_v1", three, metadata))
    assert any(name in e and "BF16" in e for e in found)


def test_scales_that_are_next_to_nothing_are_an_error(tmp_path: Path) -> None:
    arrays, metadata = arrays_of("quant_gptq_v1")
    name = next(n for n in arrays if n.endswith("scales"))
    made = put(tmp_path, "quant_gptq_v1", {**arrays, name: arrays[name].view(ml_dtypes.bfloat16)}, metadata)
    assert any(name in e for e in errors(made))


@pytest.mark.parametrize("part", ["packing", "unpack_view_dtype", "compute_dtype"])
def test_hqqs_words_of_other_bits_are_an_error(part: str, tmp_path: Path) -> None:
    arrays, metadata = arrays_of("quant_hqq")
    name = next(n for n in arrays if n.endswith(f".{part}"))
    other = {"packing": b"2bit_u8", "unpack_view_dtype": b"torch.int8", "compute_dtype": b"torch.float3"}[part]
    made = put(tmp_path, "quant_hqq", {**arrays, name: np.frombuffer(other, np.uint8)}, metadata)
    assert any(name in e for e in errors(made))


def test_scales_of_rows_that_a_loader_would_spread_over_columns_are_an_error(tmp_path: Path) -> None:
    arrays, metadata = arrays_of("quant_ct_fp8_channel")
    name = next(n for n in arrays if n.endswith("weight_scale"))
    made = put(tmp_path, "quant_ct_fp8_channel", {**arrays, name: arrays[name].reshape(-1)}, metadata)
    assert any(name in e for e in errors(made))


@pytest.mark.parametrize(("case", "said", "is_of"), [("quant_awq", "gptq", "AWQ (version gemm)"), ("quant_gptq", "awq", "GPTQ")])
def test_what_the_configuration_calls_by_a_cousins_name_is_called_by_its_own(case: str, said: str, is_of: str, tmp_path: Path) -> None:
    whole = next(c for c in CASES if c.startswith(case))
    arrays, metadata = arrays_of(whole)
    words = {"quant_method": said, "bits": 4, "group_size": 128, "desc_act": False, "zero_point": True, "version": "gemm"}
    found = errors(put(tmp_path, whole, arrays, metadata, quantization_config=words))
    assert found and all(is_of in e and "which the configuration does not say" in e for e in found if ".scales is" in e)
    assert any(".scales is" in e for e in found)
