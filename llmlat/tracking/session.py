"""A session with W&B's service process: inside the run folder, silent, and never waited for without end.

All of it was tried on wandb 0.31. What wandb only takes from environment variables is set while the session
lasts, and put back.
"""

import contextlib
import importlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

import psutil

from llmlat.errors import ConfigError

T = TypeVar("T")

PROBE_LIMIT_S = 3.0
POLL_S = 0.01
TEARDOWN_S = 0.1
NO_KEY = "no API key (WANDB_API_KEY, or `wandb login`)"

# Nothing beside the measurement, nothing on our terminal, nothing of the user's code. A killed run loses its
# last second: at wandb's own interval of 15 s, one that was killed before had left nothing at all.
QUIET = {
    "silent": True,
    "console": "off",
    "x_disable_stats": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
    "save_code": False,
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "use_dot_wandb": False,
    "x_transaction_log_flush_interval": 1.0,
    "init_timeout": 15.0,
}


def import_wandb() -> Any:
    """Import wandb.

    Raises
    ------
    ConfigError
        Where it is not installed.
    """
    with contextlib.suppress(ImportError):
        wandb = importlib.import_module("wandb")
        # A folder ./wandb, which wandb itself makes, imports as an empty package where wandb is missing.
        if hasattr(wandb, "init"):
            return wandb
    raise ConfigError("tracking=wandb: wandb is not installed; pip install wandb, or run with tracking=none.")


def one_line(error: BaseException, limit: int = 200) -> str:
    """Return what an error says, on one line."""
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return text if len(text) <= limit else f"{text[:limit]}..."


class Background(Generic[T]):
    """Some work in a thread that nobody has to wait for.

    Parameters
    ----------
    work : callable
    """

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._results: list[T] = []
        self._errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._attempt, daemon=True, name="llmlat-tracking")
        self._thread.start()

    def _attempt(self) -> None:
        try:
            self._results.append(self._work())
        except BaseException as error:
            self._errors.append(error)

    def is_over(self, seconds: float) -> bool:
        """Wait no longer than that, and say whether the work is done; raise where it failed."""
        self._thread.join(seconds)
        if self._errors:
            raise self._errors[0]
        return bool(self._results)

    def result(self, seconds: float) -> T:
        """Return what the work came to.

        Raises
        ------
        TimeoutError
            Where it takes longer than that; it is then left behind.
        """
        if not self.is_over(seconds):
            raise TimeoutError
        return self._results[0]


class Session:
    """wandb's service process, from before a run opens until after it is finished.

    Parameters
    ----------
    wandb : module
    folder : Path
        The run folder.
    mode : str, optional
        The mode that overrules the environment's, if any.
    """

    def __init__(self, wandb: Any, folder: Path, mode: str | None) -> None:
        self._wandb = wandb
        self._closed = False
        # Where the caller has a run of their own, the service is theirs as well.
        self._borrowed = wandb.run is not None or "WANDB_SERVICE" in os.environ
        own = folder.resolve() / "wandb"
        own.mkdir(parents=True, exist_ok=True)
        self._cache = own / "cache"
        self._environment = contextlib.ExitStack()
        # Artifacts are staged, and the service logs, under ~ unless told; its telemetry would look up the
        # server's name even offline.
        self._environment.enter_context(_default("WANDB_DATA_DIR", str(own / "data")))
        self._environment.enter_context(_default("WANDB_CACHE_DIR", str(self._cache)))
        self._environment.enter_context(_default("WANDB_ERROR_REPORTING", "false"))
        chosen = {"mode": mode} if mode else {}
        self.settings = self._set_up(None if self._borrowed else wandb.Settings(silent=True, **chosen))

    def _set_up(self, settings: Any) -> Any:
        try:
            with _brief_polls():
                return self._wandb.setup(settings).settings
        except BaseException as error:
            self.close()
            if not isinstance(error, Exception):
                raise
            raise ConfigError(
                f"tracking: W&B's own settings do not work: {one_line(error)}. "
                "Mend the WANDB_ variables or settings files, or run with tracking=none."
            ) from error

    def problem(self) -> str | None:
        """Return why a run cannot be sent now, or None: a key, and a server that accepts it within 3 s."""
        base_url = self.settings.base_url
        try:
            return Background(lambda: _verify(base_url)).result(PROBE_LIMIT_S)
        except TimeoutError:
            return f"{base_url} did not answer within {PROBE_LIMIT_S:.0f} s"
        except Exception as error:
            return one_line(error)

    def abandon(self) -> None:
        """End the service, which still tries to send; what it was given is on disk."""
        if self._borrowed:
            return
        # Asked to end before it is killed: asked afterwards, wandb raises and never waits for the process.
        ending = Background(self._wandb.teardown)
        with contextlib.suppress(Exception, SystemExit):
            ending.is_over(TEARDOWN_S)
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.Error):
                if child.name().startswith("wandb-core"):
                    child.kill()
        with contextlib.suppress(Exception, SystemExit):
            ending.is_over(PROBE_LIMIT_S)

    def close(self) -> None:
        """End the service and put the environment back; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        # A service that was abandoned makes teardown raise, or exit with its code.
        if not self._borrowed:
            with contextlib.suppress(Exception, SystemExit):
                self._wandb.teardown()
        self._environment.close()
        shutil.rmtree(self._cache, ignore_errors=True)


@contextlib.contextmanager
def _brief_polls() -> Iterator[None]:
    """Look for the service, which is up within 20 ms, more often than wandb does: every 200 ms."""
    try:
        polling: Any = importlib.import_module("wandb.sdk.lib.service.service_port_file")
        sleep = polling._SLEEP
    except (ImportError, AttributeError):
        yield
        return
    polling._SLEEP = lambda seconds: sleep(min(seconds, POLL_S))
    try:
        yield
    finally:
        polling._SLEEP = sleep


@contextlib.contextmanager
def _default(name: str, value: str) -> Iterator[None]:
    """Set an environment variable that is not set, for as long as the block lasts."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)


def _verify(base_url: str) -> str | None:
    # wandb's own search (environment, settings files, netrc) and its own request (proxies, certificates,
    # tokens), neither of which prompts or prints.
    auth = importlib.import_module("wandb.sdk.lib.wbauth")
    found = auth.authenticate_session(host=base_url, source="llmlat", prompt=False, update_session=False)
    if found is None:
        return NO_KEY
    found.verify()
    return None
