"""What every container module gives and gets: `Checkpoint` for reading, `FileLayout` for writing.

A container is one module of this package whose name does not begin with an underscore. It defines

    NAME, TITLE             "safetensors", "safetensors (single file or shards)"
    SUFFIXES                what its files end in, only ever a tie-break after the bytes
    DEFAULT_FILE            "model.safetensors": the file name a conversion writes when nobody names one
    sniff(head, tail, path) whether these are its bytes: the first 512 and the last 64 of a file, its path (with GENERAL = True,
    others are asked first) find(directory, names)  what a directory listing holds of it: [(rank, path)], a smaller rank is preferred
    prefix(path)            the file to open for a `path` that is no file itself (a TF prefix), or None
    open(path)              -> Checkpoint; reads headers only, never a weight
  and, if it can be written (WRITABLE = True), with TIES saying whether it can store one tensor under two names, SINGLE
  whether a checkpoint can be one file, and STRINGS whether it holds string tensors (and ONLY naming the one
  architecture whose tensors it can hold, where it is such a format; KEEPS the beginnings of what metadata it has a place for, if any;
  CONFIGURED whether it needs the framework's own configuration of the model; PARTS the names that are no checkpoints of their own):
    layout(...)             -> FileLayout: every header byte and every tensor's offset before any weight is read
    finish(layout, crcs)    -> the Parts that depend on the content, in the order of the files
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, KeysView, Mapping, Sequence
from contextlib import ExitStack

from .. import store
from .._typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from ..errors import CheckpointError, CorruptError, UnknownNameError, one_of, printable
from ..findings import Finding
from ..limits import using
from ..support.columns import sorts
from ..tensors import Check, Extent, StoredTensor, TensorSpec, Unread, row_major_strides

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ._lazy_tensor import Tensor
    from ._pieces import Region, Replicas
    from ._tensorflow.object_graph import ObjectGraph

# metadata key under which containers without objects keep a TensorFlow object graph, packed; empty: to be made from the names
OBJECT_GRAPH = "tensorflow_object_graph"
TOTAL = "metadata.total_size"  # where the finding is of an index whose sum is not that of its tensors


class Checkpoint:
    """Tensors by name, borrowed from files that this object owns until it is closed.

    `tensors` keeps the file's order. `metadata` is text the container carries; `extras` whatever else lies beside
    the tensors (a fairseq config, a step count) as plain data; `wrapper` the key path under which a nested PyTorch
    file holds the state dict ("model"), `beside` the tensors outside it (optimizer state); `findings` what the reader noticed and did
    not refuse. Where the format itself says it, `slots` is the optimizer state (name -> the variable it is of, "" for a counter or a
    metric), `repeats` are second copies (name -> the first), `objects` is the graph of objects that the tensors hang on, and
    `aliases` gives the variables' own names besides those they are stored under; `ties` are second names of stored tensors that
    only the metadata say (name -> the stored one); `called` is the model's own name ("bert_backbone").
    `audit` looks for what takes longer than reading headers.
    """

    def __init__(
        self,
        path: str,
        container: str,
        tensors: dict[str, StoredTensor],
        *,
        files: Sequence[str],
        metadata: Mapping[str, str] | None = None,
        extras: Mapping[str, object] | None = None,
        wrapper: str = "",
        beside: frozenset[str] = frozenset(),
        findings: Iterable[Finding] = (),
        checks: Callable[[], Iterable[Check]] | None = None,
    ) -> None:
        self.path = path
        self.container = container
        self.tensors = tensors
        self.files = tuple(files)
        self.metadata: dict[str, str] = dict(metadata or {})
        self.extras: dict[str, object] = dict(extras or {})
        self.wrapper = wrapper
        self.beside = beside
        self.findings: list[Finding] = list(findings)
        self.total_size: int | None = None  # what an index of shards says that all tensors take
        self.slots: dict[str, str] = {}
        self.objects: ObjectGraph | None = None
        self.repeats: dict[str, str] = {}
        self.audit: Callable[[], Iterable[Finding]] = tuple
        self.aliases: Callable[[], dict[str, str]] = dict
        self.called = ""
        self.ties: dict[str, str] = {}
        self.disputed = ""  # why its loaders read other tensors than are read here, in words
        self.whole_folder = False  # whether a folder was named, and not a file in it
        self.copies: dict[str, tuple[StoredTensor, ...]] = {}  # tensors that lie in several shards: each of them
        self.parts: Mapping[str, str] = {}  # tensors of the other models in the file -> the model's name (a key path)
        self.chosen = ""  # the one of them that was asked for
        self.stored_as: Mapping[str, str] = {}  # of the names that then became others, the file's own
        self.unread: Mapping[str, Unread] = {}  # what stands where a tensor is due and is none that is read
        self.classes: Mapping[str, str] = {}  # tensors that have a class of their own -> its name and attributes
        self.passing: frozenset[str] = frozenset()  # buffers of a pickled module that its state_dict() leaves out
        self.special = "", ""  # what a file is that holds no model that could be loaded, and what to do
        self.settings: Mapping[str, object] | None = None  # the configuration that a pickled module carries
        self.home = ""  # where what belongs to it lies, if not beside its files: accelerate keeps these in a folder of their own
        self.ranks: Mapping[str, str] = {}  # files -> the rank of a mesh that each is of ("rank 3"), of tensors in pieces
        self.untold: Callable[[], Iterable[Finding]] = tuple  # that nothing in the files says which rank each is of
        self.mesh = ""  # what is said of the mesh that the pieces were cut for
        self.per_rank: tuple[Mapping[str, StoredTensor], ...] = ()  # what each tensor-parallel rank has, until a naming tells how it is cut
        self.replicas: list[Replicas] = []  # what several ranks have and must be equal: for `audit`
        self.limits: Mapping[str, int] = {}  # raised for this checkpoint
        self._checks = checks
        self._stack = ExitStack()
        self._blobs: dict[str, store.Blob] = {}
        self._pins = store.pin(self.files)  # which objects the headers were read of: values are read of no others
        self._closed = False

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the files back; using the checkpoint afterwards is an error."""
        self._closed = True
        self._blobs.clear()
        self._pins = ()
        self._stack.close()

    @property
    def folder(self) -> str:
        """The directory in which what belongs to the checkpoint lies: configuration, vocabulary."""
        path = store.absolute(self.home or self.path)
        return path if store.is_folder(path) else os.path.dirname(store.absolute(self.files[0]) if self.files else path)

    @property
    def specs(self) -> Collection[TensorSpec]:
        """The dtypes and shapes of the tensors, far fewer than these: each object once."""
        return [t[1] for t in sorts(self.tensors, 1)[1]]

    def blob(self, path: str) -> store.Blob:
        """One of the checkpoint's files, open (kept until close; only ever read with pread)."""
        if self._closed:
            raise CheckpointError("the checkpoint is closed", path=self.path)
        blob = self._blobs.get(path)
        if blob is None:
            blob = store.open_blob(path)
            self._stack.callback(blob.close)
            self._blobs[path] = blob
        return blob

    def checks(self) -> Iterator[Check]:
        """The checksums the container keeps of its content; reading and comparing them is the caller's."""
        yield from (self._checks() if self._checks else ())

    def read_extent(self, extent: Extent) -> bytes:
        """The bytes of one extent; CorruptError if the file ends before it does."""
        data = self.blob(extent.path).pread(extent.length, extent.offset)
        while len(data) < extent.length:
            more = self.blob(extent.path).pread(extent.length - len(data), extent.offset + len(data))
            if not more:
                raise CorruptError(f"ends at byte {extent.offset + len(data)}, {extent.length - len(data)} short", path=extent.path)
            data += more
        return data

    def __getitem__(self, name: str) -> Tensor:
        """The tensor of a stored name, which is read when its values are asked for. Raises UnknownNameError, a KeyError."""
        from ._lazy_tensor import Tensor

        self._known(name)
        return Tensor(self, name)

    def _known(self, name: str) -> StoredTensor:
        found = self.tensors.get(name)
        if found is None:
            raise UnknownNameError(f"no tensor is called {name!r}", path=self.path, hint=one_of(name, self.tensors, most=8))
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def __bool__(self) -> bool:
        return True  # also one without tensors is a checkpoint

    def __contains__(self, name: object) -> bool:
        return name in self.tensors

    def keys(self) -> KeysView[str]:
        """The stored names, in the file's order."""
        return self.tensors.keys()

    def values(self) -> Iterator[Tensor]:
        """The tensors, each read when its values are asked for."""
        return (self[n] for n in self.tensors)

    def items(self) -> Iterator[tuple[str, Tensor]]:
        """(stored name, tensor) of each."""
        return ((n, self[n]) for n in self.tensors)

    def get(self, name: str, default: Any = None) -> Any:
        """The tensor of a stored name, or `default`."""
        return self[name] if name in self.tensors else default

    def _ipython_key_completions_(self) -> list[str]:
        return list(self.tensors)

    def __dir__(self) -> list[str]:
        return [n for n in object.__dir__(self) if n.startswith("__") or n in _PUBLIC]

    def __repr__(self) -> str:
        size = sum(t.spec.nbytes for t in self.tensors.values())
        state = ", closed" if self._closed else ""
        return f"<Checkpoint {printable(self.path)}: {self.container}, {len(self.tensors):,} tensors, {size:,} bytes{state}>"

    def _repr_html_(self) -> str:
        from ..support.shown import table_html

        specs = [(printable(name), t.spec) for name, t in list(self.tensors.items())[:20]]
        more = len(self.tensors) - len(specs)
        rows = [(name, spec.dtype, str(list(spec.shape)), f"{spec.nbytes:,}") for name, spec in specs]
        return table_html(repr(self), ("tensor", "dtype", "shape", "bytes"), rows, f"and {more:,} more" if more else "")

    def __getstate__(self) -> dict[str, Any]:
        """What headers say: an unpickled checkpoint is a closed one."""
        kept = {n: t._replace(read=None) if t.read is not None else t for n, t in self.tensors.items()}
        return {
            **self.__dict__, "tensors": kept, "audit": tuple, "aliases": dict, "_checks": None, "_stack": None, "_blobs": {}, "_pins": (),
            "_closed": True, "replicas": [], "per_rank": (),
        }  # fmt: skip

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _stack=ExitStack())

    def strings(self, name: str) -> list[bytes]:
        """The elements of a STRING tensor, row-major."""
        t = self._known(name)
        with using(**self.limits):
            got = t.read() if t.read is not None and not self._closed else None
        if not isinstance(got, list):
            raise CheckpointError(f"{name!r} is not a string tensor", path=self.path)
        return got

    def join(self, name: str, spec: TensorSpec, held: Sequence[tuple[StoredTensor, Region, Region]]) -> int:
        """Make the tensor of the regions that ranks have of it: (a rank's tensor, where in it, where in the whole). How many elements none
        has: where there are any, there is no such tensor. Raises CorruptError."""
        from ._pieces import shared

        found = shared(name, spec, held, self.path)
        self.replicas += found.replicas
        self.tensors.pop(name, None)
        if found.tensor is not None:
            self.tensors[name] = found.tensor
        return found.missing

    def compare_replicas(self) -> Iterator[Finding]:
        """An error for each tensor that ranks keep differently. Reads them."""
        from ._pieces import compare

        yield from compare(self, self.replicas, lambda path: self.ranks.get(path) or os.path.basename(path))

    def array(self, name: str) -> NDArray[np.generic]:
        """One tensor as a new row-major numpy array (bfloat16 and float8 as ml_dtypes types). Imports numpy.

        Raises UnsupportedError for sub-byte dtypes, CorruptError when the file is shorter than it says.
        """
        from ..support.arrays import from_bytes, numpy_dtype

        t = self._known(name)
        try:
            dtype = numpy_dtype(t.spec.dtype)
        except CheckpointError as e:
            raise type(e)(f"{name!r}: {e.message}", path=self.path, hint=e.hint) from None
        if t.read is not None:
            with using(**self.limits):
                raw = t.read()
            assert isinstance(raw, bytes), name
        elif t.boxes:
            return self._joined(t, dtype)
        else:
            raw = b"".join(self.read_extent(e) for e in t.extents)
        if t.strides is None:
            try:
                return from_bytes(raw, t.spec)
            except CheckpointError as e:
                raise type(e)(f"{name!r}: {e.message}", path=self.path, hint=e.hint) from None
        import numpy as np

        view: NDArray[np.generic] = np.ndarray(t.spec.shape, dtype, raw, 0, tuple(s * dtype.itemsize for s in t.strides))
        return np.ascontiguousarray(view)

    def _joined(self, t: StoredTensor, dtype: Any) -> NDArray[np.generic]:
        """A tensor in pieces, each put where it belongs."""
        import numpy as np

        out: NDArray[np.generic] = np.empty(t.spec.shape, dtype)
        for box in t.boxes:
            strides = tuple(s * dtype.itemsize for s in box.strides or row_major_strides(box.shape))
            part = tuple(slice(o, o + n) for o, n in zip(box.offset, box.shape, strict=True))
            out[part] = np.ndarray(box.shape, dtype, self.read_extent(box.extent), 0, strides)
        return out


