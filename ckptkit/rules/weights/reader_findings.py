"""Rules whose findings are made elsewhere: by the readers of the formats, and by the sources of a configuration."""

from __future__ import annotations

from .._base import noticed

noticed("checksum", "error", "The bytes have the checksums that the file keeps", """
    A zip's CRC32, a TensorFlow bundle's and table's crc32c, held against every byte. An error is damage: a cut or altered
    download, a failing disk. As an information: the file was saved without checksums, so that damage to it cannot be noticed (arrays of
    zarr, whose chunks have none unless a codec adds one).""",
    reads="weights")  # fmt: skip
noticed("shards", "error", "The index and the shards agree", """
    A tensor that the index names and no shard holds is lost, one that lies in another shard or in two is read by different
    loaders differently: errors. So is a part that lies there and that the index leaves out (it is read), an index that names other
    files than the parts that lie there, or that is not there. A tensor or a file that the index does not list, an index or old shards
    beside a whole file (which transformers reads), a key that stands twice, a `total_size` that no way of counting gives (tied tensors
    once, or once for each name): warnings.""")  # fmt: skip
noticed("pieces", "error", "The pieces of a tensor are all there, and agree", """
    A tensor that a format keeps in pieces (a mesh, files of tensor-parallel ranks, flat partitions): what no
    piece has is a hole, and where two ranks keep the same elements they must be the same. Either names the tensor and the rank: a file is
    gone, or is of another step. So is a rank's file in another's place, as far as it says whose it is (the name it was saved under, what it
    lists as its own, its rank in the run, its random seeds, where the padding lies).""", reads="weights")  # fmt: skip
noticed("ranks", "info", "What the files of ranks do not tell", """
    Where nothing in a rank's file says whose it is or of which step (no name that it was saved under, no count of an optimizer's, items of
    the same sizes as another's), two that were exchanged, or one of another step, could not be noticed. A rank's file that is a link out of
    the run's folder is said to be one.""", reads="weights")  # fmt: skip
noticed("padding", "info", "Padded rows are left out", """
    A training library pads the vocabulary to a multiple that its ranks can share. Where the configuration says how many rows are true, the
    others are no part of the model.""")  # fmt: skip
noticed("folder", "info", "Other checkpoints of the folder are named", """
    A folder is read as one checkpoint, the one that its loader takes. The others that lie there are not looked at: the same model in
    other formats, a second model (`pytorch_model_1.bin`), earlier saves. `ckptkit validate --recursive` checks them all.""")  # fmt: skip
noticed("pickle", "error", "The pickle names only what builds tensors", """
    A PyTorch file is a program. ckptkit reads it without running any of it; whatever it names besides storages and tensors is
    listed here, since `torch.load` without `weights_only` would import and call it. An error is what acts on the machine that loads
    it: functions of Python's standard library and of what loads, fetches or runs something. A warning is a class of another library,
    and data (numpy's numbers and arrays) for which `torch.load` refuses the file as it stands.""")  # fmt: skip
noticed("program", "warning", "The program touches no files", """
    A SavedModel is a program besides its weights. ckptkit runs none of it; operations that read, write, list or send files
    whatever the program is given (ReadFile, WriteFile, PrintV2, readers, dataset savers, Python functions) are named here. A TorchScript
    archive is said to be one, as an information; a frozen one has lost the names of its parameters, which is a warning.""")  # fmt: skip
noticed("names", "warning", "Tensor names are unique", """
    Two tensors have one name; the second is listed with #2 after it. In a flax file: a key that stands twice, of which the last
    one counts.""")  # fmt: skip
noticed("expand", "warning", "Tensors are not expanded views", """
    A tensor of stride 0 takes the space of one element and becomes its full size when it is written in another form.""")  # fmt: skip
noticed("extras", "warning", "What lies beside the tensors can be kept", """
    Something beside the tensors (an object of a class of one's own) is not plain data and goes into no other form. As an
    information: further files in a .keras archive.""")  # fmt: skip
noticed("device", "info", "The device that the tensors were saved from", "The bytes are the same on every device.")
noticed("version", "error", "The format's version is known", """
    A newer one may mean something else by the same bytes; and a PyTorch zip whose records of version or alignment lack or are no
    numbers is refused by torch.load.""")  # fmt: skip
