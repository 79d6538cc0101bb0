"""Rows in parquet files that are never loaded whole: opened and queried where they lie, through DuckDB."""

from llmlat.sources.parquet.source import Source, open_rows

__all__ = ["Source", "open_rows"]