Mapping.register(Checkpoint)
_PUBLIC = frozenset((
    "aliases", "array", "called", "close", "container", "extras", "files", "findings", "folder", "get", "items", "keys", "metadata", "path",
    "tensors", "ties", "values", "wrapper",
))  # fmt: skip


class Packed:
    """What `StoredTensor.read` is where many bytes have to be unpacked: called it gives them all, `pieces` one run after another.

    `total` says that any bytes unpack, so that unpacking shows no damage.
    """

    __slots__ = ("pieces", "total")

    def __init__(self, pieces: Callable[[], Iterator[bytes]], total: bool = False) -> None:
        self.pieces, self.total = pieces, total

    def __call__(self) -> bytes:
        return b"".join(self.pieces())

    def up_to(self, size: int) -> Packed:
        """The same without what follows the first `size` bytes."""

        def pieces() -> Iterator[bytes]:
            left = size
            for piece in self.pieces():
                if left <= 0:
                    return
                yield piece[:left]
                left -= len(piece)

        return Packed(pieces)


class Place(NamedTuple):
    """A checkpoint of a folder or below it: what is to be named to read it. `what` says it of one that is not read."""

    path: str
    what: str = ""


class Part(NamedTuple):
    """Bytes that belong at an offset of an output file (its index in FileLayout.files). Of what `finish` makes, `needs` are the tensors
    whose checksums are in it: where it lies and how long it is depends on none."""

    file: int
    offset: int
    data: bytes
    needs: frozenset[str] = frozenset()


