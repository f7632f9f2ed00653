"""Every packing decodes to the values of its own library, whole and tile by tile; damaged parts are errors that name the weight."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import ckptkit

FORMS = Path(__file__).resolve().parents[2] / "fixtures" / "forms"
CASES = sorted(p.name for p in FORMS.iterdir() if p.name.startswith(("quant_", "mlx_")))
ROUNDED = {"quant_ct_nvfp4"}  # the library gives bfloat16, whatever is asked for: exact all the same


def expected(case: str) -> dict[str, np.ndarray]:
    with np.load(FORMS / case / "expected.npz") as z:
        return {n: z[n] for n in z.files}


@pytest.mark.parametrize("case", CASES)
def test_decoding_gives_the_librarys_values(case: str, tmp_path: Path) -> None:
    ckptkit.convert(FORMS / case, tmp_path / "out", container="safetensors", dequantize=True, dtypes=[("*", "F32")])
    got = load_file(tmp_path / "out" / "model.safetensors")
    want = expected(case)
    assert want.keys() <= got.keys()
    for name, values in want.items():
        assert got[name].shape == values.shape, name
        np.testing.assert_array_equal(got[name], values, err_msg=name)
    config = tmp_path / "out" / "config.json"
    if config.exists():
        assert not {"quantization_config", "quantization"} & json.loads(config.read_text()).keys()


@pytest.mark.parametrize("case", CASES)
def test_small_tiles_give_the_same_values(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from ckptkit.graph.examine import examine
    from ckptkit.packing import _parts

    monkeypatch.setattr(_parts, "TILE", 600)
    with examine(FORMS / case) as subject:
        for name, values in expected(case).items():
            np.testing.assert_array_equal(subject.checkpoint.array(name).astype(np.float32), values, err_msg=name)


@pytest.mark.parametrize("case", CASES)
def test_names_that_stay_move_every_part_bit_for_bit(case: str, tmp_path: Path) -> None:
    ckptkit.convert(FORMS / case, tmp_path / "out.safetensors")
    a, b = stored(FORMS / case / "model.safetensors"), stored(tmp_path / "out.safetensors")
    assert a == b


def stored(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Type, shape and bytes of each tensor."""
    raw = path.read_bytes()
    n = int.from_bytes(raw[:8], "little")
    header, data = json.loads(raw[8 : 8 + n]), raw[8 + n :]
    return {k: (v["dtype"], tuple(v["shape"]), data[slice(*v["data_offsets"])]) for k, v in header.items() if k != "__metadata__"}


@pytest.mark.parametrize("case", CASES)
def test_inspect_counts_parameters_and_names_the_packing(case: str) -> None:
    seen = ckptkit.inspect(FORMS / case)
    want = expected(case)
    assert len(seen.packings) >= 1
    assert sum(p.parameters for p in seen.packings) == sum(v.size for n, v in want.items())
    assert all(0.9 < p.bits < 9 for p in seen.packings)
    shapes = {row.name: row.shape for row in seen.tensors}
    assert {n: shapes[n] for n in want} == {n: v.shape for n, v in want.items()}


def parts_of(case: str) -> list[tuple[str, str]]:
    from ckptkit.graph.examine import examine
    from ckptkit.packing import by_name

    with examine(FORMS / case) as subject:
        weight = next(iter(subject.packings.weights.values()))
        optional = by_name(weight.form.packing).OPTIONAL
        return [(weight.name, t.name) for role, t in weight.parts.items() if role not in optional]


def rewritten(case: str, folder: Path, change: object) -> Path:
    """The case with its header changed by a function of (header, data)."""
    raw = (FORMS / case / "model.safetensors").read_bytes()
    n = int.from_bytes(raw[:8], "little")
    header, data = json.loads(raw[8 : 8 + n]), raw[8 + n :]
    header, data = change(header, data)  # type: ignore[operator]
    text = json.dumps(header).encode()
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    if (FORMS / case / "config.json").exists():
        shutil.copy(FORMS / case / "config.json", folder)
    return folder


def without(name: str) -> object:
    def change(header: dict, data: bytes) -> tuple[dict, bytes]:  # type: ignore[type-arg]
        out, blob = {}, b""
        for key, entry in header.items():
            if key == "__metadata__":
                out[key] = entry
            elif key != name:
                a, b = entry["data_offsets"]
                out[key] = {**entry, "data_offsets": [len(blob), len(blob) + b - a]}
                blob += data[a:b]
        return out, blob

    return change


DAMAGED = [(case, weight, part) for case in CASES for weight, part in parts_of(case)]


@pytest.mark.parametrize(("case", "weight", "part"), DAMAGED)
def test_a_part_that_is_not_there_is_an_error_that_names_the_weight(case: str, weight: str, part: str, tmp_path: Path) -> None:
    folder = rewritten(case, tmp_path / "bad", without(part))
    errors = [f for f in ckptkit.validate(folder).findings if f.severity == "error"]
    module = weight.removesuffix("weight")
    assert any(f.rule.startswith("packing") and module in f.where + f.message for f in errors), errors


@pytest.mark.parametrize(("case", "weight", "part"), DAMAGED)
def test_a_part_of_another_shape_is_an_error_that_names_it(case: str, weight: str, part: str, tmp_path: Path) -> None:
    def change(header: dict, data: bytes) -> tuple[dict, bytes]:  # type: ignore[type-arg]
        header[part]["shape"] = [*header[part]["shape"], 1, 1, 1]
        return header, data

    folder = rewritten(case, tmp_path / "bad", change)
    errors = [f for f in ckptkit.validate(folder).findings if f.severity == "error" and f.rule == "packing"]
    assert any(part in f.where + f.message or weight in f.where + f.message for f in errors), errors


def test_a_configuration_that_says_nothing_of_the_packing_is_an_error(tmp_path: Path) -> None:
    folder = rewritten("quant_fp8_block", tmp_path / "bad", lambda h, d: (h, d))
    (folder / "config.json").write_text('{"model_type": "llama", "dtype": "bfloat16"}')
    assert any(f.rule == "packing-config" for f in ckptkit.validate(folder).findings)


def test_a_configuration_that_says_another_packing_is_an_error(tmp_path: Path) -> None:
    folder = rewritten("quant_gptq_v1", tmp_path / "bad", lambda h, d: (h, d))
    (folder / "config.json").write_text('{"model_type": "llama", "quantization_config": {"quant_method": "fp8"}}')
    assert any(f.rule == "packing-config" and "GPTQ" in f.message for f in ckptkit.validate(folder).findings)


def test_another_naming_refuses_codes_unless_they_are_decoded(tmp_path: Path) -> None:
    with np.load(FORMS / "quant_fp8_block" / "expected.npz") as z:
        assert len(z.files) == 1
    report = ckptkit.validate(FORMS / "quant_fp8_block")
    assert not [f for f in report.findings if f.rule.startswith("packing")]
