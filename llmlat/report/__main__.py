"""Makes reports of what is on disk: `python -m llmlat.report FOLDER`, a sweep's or a run's.

A sweep's folder gets sweep.html, sweep.csv and sweep.parquet; a run's folder its report and figures again.
Only files are read: nothing is measured, fitted or loaded onto a device.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from llmlat import report
from llmlat.errors import DatasetError, LlmlatError, one_line
from llmlat.files import read_object
from llmlat.sources.again import reopened
from llmlat.sweep import summarise, terminal_lines


def report_folder(folder: Path) -> list[str]:
    """Make the report of a sweep's or a run's folder, and return the lines to show.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    DatasetError
        Where the folder is missing, holds neither jobs nor a result, or what it holds is unreadable.
    """
    if (folder / "metrics.json").is_file():
        return [f"Report      {rebuild(folder)}"]
    if (folder / ".hydra").is_dir():
        raise DatasetError(
            f"{folder}: a run without a result (metrics.json), so nothing to report; run again."
        )
    return terminal_lines(summarise(folder))


def rebuild(folder: Path) -> Path:
    """Write a run's report.html, report.md and figures again, from its results and its dataset's rows.

    Raises
    ------
    DatasetError
        Where one of its files, or its dataset, is missing or unreadable.
    """
    metrics, described = _json(folder / "metrics.json"), _json(folder / "dataset.json")
    try:
        predictions = pd.read_parquet(folder / "predictions.parquet")
        report.write(folder, metrics, reopened(described).steps, predictions)
    except (OSError, ValueError, KeyError) as error:
        raise DatasetError(
            f"{folder}: its report cannot be made ({type(error).__name__}: {one_line(error)}); run again."
        ) from error
    return folder / "report.html"


def _json(path: Path) -> dict[str, Any]:
    try:
        return read_object(path)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: missing or unreadable ({one_line(error)}); run again.") from error


def main() -> None:
    """Run the command line; exits with 2 where there is nothing to report."""
    parser = argparse.ArgumentParser(
        prog="python -m llmlat.report", description="Make the report of a sweep's or a run's folder."
    )
    parser.add_argument(
        "folder", type=Path, help="such as multirun_sweeps/<experiment>/<time> or outputs/<experiment>/<time>"
    )
    try:
        for line in report_folder(parser.parse_args().folder):
            print(line)
    except LlmlatError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
