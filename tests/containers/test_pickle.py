"""The pickle interpreter: what it describes, what it never does, what it refuses."""

from __future__ import annotations

import argparse
import collections
import io
import os
import pickle
import pickletools
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptkit.containers._pickle import interpreter
from ckptkit.containers._pickle.interpreter import Opaque, load
from ckptkit.errors import CheckpointError, CorruptError, LimitError, UnsupportedError

torch = pytest.importorskip("torch")

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
keys = st.text() | st.integers(-(2**40), 2**40) | st.booleans() | st.none() | st.tuples(st.integers(0, 9), st.text())
plain = st.recursive(scalars, lambda c: st.lists(c) | st.tuples(c, c) | st.dictionaries(keys, c) | st.lists(c).map(tuple), max_leaves=25)


def same(a: object, b: object) -> bool:
    """Equal, also in type, so that 1 is not True."""
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return isinstance(b, dict) and list(map(repr, a)) == list(map(repr, b)) and all(same(a[k], b[k]) for k in a)
    return type(a) is type(b) and a == b


@settings(deadline=None, max_examples=150)
@given(plain, st.integers(0, 5))
def test_plain_data_is_what_pickle_says_it_is_in_every_protocol(value: object, protocol: int) -> None:
    try:
        raw = pickle.dumps(value, protocol)
    except UnicodeEncodeError:
        return
    try:
        expected = pickle.loads(raw)
    except UnicodeDecodeError:
        return
    got = load(raw)
    assert same(_unescaped(expected), _unescaped(got.value))
    assert got.end == len(raw)
    assert got.opaque == ()


def _unescaped(v: object) -> object:
    """Lone surrogates become escapes when read."""
    if isinstance(v, str):
        return v.encode("utf-8", "surrogatepass").decode("utf-8", "backslashreplace")
    if isinstance(v, (list, tuple)):
        return type(v)(map(_unescaped, v))
    if isinstance(v, dict):
        return {_unescaped(k): _unescaped(c) for k, c in v.items()}
    return v


def test_sets_bytearrays_and_ordered_dicts_are_kept_as_plain_data() -> None:
    for protocol in range(6):
        value = {
            "s": {1},
            "b": bytearray(b"ab"),
            "o": collections.OrderedDict(a=1),
            "f": frozenset((2,)),
            "d": collections.defaultdict(list, x=1),
        }
        got = load(pickle.dumps(value, protocol))
        assert got.value == {"s": [1], "b": b"ab", "o": {"a": 1}, "f": (2,), "d": {"x": 1}}
        assert got.opaque == ()


@pytest.mark.parametrize("protocol", range(6))
def test_an_unknown_class_is_kept_by_name_with_its_state(protocol: int) -> None:
    got = load(pickle.dumps(argparse.Namespace(arch="roberta", layers=[1, 2]), protocol))
    assert isinstance(got.value, Opaque)
    assert (got.value.module, got.value.name, got.value.state) == ("argparse", "Namespace", {"arch": "roberta", "layers": [1, 2]})
    assert got.opaque == ("argparse.Namespace",)


class Evil:
    def __init__(self, f: object, *args: object) -> None:
        self.call = (f, args)

    def __reduce__(self) -> object:
        return self.call


@pytest.mark.parametrize("protocol", range(6))
def test_nothing_is_ever_called(protocol: int, tmp_path: object) -> None:
    mark = os.path.join(str(tmp_path), "mark")
    got = load(pickle.dumps([Evil(os.mkdir, mark), Evil(eval, f"open({mark!r}, 'w')")], protocol))
    assert not os.path.exists(mark)
    assert got.opaque == ("posix.mkdir", "builtins.eval")
    assert got.value[0].args == (mark,)
    found = interpreter.findings(got.opaque, "x.bin", got.calls, got.refused)
    assert [(f.severity, f.rule) for f in found] == [("error", "pickle")] * 2
    assert "posix.mkdir" in found[0].message and "never calls" in found[0].message


