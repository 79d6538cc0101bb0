"""The one place that knows the order: plan, measure, fit, test, report, track."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmlat import report, tracking
from llmlat.config import Config, ContestantConfig, FeaturesConfig, Flagged, SplitName, TableConfig
from llmlat.dataset import Dataset, key_of, write_frame
from llmlat.errors import ConfigError, MissingExtraError
from llmlat.files import write_json
from llmlat.fit.arena import Contestant, compete
from llmlat.fit.export import write_predictor
from llmlat.fit.fitting import build_pipeline
from llmlat.fit.floor import beside_floor
from llmlat.fit.large import Settings, fit_large
from llmlat.fit.large.whole import of_all_rows
from llmlat.fit.results import Analysis, analyse
from llmlat.fit.split import Counts, check_split, count_test_units
from llmlat.provenance import describe_identity
from llmlat.records import KNOWN, Column
from llmlat.sources import Rows
from llmlat.sources.datasets import rows_of
from llmlat.sources.large import large_dataset, large_table, n_rows_of
from llmlat.sources.table import known_columns, mapped, rows_of_table
from llmlat.sources.table_file import is_parquet, key_of_table, table_files

log = logging.getLogger(__name__)

Read = Callable[[tracking.Tracker], Rows]


def run(
    config: Config,
    resolved: dict[str, Any],
    folder: Path,
    when_done: Callable[[Mapping[str, Any]], None] = lambda metrics: None,
    *,
    is_summarised: bool = True,
) -> dict[str, Any]:
    """Run one experiment, and leave its run folder.

    Parameters
    ----------
    config : Config
    resolved : dict
        The same configuration as plain values, for provenance and tracking.
    folder : Path
        The run folder.
    when_done : callable
        Called with the metrics once all results are in the run folder, before they are tracked.
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
    known = KNOWN if config.table.path is None else known_columns(config.table)
    config = replace(config, features=_without_mapped(config.features, config.table))
    # Before measuring: a misspelt hyperparameter or too few rows must not cost an hour of GPU time.
    unfitted = build_pipeline(config.regressor, config.features, known)
    contestants = [
        _contestant(name, one, known, config.table) for name, one in config.arena.contestants.items()
    ]
    read = _plan_reading(config, resolved, folder)
    with tracking.start(config.tracking, resolved, folder) as tracker:
        rows = read(tracker)
        tracker.log_provenance(rows.about)
        analysis = analyse(
            rows.steps,
            unfitted,
            config.split,
            rows.about,
            config.reference,
            rows.contrast,
            excludes_flagged=config.collect.flagged is Flagged.exclude,
        )
        if rows.source is not None:
            found = fit_large(rows.source, unfitted, Settings(config.split, config.large.sample_rows))
            analysis = of_all_rows(analysis, found)
        if contestants:
            arena = compete(analysis.counted, contestants, config.split)
            analysis = replace(
                analysis,
                metrics={**analysis.metrics, "arena": beside_floor(arena, analysis.metrics["noise_floor"])},
            )
        figures = write_results(folder, rows, analysis)
        when_done(analysis.metrics)
        if is_summarised:
            report.print_summary(analysis.metrics, folder)
        tracker.log_result(analysis.metrics, rows.tokens, analysis.predictions, figures, rows.folder)
    log.info(f"Run folder  {folder}", extra={"is_routine": True})
    log.info(f"Report      {folder / 'report.html'}", extra={"is_routine": True})
    return analysis.metrics


def _without_mapped(features: FeaturesConfig, table: TableConfig) -> FeaturesConfig:
    """Return features of which none is worked out that a table has a column for: what it says holds."""
    told = mapped(table)
    derived = {name: formula for name, formula in features.derived.items() if name not in told}
    return replace(features, derived=derived)


def _contestant(
    name: str, config: ContestantConfig, known: Mapping[str, Column], table: TableConfig
) -> Contestant:
    features = _without_mapped(config.features, table)
    try:
        return Contestant(name, build_pipeline(config.regressor, features, known), config.of)
    except MissingExtraError as error:
        return Contestant(name, str(error), config.of)  # the others can do without that package
    except ConfigError as error:
        raise ConfigError(f"arena.contestants.{name}: {error}") from error


