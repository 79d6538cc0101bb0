"""What cannot be a feature is found before anything is measured, and said in a line."""

from collections.abc import Mapping

from llmlat.config import FeaturesConfig
from llmlat.errors import ConfigError, did_you_mean
from llmlat.formulas.formula import FormulaError
from llmlat.formulas.recipe import recipe_of
from llmlat.records import Column


def check_features(features: FeaturesConfig, known: Mapping[str, Column]) -> None:
    """Refuse columns that are no features.

    Parameters
    ----------
    features : FeaturesConfig
    known : mapping of str to Column
        The columns that the rows have.

    Raises
    ------
    ConfigError
        Naming the column, and why it is none.
    """
    columns = features.columns
    if not columns:
        raise ConfigError("features.columns: empty; name at least one column, such as context_length.")
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if twice:
        raise ConfigError(f"features.columns: {twice} is named twice; once is enough.")
    try:
        inputs = recipe_of(columns, features.derived).inputs
    except FormulaError as error:
        raise ConfigError(f"features.derived: {error}.") from error
    for name in inputs:
        _check_input(name, known)


def _check_input(name: str, known: Mapping[str, Column]) -> None:
    if name not in known:
        meant = did_you_mean(name, known)
        raise ConfigError(f"features.columns: a row has no column {name!r}{meant} It has {', '.join(known)}.")
    if not known[name].known_before_step:
        raise ConfigError(f"features.columns: {name} is known only after the step, so it cannot predict it.")
    if known[name].is_name:
        raise ConfigError(
            f"features.columns: {name} names what was measured, so it says nothing of other requests."
        )
