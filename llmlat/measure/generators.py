"""The loaded model, and an engine with its decoder for each cell."""

from typing import Any

from hydra.utils import instantiate

from llmlat.config import Config
from llmlat.errors import ConfigError, LlmlatError, one_line
from llmlat.measure.cells import Cell
from llmlat.measure.decoding import make_decoder
from llmlat.measure.engines import Decoder, Engine
from llmlat.measure.models.facts import model_facts
from llmlat.measure.models.load import load_model
from llmlat.measure.plan import Plan


class Generators:
    """What generates the tokens of each cell. The model is loaded once; it goes when this does.

    Parameters
    ----------
    config : Config
    plan : Plan

    Attributes
    ----------
    model_facts : dict
        From `llmlat.measure.models.facts.model_facts`.
    """

    def __init__(self, config: Config, plan: Plan) -> None:
        self._plan = plan
        self._model = load_model(plan.source, config.quantization.name, plan.device, config.seed)
        self.model_facts = model_facts(self._model)
        self._made: dict[Cell, tuple[Engine, Decoder]] = {}

    def of(self, cell: Cell) -> tuple[Engine, Decoder]:
        """Return the engine and the decoder of a cell, making them at its first request.

        Raises
        ------
        ConfigError
            Where the engine cannot be made.
        """
        if cell not in self._made:
            self._made[cell] = self._make(cell)
        return self._made[cell]

    def preparations(self) -> list[dict[str, Any]]:
        """Return what the engines captured or compiled, and how long it took; none of it is in a row."""
        return [
            {"engine": cell.engine, **preparation}
            for cell, (engine, _) in self._made.items()
            for preparation in getattr(engine, "preparations", ())
        ]

    def _make(self, cell: Cell) -> tuple[Engine, Decoder]:
        eos_ids = _eos_ids(self._model) if cell.stop_at_eos else ()
        decoder = make_decoder(cell, self._plan.device, eos_ids, _pad_id(self._model))
        settings = {key: value for key, value in self._plan.engines[cell.engine].items() if key != "name"}
        try:
            engine: Engine = instantiate(settings, model=self._model, decoder=decoder)
        except Exception as error:
            cause = error.__cause__ or error
            if isinstance(cause, LlmlatError):  # it names its key
                raise cause from None
            raise ConfigError(
                f"engine._target_={settings['_target_']}: cannot be made ({one_line(cause)})."
            ) from error
        return engine, decoder


def _eos_ids(model: Any) -> tuple[int, ...]:
    """Return the model's end-of-sequence tokens, of which it may have none, one or several."""
    eos = _special(model, "eos_token_id")
    if eos is None or eos == []:
        raise ConfigError("decoding.stop_at_eos=true: the model names no end-of-sequence token; use false.")
    return tuple(eos) if isinstance(eos, list) else (eos,)


def _pad_id(model: Any) -> int | None:
    """Return the model's own padding token; some name one that is none."""
    pad = _special(model, "pad_token_id")
    return pad if isinstance(pad, int) and pad >= 0 else None


def _special(model: Any, name: str) -> Any:
    """Return a special token as `generate()` finds it: token 0 is one, too."""
    own = getattr(model.generation_config, name, None)
    return getattr(model.config, name, None) if own is None else own