def with_dataset(config: Config) -> Config | None:
    """Name the dataset that a configuration comes to, where nothing of it is left to measure.

    Returns
    -------
    Config or None
        The configuration with `dataset` set, which any process may run; None where there is something to
        measure, or something is wrong with the configuration.
    """
    if config.dataset is not None or config.table.path is not None:
        return config
    from llmlat.measure.endpoint.settings import is_endpoint

    if is_endpoint(config.engine):
        return None  # what it comes to takes asking the server
    from llmlat.measure.plan import make_plan
    from llmlat.measure.session import find_measured

    found = find_measured(config, make_plan(config))
    return None if found is None else replace(config, dataset=str(found.folder.resolve()))


def key_of_data(config: Config) -> str | None:
    """Return the key of the rows that a configuration comes to now; None where only a server could tell.

    Raises
    ------
    LlmlatError
        Where they cannot be had.
    """
    if config.table.path is not None:
        return key_of_table(config.table)
    if config.dataset is not None:
        return " and ".join(dataset.key for dataset in _named(config.dataset))
    from llmlat.measure.endpoint.settings import is_endpoint

    if is_endpoint(config.engine):
        return None
    from llmlat.measure.plan import make_plan

    return key_of(make_plan(config).identity)


def _check(config: Config) -> None:
    if config.reference not in {None, "thesis"}:
        raise ConfigError(f"reference={config.reference}: use thesis, or null for none.")
    if config.seed < 0:
        raise ConfigError(f"seed={config.seed}: use a whole number, 0 or above.")
    for key, n_rows in vars(config.large).items():
        if n_rows < 1:
            raise ConfigError(f"large.{key}={n_rows}: use a whole number of at least 1.")
    if config.table.path is None and config.table != TableConfig():
        raise ConfigError("table.path: it is not set, and other keys of table are; name the file.")
    if config.dataset is not None and config.table.path is not None:
        raise ConfigError("dataset: it is named beside table.path; name one of the two.")
    check_split(config.split)


def _plan_reading(config: Config, resolved: dict[str, Any], folder: Path) -> Read:
    """Find out what is wrong before anything is tracked or loaded; return what leads to the rows."""
    if config.table.path is not None:
        return lambda tracker: _read_table(config)
    if config.dataset is not None:
        named = _named(config.dataset)
        return lambda tracker: _read_datasets(config, named)
    from llmlat.measure.ways import plan_measuring

    plan, measure = plan_measuring(config, resolved, folder)
    prompts = {request.name for request in plan.requests}
    count_test_units(Counts(plan.n_steps, len(plan.requests), len(prompts)), config.split)
    if config.split.name is SplitName.leave_one_out and config.split.held_out is None:
        raise ConfigError(f"split.held_out: name the {config.split.column} that is left out of the fit.")

    def measured(tracker: tracking.Tracker) -> Rows:
        # Before measuring too: a run that is killed must not be taken for the real thing.
        tracker.log_provenance(describe_identity(plan.identity, config.name))
        return _read_datasets(config, [measure(tracker.log_request)])

    return measured


def _read_datasets(config: Config, datasets: list[Dataset]) -> Rows:
    if len(datasets) == 1 and n_rows_of(datasets[0].row_files()) >= config.large.rows:
        is_excluded = config.collect.flagged is Flagged.exclude
        return large_dataset(
            datasets[0], config.name, config.split, config.large, excludes_flagged=is_excluded
        )
    return rows_of(datasets, config.name, wants_contrast=config.reference is not None)


def _read_table(config: Config) -> Rows:
    if is_parquet(config.table) and n_rows_of(table_files(config.table)) >= config.large.rows:
        return large_table(config.table, config.name, config.split, config.large)
    return rows_of_table(config.table, config.name)


def _named(dataset: Any) -> list[Dataset]:
    names = dataset if isinstance(dataset, list) else [dataset]
    if not names or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"dataset={dataset}: name a folder under outputs/datasets/, or a list of them.")
    folders: list[Path] = []
    for name in names:
        folder = Path(name).resolve()
        if not folder.is_dir():
            raise ConfigError(
                f"dataset={name}: there is no such folder; name one under outputs/datasets/. Relative paths "
                f"start at {Path.cwd()}."
            )
        if folder in folders:
            raise ConfigError(f"dataset: {name} is named twice; its rows would be fitted and tested on.")
        folders.append(folder)
    return [Dataset(folder) for folder in folders]


def write_results(folder: Path, rows: Rows, analysis: Analysis) -> dict[str, Any]:
    """Write everything a run folder holds, and return the figures."""
    write_json(folder / "dataset.json", rows.described)
    write_frame(folder / "predictions.parquet", analysis.predictions)
    write_predictor(folder, analysis)
    write_json(folder / "metrics.json", analysis.metrics)
    return report.write(folder, analysis.metrics, rows.steps, analysis.predictions)