@pytest.mark.parametrize(("name", "severity"), [
    ("posix.system", "error"), ("nt.system", "error"), ("builtins.exec", "error"), ("__builtin__.eval", "error"),
    ("subprocess.Popen", "error"), ("commands.getoutput", "error"), ("runpy._run_code", "error"), ("timeit.timeit", "error"),
    ("webbrowser.open", "error"), ("builtins.getattr", "error"), ("importlib.import_module", "error"), ("ctypes.CDLL", "error"),
    ("torch.serialization.os.system", "error"), ("numpy.testing._private.utils.runstring", "error"), ("torch.hub.load", "error"),
    ("torch.storage._load_from_bytes", "error"), ("__main__.payload", "error"), ("some.module.run", "error"),
    ("pip._internal.main", "error"), ("torch.fx.graph_module.reduce_graph_module", "error"), ("functools.reduce", "error"),
    ("torch._C.import_ir_module", "error"), ("torch._C._nn.gelu", "error"), ("torch._C._nn.os.system", "error"),
    ("torch.from_file", "error"), ("torch._C._VariableFunctions.from_file", "error"), ("numpy.ndarray.tofile", "error"),
    ("argparse.Namespace", "warning"), ("datetime.datetime", "warning"), ("pathlib.PosixPath", "warning"),
    ("transformers.models.bert.modeling_bert.BertModel", "warning"), ("torch.nn.modules.linear.Linear", "warning"),
    ("torch.distributed.tensor.DTensor", "warning"), ("torch_xla._utils._rebuild_xla_tensor", "warning"),
    ("numpy.random._pickle.__randomstate_ctor", "warning"), ("__main__.Config", "warning"),
])  # fmt: skip
@pytest.mark.parametrize("how", ["global", "reduce", "stack global", "inst"])
def test_what_would_act_on_the_machine_is_an_error_and_a_foreign_class_a_warning(name: str, severity: str, how: str) -> None:
    module, _, last = name.rpartition(".")
    named = f"c{module}\n{last}\n".encode()
    raw = {
        "global": b"\x80\x02" + named + b".",
        "reduce": b"\x80\x02" + named + b")R.",
        "stack global": b"\x80\x04" + b"".join(b"\x8c" + bytes([len(w)]) + w.encode() for w in (module, last)) + b"\x93)R.",
        "inst": f"(i{module}\n{last}\n.".encode(),
    }[how]
    got = load(raw)
    found = interpreter.findings(got.opaque, "x.bin", got.calls, got.refused)
    mild = how == "global" and name in ("__main__.payload", "some.module.run", "torch._C._nn.gelu")  # named and not called
    assert [f.severity for f in found] == ["warning" if mild else severity]


def test_each_distinct_global_is_reported_once() -> None:
    got = load(pickle.dumps([Evil(os.mkdir, "a"), Evil(os.mkdir, "b")], 2))
    assert got.opaque == ("posix.mkdir",)


@pytest.mark.parametrize("code", [o.code for o in pickletools.opcodes])
def test_every_opcode_of_pickletools_is_known(code: str) -> None:
    raw = code.encode("latin-1") + b"\0" * 16
    try:
        load(raw)
    except CheckpointError as e:
        assert "no opcode" not in str(e) or "byte 0" not in str(e)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "empty"),
        (b"\x80\x02", "ends"),
        (b"\x80\x02\xff.", "0xff"),
        (b"\x80\x02](K\x01K\x02u.", "keys of a list"),
        (b"\x80\x02}(K\x01u.", "without a value"),
        (b"\x80\x02}K\x01a.", "appends to a dict"),
        (b"\x80\x02h\x07.", "never stored"),
        (b"\x80\x020.", "empty stack"),
        (b"\x80\x02K\x01K\x01\x85R.", "calls a int"),
        (b"\x80\x02}]K\x01s.", "list as a key"),
        (b"\x80\x02}\x8a\x10" + b"\x01" * 16 + b"K\x01s.", "int as a key"),
        (b"\x80\x02N(.", "before it is complete"),
        (b"Iabc\n.", "number"),
        (b"\x80\x05\x96" + (3 << 30).to_bytes(8, "little") + b"x.", "3,221,225,472 bytes"),
        (b"\x80\x04\x8e" + (1 << 62).to_bytes(8, "little") + b"x.", "bytes"),
        (b"\x80\x04\x8b" + (1 << 30).to_bytes(4, "little") + b"x.", "bytes"),
        (b"\x80\x02cos\nsystem\n(X\xff\xff\x00\x00abc", "os.system"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.", "arguments"),
    ],
)  # fmt: skip
def test_a_broken_pickle_is_refused_with_a_reason(raw: bytes, says: str) -> None:
    with pytest.raises(CorruptError) as e:
        load(raw)
    assert says in str(e.value)
    assert "\n" not in str(e.value)


def test_a_protocol_of_the_future_is_unsupported() -> None:
    with pytest.raises(UnsupportedError):
        load(b"\x80\x06N.")


def test_limits_name_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreter, "_CHUNK", 64)
    monkeypatch.setattr(interpreter, "LIMITS", interpreter.LIMITS._replace(pickle_opcodes=1000))
    with pytest.raises(LimitError, match="pickle_opcodes=1,000"):
        load(b"\x80\x02" + b"N0" * 2000 + b"N.")
    monkeypatch.setattr(interpreter, "LIMITS", interpreter.LIMITS._replace(pickle_opcodes=10**6, pickle_memo=10))
    with pytest.raises(LimitError, match="pickle_memo=10"):
        load(b"\x80\x02" + b"".join(b"Nq" + bytes((k,)) + b"0" for k in range(200)) + b"N.")


def test_a_container_in_itself_survives() -> None:
    d: dict[str, object] = {"n": 1}
    d["me"] = d
    got = load(pickle.dumps(d, 2))
    assert got.value["me"] is got.value


