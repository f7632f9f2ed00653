"""What TensorFlow's formats share: tables and their entries, partitions, object graphs, programs."""

MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")  # the end of every table