class Slot(NamedTuple):
    """Where the engine puts a tensor's row-major bytes."""

    file: int
    offset: int
    length: int


class FileLayout(NamedTuple):
    """A checkpoint to be written, all of it but the weights. Plain data: it goes into a Plan."""

    container: str
    files: tuple[tuple[str, int], ...]  # (name, size), in the order of commit; size -1: known at finish
    slots: Mapping[str, Slot]  # tensors with bytes of their own; a tied name has none
    parts: tuple[Part, ...]  # headers, known now
    checksum: str | None = None  # what finish() must be told of every slot: crc32 | crc32c
    state: dict[str, object] = {}  # noqa: RUF012  what finish() needs besides; JSON-able
    split: dict[str, tuple[Slot, ...]] = {}  # noqa: RUF012  tensors whose bytes lie in several places, in order (without a checksum)


class Ranked(NamedTuple):
    """Whose a tensor is: the number of the tensor-parallel rank and of the pipeline's stage, and what it is called there."""

    rank: int
    stage: int
    name: str


class Inside(NamedTuple):
    """What goes into the files of a checkpoint besides the bytes of its tensors. A container leaves out what it has no place for."""

    metadata: Mapping[str, str] = {}
    extras: Mapping[str, object] = {}
    wrapper: str = ""  # the key that the tensors lie under
    strings: Mapping[str, Sequence[bytes]] = {}  # the content of tensors of text
    state: frozenset[str] = frozenset()  # the tensors that are an optimizer's or a trainer's
    ranks: Mapping[str, Ranked] = {}  # whose each tensor is, where they are cut up for ranks


