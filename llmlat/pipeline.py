"""The one place that knows the order: plan, measure, fit, test, report, track."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

import llmlat
from llmlat import report, tracking
from llmlat.config import Config, config_dir
from llmlat.dataset import Dataset, key_of, write_frame, write_json
from llmlat.errors import ConfigError
from llmlat.predict.export import write_predictor
from llmlat.predict.fit import build_pipeline
from llmlat.predict.results import Analysis, analyse
from llmlat.predict.split import check_split, count_test_units

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
        about = describe(dataset, config.name)
        tracker.log_provenance(about)
        contrast = read_contrast(dataset) if config.reference else None
        analysis = analyse(rows, unfitted, config.split, about, config.reference, contrast)
        figures = write_results(folder, dataset, rows, analysis)
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
    from llmlat.measure.plan import make_plan
    from llmlat.measure.session import measure

    plan = make_plan(config)
    count_test_units(plan.n_steps, len(plan.requests), config.split)

    def measured(tracker: tracking.Tracker) -> Dataset:
        # Before measuring too: a run that is killed must not be taken for the real thing.
        tracker.log_provenance(describe_identity(plan.identity, config.name))
        return measure(config, plan, resolved, tracker.log_request, folder)

    return measured


def describe(dataset: Dataset, experiment: str) -> dict[str, Any]:
    """Return what a dataset measured, in the words of metrics.json."""
    provenance = dataset.provenance
    notices = list(provenance["sessions"][-1]["notices"]) if provenance["sessions"] else []
    if not dataset.is_complete:
        notices.append(
            f"INCOMPLETE: {len(dataset.completed_requests())} of {provenance['n_requests']} requests were "
            "measured."
        )
    return {
        **describe_identity(provenance["identity"], experiment),
        "dataset_key": dataset.key,
        "notices": notices,
    }


def describe_identity(identity: Mapping[str, Any], experiment: str) -> dict[str, Any]:
    """Return what a dataset's identity says, in the words of metrics.json."""
    return {
        "llmlat_version": llmlat.__version__,
        "experiment": experiment,
        "model": identity["model"],
        "weights": identity["weights"],
        "stand_in": identity["stand_in_for"] is not None,
        "stand_in_for": identity["stand_in_for"],
        "quantization": identity["quantization"],
        "engine": identity["engine"]["name"],
        "prompt_set": identity["prompt_set"],
        "device": identity["hardware"]["name"],
        "versions": identity["versions"],
    }


def read_contrast(dataset: Dataset) -> pd.DataFrame | None:
    """Return the rows of the same measurement with the other engine, if it has been made."""
    identity = dataset.provenance["identity"]
    other = CONTRAST.get(identity["engine"]["name"])
    if other is None:
        return None
    engine = OmegaConf.to_container(OmegaConf.load(config_dir() / "engine" / f"{other}.yaml"))
    sibling = Dataset(dataset.folder.parent / key_of({**identity, "engine": engine}))
    return sibling.read() if sibling.folder.is_dir() and sibling.is_complete else None


def write_results(folder: Path, dataset: Dataset, rows: pd.DataFrame, analysis: Analysis) -> dict[str, Any]:
    """Write everything a run folder holds, and return the figures."""
    described = {
        "key": dataset.key,
        "path": str(dataset.rows_dir.resolve()),
        "n_rows": len(rows),
        "provenance": dataset.provenance,
    }
    write_json(folder / "dataset.json", described)
    write_frame(folder / "predictions.parquet", analysis.predictions)
    write_predictor(folder, analysis)
    write_json(folder / "metrics.json", analysis.metrics)
    return report.write(folder, analysis.metrics, rows, analysis.predictions)
