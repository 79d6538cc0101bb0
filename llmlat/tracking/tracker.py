"""What a tracker does, and the one that does nothing, so that call sites have no ifs."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    import pandas as pd


class Tracker(Protocol):
    """A run that is being logged; a context manager that finishes it."""

    @property
    def where(self) -> str | None:
        """The run's address, or the command that will send it; None where nothing is logged."""

    def log_request(self, request: Any, rows: "pd.DataFrame") -> None:
        """Log a few numbers of one request; called between requests, never within.

        Parameters
        ----------
        request : Request
            The request that was measured.
        rows : DataFrame
            Its token rows.
        """

    def log_provenance(self, about: Mapping[str, Any]) -> None:
        """Log what was measured, on what; stand-ins and random weights become tags.

        Parameters
        ----------
        about : mapping
            Plain values, in the words of metrics.json.
        """

    def log_result(
        self,
        metrics: Mapping[str, Any],
        rows: "pd.DataFrame",
        predictions: "pd.DataFrame",
        figures: Mapping[str, str],
        dataset: Path | None = None,
    ) -> None:
        """Log what came out: numbers, tables, figures, and the run folder's files as artifacts.

        Parameters
        ----------
        metrics : mapping
            As docs/metrics.md describes.
        rows, predictions : DataFrame
            All token rows, and the test rows with their predictions; tables of them are capped.
        figures : mapping
            SVG, by name.
        dataset : Path, optional
            The dataset's folder.
        """

    def finish(self, exit_code: int = 0) -> None:
        """End the run; a second call does nothing."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class NullTracker:
    """Logs nothing."""

    where: str | None = None

    def log_request(self, request: Any, rows: "pd.DataFrame") -> None:
        """Do nothing."""

    def log_provenance(self, about: Mapping[str, Any]) -> None:
        """Do nothing."""

    def log_result(
        self,
        metrics: Mapping[str, Any],
        rows: "pd.DataFrame",
        predictions: "pd.DataFrame",
        figures: Mapping[str, str],
        dataset: Path | None = None,
    ) -> None:
        """Do nothing."""

    def finish(self, exit_code: int = 0) -> None:
        """Do nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None
