"""What a name in a file would do if its own library imported and called it: names of Python's standard library act on the machine.

Policy: not a list of what is dangerous, which is never complete. All of the standard library counts, but for the classes below that only
hold data; wherever a module of it stands in a dotted name (`torch.serialization.os.system`), too. Of other libraries: what loads, fetches,
builds or runs something (a list, since most of what they name builds a model), and any function that a pickle calls which is not known
to put a tensor or an array together. Nothing of it is ever run here: this only says how grave a finding is.
"""

from __future__ import annotations

import sys

# classes of the standard library that hold data, and functions that pickles call to make them
_DATA = frozenset((
    "argparse.Namespace", "types.SimpleNamespace", "types.MappingProxyType", "collections.defaultdict", "collections.deque",
    "collections.OrderedDict", "collections.Counter", "collections.ChainMap", "collections.UserDict", "collections.UserList",
    "datetime.date", "datetime.datetime", "datetime.time", "datetime.timedelta", "datetime.timezone", "decimal.Decimal",
    "_decimal.Decimal", "fractions.Fraction", "uuid.UUID", "uuid.SafeUUID", "pathlib.Path", "pathlib.PurePath", "pathlib.PosixPath",
    "pathlib.PurePosixPath", "pathlib.WindowsPath", "pathlib.PureWindowsPath", "pathlib._local.PosixPath", "pathlib._local.WindowsPath",
    "pathlib._local.Path", "pathlib._local.PurePosixPath", "array.array", "array._array_reconstructor", "enum.Enum", "enum.IntEnum",
    "enum.Flag", "enum.auto", "re._compile", "time.struct_time", "random.Random", "string.Template", "_codecs.encode",
    "copyreg._reconstructor", "copyreg.__newobj__", "functools.partial", "functools.partialmethod", "logging.Logger", "logging.getLogger",
    "logging.RootLogger", "typing.Any", "typing.Union", "typing.Optional", "zoneinfo.ZoneInfo._unpickle", "ipaddress.IPv4Address",
    "ipaddress.IPv6Address", "abc.ABC", "abc.ABCMeta", "threading.Lock", "_thread.lock", "dataclasses.Field", "weakref.ref",
    *(f"builtins.{n}" for n in (
        "object", "complex", "slice", "range", "int", "float", "str", "bool", "bytes", "bytearray", "list", "tuple", "dict", "set",
        "frozenset", "type", "Ellipsis", "NotImplemented", "property", "Exception", "ValueError", "RuntimeError", "KeyError", "print",
        "len", "max", "min", "sum", "abs", "round", "sorted", "reversed", "zip", "enumerate", "any", "all", "ord", "chr", "hash", "id",
        "__tuple__",
    )),
))  # fmt: skip
# modules that some version of Python had and this one may not have
_FORMER = frozenset((
    "__builtin__", "commands", "popen2", "os2", "posixfile", "imp", "distutils", "lib2to3", "asyncore", "asynchat", "smtpd", "telnetlib",
    "pipes", "crypt", "nis", "cgi", "cgitb", "urllib2", "httplib", "cPickle", "ftplib", "nntplib", "imghdr", "sndhdr", "msilib", "test",
    "uu", "xdrlib", "aifc", "audioop", "chunk", "ossaudiodev", "spwd", "sunau", "mailcap", "execfile", "thread", "copy_reg",
))  # fmt: skip
# those through which another library's name leads back to them
_WAYS = frozenset((
    "os", "sys", "posix", "nt", "subprocess", "builtins", "__builtins__", "importlib", "runpy", "ctypes", "shutil", "socket", "pickle",
    "marshal", "pty", "__globals__", "__import__", "__subclasses__", "__loader__", "__spec__", "__reduce__",
))  # fmt: skip
_LOADERS = (
    "torch.load", "torch.save", "torch.serialization.", "torch.storage._load_from_bytes", "torch.hub.", "torch.jit.", "torch.package.",
    "torch.utils.cpp_extension.", "torch.utils.model_zoo.", "torch.utils.collect_env.", "torch.utils.data.datapipes.", "torch._C.",
    "torch.ops.load_library", "torch.classes.load_library", "torch._ops.", "torch.fx.graph_module.", "torch.fx.experimental.",
    "torch._dynamo.", "torch._inductor.", "torch.multiprocessing.", "torch.distributed.launch", "torch.distributed.run",
    "torch.distributed.elastic.", "torch.distributed.rpc.", "torch.onnx.", "torch.export.", "torch.compile", "torch.testing.",
    "numpy.load", "numpy.fromfile", "numpy.memmap", "numpy.loadtxt", "numpy.genfromtxt", "numpy.save", "numpy.savez", "numpy.lib.",
    "numpy.testing.", "numpy.f2py.", "numpy.distutils.", "numpy.ctypeslib.", "numpy._core.memmap", "numpy.core.memmap", "pandas.read_",
    "pandas.io.", "pandas.eval", "pandas.core.computation.", "joblib.load", "joblib.numpy_pickle.load", "joblib.parallel.", "dill.",
    "cloudpickle.", "pip.", "pip._internal.", "setuptools.", "pkg_resources.", "requests.", "urllib3.", "httpx.", "aiohttp.", "paramiko.",
    "IPython.", "sympy.", "yaml.", "jinja2.", "tensorflow.io.", "tensorflow.load_library", "tensorflow.load_op_library", "fsspec.",
    "tensorflow.python.lib.io.", "tensorflow.saved_model.", "huggingface_hub.", "transformers.dynamic_module_utils.", "getattr.",
)  # fmt: skip
# where torch's bindings keep the functions that compute: a module names its activation so
_COMPUTES = tuple(f"torch._C.{n}." for n in ("_nn", "_special", "_linalg", "_fft", "_sparse", "_nested", "_VariableFunctions"))
# Python's own arithmetic, which a module names as what joins two tensors
_ARITHMETIC = frozenset(
    f"{module}.{n}"
    for module, names in (
        ("_operator", "add sub mul truediv floordiv matmul mod neg pos abs pow eq ne lt le gt ge and_ or_ xor not_ iadd imul isub"),
        ("math", "sqrt exp log log2 log10 tanh sin cos erf ceil floor fabs pow prod"),
    )
    for n in names.split()
)
_RANDOM = "torch._C.Generator"  # a random state
# functions that open a file, wherever they stand
_FILES = frozenset(("from_file", "fromfile", "tofile"))
# how functions begin that put a tensor or an array together
_BUILDERS = ("rebuild", "reconstruct", "unpickle", "mareconstruct", "from_", "randomstate_ctor", "generator_ctor", "bit_generator_ctor")


def acts(name: str, *, called: bool = False) -> bool:
    """Whether the dotted `name` is one that acts on the machine when it is called; `called`: the file would call it."""
    root, *rest = name.split(".")
    if name in _DATA or (name in _ARITHMETIC and not called) or name == _RANDOM:
        return False
    if root in sys.stdlib_module_names or root in _FORMER:
        return True
    if not _WAYS.isdisjoint(rest) or not _FILES.isdisjoint(rest):
        return True
    if not name.startswith(_COMPUTES) and (name + ".").startswith(tuple(n if n[-1] in "._" else n + "." for n in _LOADERS)):
        return True
    last = rest[-1].lstrip("_") if rest else ""
    if not called or not last[:1].islower() or root in ("numpy", "ml_dtypes"):
        return False
    return not last.startswith(_BUILDERS)
