"""Writing frames and tables as parquet, whole or not at all."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from llmlat.files import write_atomically


def write_frame(path: Path, frame: pd.DataFrame) -> None:
    """Write a frame as parquet, atomically."""
    write_table(path, pa.Table.from_pandas(frame, preserve_index=False))


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table as parquet, atomically."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    write_atomically(path, bytes(sink.getvalue()))
