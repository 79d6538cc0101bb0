"""The one place that knows the order: plan, measure, fit, test, report, track."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from llmlat import report, tracking
from llmlat.config import Config, Flagged, config_dir
from llmlat.dataset import Dataset, key_of, write_frame, write_json
from llmlat.errors import ConfigError
from llmlat.predict.export import write_predictor
from llmlat.predict.fit import build_pipeline
from llmlat.predict.results import Analysis, analyse
from llmlat.predict.split import check_split, count_test_units
from llmlat.provenance import describe, describe_identity
from llmlat.steps import one_row_a_step

log = logging.getLogger(__name__)

# The engine whose measurement, set beside, tells what the key-value cache does.
CONTRAST = {"eager": "no_cache", "no_cache": "eager"}


def run(
    config: Config, resolved: dict[str, Any], folder: Path, *, is_summarised: bool = True
) -> dict[str, Any]:
    """Run one experiment, and leave its run folder.

    Parameters
    ----------
    config : Config
    resolved : dict
        The same configuration as plain values, for provenance and tracking.
    folder : Path
        The run folder.
    is_summarised : bool
        Whether the summary is printed; a sweep has a line a job instead.

    Returns
    -------
    dict
        The metrics, as docs/metrics.md describes them.

    Raises
    ------
    LlmlatError
        Where a setting, the model, the measurement or the dataset is at fault.
    """
    _check(config)
    # Before measuring: a misspelt hyperparameter or too few rows must not cost an hour of GPU time.
    unfitted = build_pipeline(config.regressor, config.features)
    measure = _plan_measuring(config, resolved, folder)
    with tracking.start(config.tracking, resolved, folder) as tracker:
        dataset = measure(tracker)
        rows = dataset.read()
        steps = one_row_a_step(rows)
        about = describe(dataset, config.name)
        tracker.log_provenance(about)
        analysis = analyse(
            steps,
            unfitted,
            config.split,
            about,
            config.reference,
            read_contrast(dataset) if config.reference else None,
            excludes_flagged=config.collect.flagged is Flagged.exclude,
        )
        figures = write_results(folder, dataset, len(rows), steps, analysis)
        if is_summarised:
            report.print_summary(analysis.metrics, folder)
        tracker.log_result(analysis.metrics, rows, analysis.predictions, figures, dataset.folder)
    log.info(f"Run folder  {folder}", extra={"is_routine": True})
    log.info(f"Report      {folder / 'report.html'}", extra={"is_routine": True})
    return analysis.metrics


def _check(config: Config) -> None:
    if config.reference not in {None, "thesis"}:
        raise ConfigError(f"reference={config.reference}: use thesis, or null for none.")
    if config.seed < 0:
        raise ConfigError(f"seed={config.seed}: use a whole number, 0 or above.")
    check_split(config.split)


def _plan_measuring(
    config: Config, resolved: dict[str, Any], folder: Path
) -> Callable[[tracking.Tracker], Dataset]:
    """Find out what is wrong before anything is tracked or loaded; return what leads to the dataset."""
    if config.dataset is not None:
        named = Dataset(Path(config.dataset).resolve())
        return lambda tracker: named
    from llmlat.measure.ways import plan_measuring

    plan, measure = plan_measuring(config, resolved, folder)
    count_test_units(plan.n_steps, len(plan.requests), config.split)

    def measured(tracker: tracking.Tracker) -> Dataset:
        # Before measuring too: a run that is killed must not be taken for the real thing.
        tracker.log_provenance(describe_identity(plan.identity, config.name))
        return measure(tracker.log_request)

    return measured


def read_contrast(dataset: Dataset) -> pd.DataFrame | None:
    """Return the rows of the same measurement with the other engine, if it has been made."""
    identity = dataset.provenance["identity"]
    other = CONTRAST.get(identity["engine"]["name"])
    if other is None:
        return None
    engine = OmegaConf.to_container(OmegaConf.load(config_dir() / "engine" / f"{other}.yaml"))
    sibling = Dataset(dataset.folder.parent / key_of({**identity, "engine": engine}))
    is_there = sibling.folder.is_dir() and sibling.is_complete
    return one_row_a_step(sibling.read()) if is_there else None


def write_results(
    folder: Path, dataset: Dataset, n_rows: int, steps: pd.DataFrame, analysis: Analysis
) -> dict[str, Any]:
    """Write everything a run folder holds, and return the figures."""
    described = {
        "key": dataset.key,
        "path": str(dataset.rows_dir.resolve()),
        "n_rows": n_rows,
        "provenance": dataset.provenance,
    }
    write_json(folder / "dataset.json", described)
    write_frame(folder / "predictions.parquet", analysis.predictions)
    write_predictor(folder, analysis)
    write_json(folder / "metrics.json", analysis.metrics)
    return report.write(folder, analysis.metrics, steps, analysis.predictions)
