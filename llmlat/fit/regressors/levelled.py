"""A regressor's predictions, times the factor that makes them what a criterion asks for."""

from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted, validate_data

from llmlat.fit.regressors.criterion import MEAN, check_criterion, level
from llmlat.fit.regressors.folds import fitted, settled
from llmlat.fit.regressors.physics import check_latencies

Floats = npt.NDArray[np.float64]


class LevelledRegressor(RegressorMixin, BaseEstimator):
    """`level * regressor(x)`, or `level * exp(regressor(x))` of one that is fitted on logarithms.

    The exponential of a fitted logarithm is a median, and a robust line is one too: predictions that add up
    to less than what was measured wherever there is noise. The level is taken of the rows of fitting (Duan's
    smearing factor, for the mean): where a fit follows its rows' noise, it needs that much less of it.

    Parameters
    ----------
    regressor : regressor
    of_log : bool, default=False
        Whether it is fitted on log latencies, so that errors count as shares of them.
    criterion : str, default='mean'
        What predictions state: `mean`, or what `mae`, `mape`, `pinball` or `pinball@0.99` is least at.

    Attributes
    ----------
    regressor_ : regressor
        Fitted on the latencies, or on their logarithms.
    level_ : float
    n_features_in_ : int
    feature_names_in_ : ndarray of str, shape (n_features,)
        Where `X` had names.
    """

    def __init__(self, regressor: Any, of_log: bool = False, criterion: str = MEAN) -> None:
        self.regressor = regressor
        self.of_log = of_log
        self.criterion = criterion

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Fit on rows, and set the level by them.

        Parameters
        ----------
        X : DataFrame or array-like, shape (n_rows, n_features)
        y : array-like, shape (n_rows,)
            Latencies in ms; above 0.
        groups : array-like, shape (n_rows,), optional
            For a regressor that asks for them.

        Raises
        ------
        ValueError
            Where a latency is not above 0, or there is no such criterion.
        """
        check_criterion(self.criterion)
        numbers, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True, **self._allowed())
        check_latencies(y)
        X = X if hasattr(X, "iloc") else numbers  # names, for a regressor that asks for columns by name
        self.regressor_ = fitted(self.regressor, X, np.log(y) if self.of_log else y, groups)
        self.level_ = level(self.criterion, np.nan_to_num(numbers), y, self._shape(X))
        return self

    def predict(self, X: Any) -> Floats:
        """Return latencies in ms, shape (n_rows,)."""
        check_is_fitted(self)
        numbers = validate_data(self, X, dtype=np.float64, reset=False, **self._allowed())
        return self.level_ * self._shape(X if hasattr(X, "iloc") else numbers)

    def settled(self) -> Any:
        """Return an unfitted copy whose regressor is of the size that it was found to need."""
        return clone(self).set_params(regressor=settled(self.regressor_))

    @property
    def coef_(self) -> Any:
        """The weights of a line, in its level; what is of the logarithm, or no line, has none."""
        return self.level_ * self._line().coef_

    @property
    def intercept_(self) -> Any:
        """The same of its intercept."""
        return self.level_ * self._line().intercept_

    def _line(self) -> Any:
        if self.of_log:
            raise AttributeError("a line of the logarithm is no line of the latency")
        return self.regressor_

    def _shape(self, X: Any) -> Floats:
        shape: Floats = np.asarray(self.regressor_.predict(X), dtype=np.float64)
        return np.exp(shape) if self.of_log else shape

    def _allowed(self) -> dict[str, Any]:
        return {"ensure_all_finite": "allow-nan"} if get_tags(self.regressor).input_tags.allow_nan else {}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        inner = get_tags(self.regressor).input_tags
        tags.input_tags.positive_only, tags.input_tags.allow_nan = inner.positive_only, inner.allow_nan
        tags.target_tags.positive_only = True
        return tags
