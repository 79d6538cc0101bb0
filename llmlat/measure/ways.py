"""The two ways of measuring: an engine in this process, or a server that is asked over the network.

Each has its plan and its session, and both leave the same rows in the same kind of dataset. Only the one that
is used is imported, so that nothing of torch is loaded to measure a server.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmlat.config import Config
from llmlat.dataset import Dataset
from llmlat.measure.endpoint.settings import is_endpoint
from llmlat.measure.resuming import MeasuringPlan, OnRequest

Measure = Callable[[OnRequest], Dataset]


def plan_measuring(config: Config, resolved: dict[str, Any], folder: Path) -> tuple[MeasuringPlan, Measure]:
    """Work out what will be measured; return that, and what measures it.

    Parameters
    ----------
    config : Config
    resolved : dict
        The composed config, kept in provenance.
    folder : Path
        The run folder, named to other runs that wait.

    Raises
    ------
    LlmlatError
        Where the device, the model, the server or the prompts cannot be had.
    """
    if is_endpoint(config.engine):
        from llmlat.measure.endpoint import session as served
        from llmlat.measure.endpoint.plan import make_plan as plan_requests

        asked = plan_requests(config)
        return asked, lambda on_request: served.measure(config, asked, resolved, on_request, folder)
    from llmlat.measure import session
    from llmlat.measure.plan import make_plan

    plan = make_plan(config)
    return plan, lambda on_request: session.measure(config, plan, resolved, on_request, folder)
