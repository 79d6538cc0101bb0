"""Whether a run is sent as it goes, or kept for a later `wandb sync`: decided before it opens.

Left alone, wandb waits at a prompt where there is no key, and for more than a minute and a half where there
is a key and no server.
"""

import os
from dataclasses import dataclass
from typing import Literal

from llmlat.config import TrackingMode
from llmlat.errors import ConfigError
from llmlat.tracking.session import NO_KEY, Session


@dataclass(frozen=True)
class Decision:
    """How a run is kept.

    Attributes
    ----------
    mode : str
        wandb's own word for it.
    reason : str
        Why it is not online; empty where it is.
    insisted : bool
        Whether someone asked for online, so that anything else is an error.
    unexpected : bool
        Whether there is a key, so that offline will surprise.
    """

    mode: Literal["online", "offline", "disabled"]
    reason: str = ""
    insisted: bool = False
    unexpected: bool = False


def decide(mode: TrackingMode, session: Session) -> Decision:
    """Decide how a run is kept.

    Parameters
    ----------
    mode : TrackingMode
        `auto` heeds WANDB_MODE and `wandb offline`, then tries; the others are taken at their word.
    session : Session

    Raises
    ------
    ConfigError
        Where online is insisted on and cannot be had.
    """
    if mode is TrackingMode.offline:
        return Decision("offline", "tracking.mode=offline")
    if mode is TrackingMode.auto:
        if session.settings.mode in {"offline", "dryrun"}:
            return Decision("offline", "W&B is set to offline (WANDB_MODE or `wandb offline`)")
        if session.settings.mode == "disabled":
            return Decision("disabled", "WANDB_MODE=disabled")
    insisted = mode is TrackingMode.online or os.environ.get("WANDB_MODE") == "online"
    problem = session.problem()
    if problem is None:
        return Decision("online", insisted=insisted)
    return fall_back(problem, insisted)


def fall_back(problem: str, insisted: bool) -> Decision:
    """Return the decision to stay offline.

    Raises
    ------
    ConfigError
        Where online is insisted on.
    """
    if insisted:
        raise ConfigError(
            f"tracking.mode=online (or WANDB_MODE): {problem}. "
            "Mend that, or use tracking.mode=offline or tracking=none."
        )
    return Decision("offline", problem, unexpected=problem != NO_KEY)
