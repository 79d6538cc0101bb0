"""Where runs are logged: Weights & Biases, or nowhere.

A run is opened before measuring, so that a setting that cannot work costs no GPU time. What goes wrong later
only warns: whatever happens to the service, the measurement is never lost. Nothing here imports wandb unless
`tracking.name` is wandb.
"""

from pathlib import Path
from typing import Any

from llmlat.config import TrackingConfig, TrackingName
from llmlat.tracking.tracker import NullTracker, Tracker

__all__ = ["NullTracker", "Tracker", "start"]


def start(config: TrackingConfig, run_config: dict[str, Any], folder: Path) -> Tracker:
    """Open a run.

    Parameters
    ----------
    config : TrackingConfig
    run_config : dict
        The whole resolved configuration, as plain values.
    folder : Path
        The run folder; whatever the tracker writes lands inside it.

    Returns
    -------
    Tracker
        A context manager, which finishes the run: as failed where the block raised.

    Raises
    ------
    ConfigError
        Where wandb is not installed, `tracking.mode=online` cannot be had, or a setting is invalid.
    """
    if config.name is TrackingName.none:
        return NullTracker()
    from llmlat.tracking.weights_and_biases import open_run

    return open_run(config, run_config, folder)