noticed("trailing", "error", "Nothing follows the data", """
    Bytes after the end of the last storage, or of a pickle, belong to no tensor. An error where torch.load refuses the file
    for them: a record of a PyTorch zip that is longer than its storage.""")  # fmt: skip
noticed("hdf5", "error", "Everything in the HDF5 file is there, and read as it stands", """
    A weight that Keras' own lists (layer_names, weight_names) name and the file does not hold is an error. Warnings: a link
    that leads nowhere, out of the file or to what is listed elsewhere; a dataset or chunks that were laid out and never
    written, so that their elements are the fill value; bytes after the end of the data. As an information: text, and what is no
    dataset.""")  # fmt: skip
noticed("keras-config", "error", "A Keras configuration names only what Keras itself has", """
    A model's configuration, in a .keras archive or a whole-model .h5, is a program for Keras' loader: a Lambda layer's code, a
    function of any module, a class from outside Keras, a pickled PyTorch module are what it would import, build or call.
    ckptkit reads it as data and loads none of it. Functions of Python's standard library and what has Keras read, fetch or load a file
    (a vocabulary that is a path, get_file, TFSMLayer) are errors, the rest warnings. So too: keys that stand twice, what is
    no JSON, and an archive without config.json or metadata.json, which Keras does not load.""")  # fmt: skip
noticed(
    "records",
    "warning",
    "A PyTorch zip holds nothing else",
    "A record that torch.save does not write: nothing reads it, and it may be anything.",
)
noticed("overlap", "warning", "Tensors do not share bytes", """
    Two entries of a TensorFlow index lie over each other; TensorFlow never writes that.""")  # fmt: skip
noticed("unused-bytes", "error", "Every byte belongs to a tensor", """
    Some bytes of a data file belong to none. In a GGUF file bytes between tensors are an error, for which llama.cpp refuses it (a tensor
    with the type or the shape of another leaves some), and those behind the last one a warning. An information elsewhere.""")  # fmt: skip
noticed("data-file", "warning", "The data files that the index counts are there", "One is missing; no tensor is in it.")
noticed("slice", "warning", "Every slice belongs to a variable", "The entry of a partitioned variable's slice, without the variable.")
noticed("header", "info", "The header has only known fields", "Further fields of a safetensors entry are ignored.")
noticed("unreadable", "error", "The checkpoint can be read", """
    No such file, a format that nobody knows, or bytes that break their own format's rules. The exit status is 2.""")  # fmt: skip
noticed("lock", "error", "The checkpoint is the one that was locked", """
    `ckptkit lock` wrote down what a checkpoint is; `validate --lock` says what has changed since. Weights that are the same in
    another container, dialect or sharding are "converted, same weights" (an information); changed, added and missing parameters
    are errors with their names, and so is another value in the configuration, in whatever form it is said; a file that differs
    though the weights are the same is an information.""", reads="weights")  # fmt: skip
noticed("digest", "error", "The weights have the digest that is expected", """
    The canonical digest that the policy names, against the checkpoint's own. It does not depend on container, dialect, sharding
    or order.""", reads="weights")  # fmt: skip
noticed("head", "warning", "Every part that the configuration speaks of is there", """
    The configuration names a class with a head (BertForMaskedLM) of which the weights hold nothing: its loader makes one at
    random. An information: the same of a pooler, a number of layers for a part of the model that the weights do not hold and
    need not (a decoder where only the encoder was saved), and, after a conversion, a head that the class named in the new
    configuration has or lacks.""")  # fmt: skip
noticed("sparse", "error", "Sparse tensors have their indices inside their shape", """
    A sparse tensor of a PyTorch file with an index beyond its shape, or with compressed indices that do not count its elements: what
    uses it reads memory that is not its own.""", reads="weights")  # fmt: skip
noticed("order", "warning", "Tensors without names are as many as their order needs", """
    OpenAI's GPT folder has no names: the order gives them, and their number is not that of any number of layers.""")  # fmt: skip
noticed(
    "arrays", "info", "A folder has as many array files as its original code reads", "More or fewer hold the same once they are joined."
)
