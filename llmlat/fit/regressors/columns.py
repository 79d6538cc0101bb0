"""A column of what a regressor was fitted on, by name or position."""

from typing import Any


def column_position(fitted: Any, column: str | int) -> int:
    """Return where a column stands.

    Parameters
    ----------
    fitted : estimator
        It knows `n_features_in_`, and `feature_names_in_` where there are names.
    column : str or int

    Raises
    ------
    ValueError
        Where there is none of that name or position.
    """
    positions = range(fitted.n_features_in_)
    names = list(getattr(fitted, "feature_names_in_", positions))
    if column in names:
        return names.index(column)
    if column in positions:
        return int(column)
    known = ", ".join(map(str, names))
    raise ValueError(f"{type(fitted).__name__} reads the feature {column!r}, and there are {known} only")
