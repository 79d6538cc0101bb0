"""The one place that knows the order: plan, measure, fit, test, report, track."""

import logging
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

log = logging.getLogger(__name__)

# The engine whose measurement, set beside, tells what the key-value cache does.
CONTRAST = {"eager": "no_cache", "no_cache": "eager"}


def run(config: Config, resolved: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Run one experiment, and leave its run folder.

    Parameters
    ----------
    config : Config
    resolved : dict
        The same configuration as plain values, for provenance and tracking.
    folder : Path
        The run folder.

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
    # Made before measuring: a misspelt hyperparameter must not cost an hour of GPU time.
    unfitted = build_pipeline(config.regressor, config.features)
    if config.dataset is None:
        from llmlat.measure.session import make_plan, measure

        plan = make_plan(config)
    with tracking.start(config.tracking, resolved, folder) as tracker:
        if config.dataset is None:
            dataset = measure(config, plan, resolved, tracker.log_request)
        else:
            dataset = Dataset(Path(config.dataset))
        rows = dataset.read()
        about = describe(dataset, config.name)
        tracker.log_provenance(about)
        contrast = read_contrast(dataset) if config.reference else None
        analysis = analyse(rows, unfitted, config.split, about, config.reference, contrast)
        figures = write_results(folder, dataset, rows, analysis)
        report.print_summary(analysis.metrics, folder)
        tracker.log_result(analysis.metrics, rows, analysis.predictions, figures, dataset.folder)
    log.info(f"Run folder  {folder}")
    log.info(f"Report      {folder / 'report.html'}")
    return analysis.metrics


def _check(config: Config) -> None:
    if config.reference not in {None, "thesis"}:
        raise ConfigError(f"reference={config.reference}: use thesis, or null for none.")
    if not 0 < config.split.test_size < 1:
        raise ConfigError(
            f"split.test_size={config.split.test_size}: use a share between 0 and 1, such as 0.2."
        )


def describe(dataset: Dataset, experiment: str) -> dict[str, Any]:
    """Return what a dataset measured, in the words of metrics.json."""
    provenance = dataset.provenance
    identity = provenance["identity"]
    notices = list(provenance["sessions"][-1]["notices"]) if provenance["sessions"] else []
    if not dataset.is_complete:
        notices.append(
            f"INCOMPLETE: {len(dataset.completed_requests())} of {provenance['n_requests']} requests were measured."
        )
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
        "dataset_key": dataset.key,
        "notices": notices,
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