def test_a_hash_of_a_deep_tuple_is_never_taken() -> None:
    raw = b"\x80\x02}" + b")" + b"\x85" * 200_000 + b"Ns."
    with pytest.raises(CorruptError, match="key"):
        load(raw)


def _state_dict_pickle(tensors: dict[str, object], protocol: int = 2) -> bytes:
    import zipfile

    b = io.BytesIO()
    torch.save(tensors, b, pickle_protocol=protocol)
    with zipfile.ZipFile(b) as z:
        return z.read(next(n for n in z.namelist() if n.endswith("data.pkl")))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_the_shortcut_for_tensors_changes_nothing(protocol: int) -> None:
    base = torch.zeros(70_000)
    tensors = {}
    for k in range(400):
        shape = (k % 5 + 1, 300, 2, 1, 2)[: k % 6]
        tensors[f"t{k}.é"] = torch.zeros(shape, dtype=[torch.float32, torch.bfloat16, torch.uint16][k % 3])
        tensors[f"v{k}"] = base[k : k + 66_000 : k % 4 + 1]
        tensors[f"p{k}"] = torch.nn.Parameter(torch.zeros(k + 1, 2).t())
    raw = _state_dict_pickle(tensors, protocol)
    assert len(raw) > interpreter._SHORTCUT
    fast, slow = load(raw), load(raw, shortcut=False)
    assert fast.value == slow.value
    assert fast.storages == slow.storages
    assert list(fast.value) == list(tensors)


def test_the_shortcut_is_given_up_where_a_pickle_asks_for_what_it_left_out() -> None:
    raw = _state_dict_pickle({f"t{k}": torch.zeros(k + 1, 2) for k in range(600)})
    left_out = next(i for i in range(len(raw) // 2, len(raw)) if raw[i : i + 2] == b"tr" and raw[i + 6 : i + 7] == b"Q")
    asks = raw[:-2] + b"X\x01\0\0\0zj" + raw[left_out + 2 : left_out + 6] + b"u."
    assert raw.endswith(b"u.")
    fast, slow = load(asks), load(asks, shortcut=False)
    assert fast.value == slow.value
    assert fast.value["z"][0] == "storage"


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_a_damaged_pickle_gives_a_result_or_a_checkpoint_error(data: st.DataObject) -> None:
    raw = bytearray(_SAMPLE)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(1, len(raw)))] if data.draw(st.booleans()) else raw
    try:
        load(bytes(raw))
    except CheckpointError as e:
        assert "\n" not in str(e)


_SAMPLE = _state_dict_pickle(
    {"a": torch.zeros(2, 3), "b": torch.zeros(2, 3).t(), "c": {"x": [1, 2.5, b"z", None, (1, "2")]}, "ns": argparse.Namespace(a=1)}
)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from([o.code.encode("latin-1") for o in pickletools.opcodes]) | st.binary(max_size=3), max_size=40))
def test_any_sequence_of_opcodes_gives_a_result_or_a_checkpoint_error(ops: list[bytes]) -> None:
    try:
        load(b"".join(ops) + b".")
    except CheckpointError as e:
        assert "\n" not in str(e)


def test_endless_tensors_in_one_dict_meet_the_limit_of_the_memo_before_the_memory() -> None:
    """60 MiB of rebuilt tensors without an opcode between them, which are taken together: as many at a time as torch.save writes, and
    the memo bounds them."""
    script = r"""
import resource, struct
from ckptkit.containers._pickle import interpreter
from ckptkit.errors import LimitError
put = lambda n: b"r" + struct.pack("<I", n)
text = lambda s: b"X" + struct.pack("<I", len(s)) + s
head = b"\x80\x02}q\x00(" + text(b"a") + b"q\x01ctorch._utils\n_rebuild_tensor_v2\nq\x02(("
head += text(b"storage") + b"q\x03ctorch\nFloatStorage\nq\x04" + text(b"0")
head += b"q\x05" + text(b"cpu") + b"q\x06K\x01tq\x07QK\x00K\x01\x85q\x08K\x01\x85q\t\x89ccollections\nOrderedDict\nq\n)Rq\x0btq\x0cRq\r"
data, n = bytearray(head), 300
for k in range(1, 600_000):
    data += text(b"n%d" % k) + put(n) + b"h\x02((h\x03h\x04" + text(b"%d" % k)
    data += put(n + 1) + b"h\x06K\x01t" + put(n + 2) + b"QK\x00K\x01\x85" + put(n + 3)
    data += b"K\x01\x85" + put(n + 4) + b"\x89h\n)R" + put(n + 5) + b"t" + put(n + 6) + b"R" + put(n + 7)
    n += 8
data = bytes(data + b"u.")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    interpreter.load(data)
except LimitError as e:
    assert "pickle_memo=1,000,000" in str(e), e
else:
    raise AssertionError("not refused")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 250 << 10  # KiB; 1.1 GiB when all of them were taken at once
