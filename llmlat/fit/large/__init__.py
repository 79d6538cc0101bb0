"""Large data: rows in parquet files are fitted and tested where they lie, and never loaded whole.

Ridge needs only sums over the rows, which DuckDB adds up: it is exact. Any other regressor is
fitted on whole requests drawn at random, and says so. Test rows are predicted in batches.
"""

from llmlat.fit.large.fit import LargeFit, Settings, fit_large
from llmlat.fit.large.source import Source

__all__ = ["LargeFit", "Settings", "Source", "fit_large"]