NOTHING = Inside()


FOLDERS = "/"  # among MARKS: any folder within a folder


class Container(Protocol):
    """The shape of a container module.

    `MARKS`, where a module has them (else its SUFFIXES are): what the names of a folder have within them where `find` can find something,
    with a line end for the beginning and the end of a name.
    """

    NAME: str
    TITLE: str
    SUFFIXES: tuple[str, ...]
    DEFAULT_FILE: str
    WRITABLE: bool
    TIES: bool
    SINGLE: bool
    STRINGS: bool

    def sniff(self, head: bytes, tail: bytes, path: str) -> bool: ...

    def find(self, directory: str, names: Sequence[str]) -> list[tuple[int, str]]: ...

    def prefix(self, path: str) -> str | None: ...

    def open(self, path: str) -> Checkpoint: ...

    def layout(
        self,
        tensors: Sequence[tuple[str, TensorSpec]],
        *,
        filename: str,
        ties: Mapping[str, str] = ...,
        inside: Inside = NOTHING,
        max_shard_size: int | None = None,
    ) -> FileLayout: ...

    def finish(self, layout: FileLayout, crcs: Mapping[str, int]) -> Iterable[Part]:
        """What depends on content, given the checksum of every tensor's bytes; each part says whose it `needs`."""
        ...


def drop_explained(checkpoint: Checkpoint, repeated: Sequence[str]) -> None:
    """Take back the finding of a total_size that counts some of the `repeated` tensors (known to be others again) once: so transformers
    counts a tied tensor, though each shard that needs it holds a copy of its own."""
    if checkpoint.total_size is None or not any(f.where == TOTAL for f in checkpoint.findings):
        return
    left = {sum(t.spec.nbytes for t in checkpoint.tensors.values()) - checkpoint.total_size}
    for name in repeated[:16]:
        left |= {n - checkpoint.tensors[name].spec.nbytes for n in left}
    if 0 in left:
        checkpoint.findings = [f for f in checkpoint.findings if f.where != TOTAL]
