"""How far the law of a step is off on steps of a serving engine that it has not seen.

    python benchmarks/steps.py FOLDER [--with FOLDER] [--bandwidth-gb-s 3000] [--matrix-tflop-s 790]

FOLDER holds `models.csv` with the shapes of models, and `NAME-steps.parquet` for each: the steps of its
engine in their order, in parts that are named `grid...` (equal requests at once) and `load...` (requests as
they arrive). `--with` names another such folder, whose models are fitted along where a model is predicted
that was not measured.

Prints a row for each model and test: the mean absolute relative error (MAPE) of the law, beside boosted
trees, Ridge, and trees on the logarithm over 18 features of the batch. The bandwidth and the rate are what
the card reaches when it does nothing else; only they are told to the law beforehand. No row that is tested
chooses or calibrates anything.
"""

import argparse
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")

import numpy as np  # noqa: E402 - threads are set before anything reads them
import pandas as pd  # noqa: E402
from sklearn.base import clone  # noqa: E402
from sklearn.compose import TransformedTargetRegressor  # noqa: E402
from sklearn.ensemble import HistGradientBoostingRegressor  # noqa: E402
from sklearn.linear_model import Ridge  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from steps_folder import AISIMULATE, CONTENTS, WORK, read_steps  # noqa: E402

from llmlat.fit.regressors import StepRegressor  # noqa: E402

N_OWN = 200  # steps of its own grid that a model never measured is corrected with
WIDENED = 0.15  # how much further off another model's coefficients may be
LEVEL = 0.9
DERATED = 0.85  # the share of the card's matrix rate that real shapes reach, at best
CONTENDERS = ("law", "trees", "ridge", "trees, log, 18 features")


class Test(NamedTuple):
    """Rows to fit on, and rows to predict."""

    says: str
    train: pd.DataFrame
    test: pd.DataFrame


def main() -> None:
    """Print the table."""
    asked = _arguments()
    warnings.simplefilter("ignore")
    steps = read_steps(asked.folder)
    along = read_steps(asked.along) if asked.along else steps.iloc[:0]
    law = StepRegressor(
        priors={
            "bandwidth_gb_s": [asked.bandwidth_gb_s, 0.05],
            "matrix_tflop_s": [DERATED * asked.matrix_tflop_s, 0.15],
        }
    )
    print(f"| model | fit → test | {' | '.join(CONTENDERS)} |\n|---|---|{'---|' * len(CONTENDERS)}")
    for model, own in steps.groupby("model", sort=False):
        others = pd.concat([steps[steps["model"] != model], along[along["model"] != model]])
        for one in _tests(own, others):
            errors = [_mape(one.test, _predict(name, one, law)) for name in CONTENDERS]
            _print(model, one.says, *(f"{error:.1f} %" for error in errors))
        _print(model, f"the same, and {N_OWN} steps of its own grid", _corrected(law, own, others))
        _print(model, "90 % intervals, by workload held out", *_coverage(law, own))
        _print(model, "noise: steps of the same contents", f"{_noise(own):.1f} %")


def _tests(own: pd.DataFrame, others: pd.DataFrame) -> Iterator[Test]:
    is_load = own["part"].str.startswith("load")
    loads = sorted(own.loc[is_load, "part"].unique())
    first = own["part"].isin(loads[:2])
    yield Test("its grid → its loads", own[~is_load], own[is_load])
    if len(loads) > 2:
        yield Test("its first two loads → the others", own[first], own[is_load & ~first])
    if len(others):
        yield Test("other models → all of it", others, own)


def _predict(name: str, one: Test, law: StepRegressor) -> Any:
    features, regressor = _contender(name, law)
    return clone(regressor).fit(one.train[features], one.train["step_ms"]).predict(one.test[features])


def _contender(name: str, law: StepRegressor) -> tuple[list[str], Any]:
    trees = HistGradientBoostingRegressor(random_state=0)
    known: dict[str, tuple[list[str], Any]] = {
        "law": (WORK, law),
        "trees": (WORK + CONTENTS, trees),
        "ridge": (WORK, make_pipeline(StandardScaler(), Ridge())),
        "trees, log, 18 features": (
            AISIMULATE,
            TransformedTargetRegressor(trees, func=np.log, inverse_func=np.exp),
        ),
    }
    return known[name]


def _corrected(law: StepRegressor, own: pd.DataFrame, others: pd.DataFrame) -> str:
    """Return the miss of the others' law once the steps of the model's own grid that tell most are known."""
    if not len(others):
        return ""
    elsewhere = clone(law).fit(others[WORK], others["step_ms"])
    widened = clone(law).set_params(priors=elsewhere.posterior(WIDENED))
    grid = own[own["part"].str.startswith("grid")]
    candidates = clone(widened).fit(others[WORK].iloc[:1], others["step_ms"].iloc[:1])
    told = grid.iloc[candidates.telling(grid[WORK], N_OWN)]
    fitted = widened.fit(told[WORK], told["step_ms"])
    rest = own.drop(index=told.index)
    return f"{_mape(rest, fitted.predict(rest[WORK])):.1f} %"


def _coverage(law: StepRegressor, own: pd.DataFrame) -> tuple[str, str]:
    """Return what intervals hold of a workload that had no part in fit or calibration; their half width."""
    workload = np.where(own["part"].str.startswith("grid"), "grid", own["part"])
    held, widths = [], []
    for one in np.unique(workload):
        rest, test = own[workload != one], own[workload == one]
        shares = _shares(law, rest, workload[workload != one])
        predicted = clone(law).fit(rest[WORK], rest["step_ms"]).predict(test[WORK])
        half = shares[_kind(test)].to_numpy()
        held.append((np.abs(test["step_ms"] / predicted - 1) <= half).mean())
        widths.append(np.median(half))
    spread = f"{min(held):.0%} to {max(held):.0%} a workload"
    return f"{np.mean(held):.1%} ({spread})", f"± {np.mean(widths):.1%}"


def _shares(law: StepRegressor, rows: pd.DataFrame, workload: Any) -> pd.Series:
    """Return the share of its prediction that a step lies within, by kind: each workload counts the same."""
    misses = pd.Series(np.nan, index=rows.index)
    for one in np.unique(workload):
        others, left = rows[workload != one], rows[workload == one]
        predicted = clone(law).fit(others[WORK], others["step_ms"]).predict(left[WORK])
        misses[left.index] = np.abs(left["step_ms"] / predicted - 1)
    weight = 1 / pd.Series(workload, index=rows.index).map(pd.Series(workload).value_counts())
    kinds = _kind(rows)
    return pd.Series(
        {kind: _quantile(misses[kinds == kind], weight[kinds == kind]) for kind in kinds.unique()}
    )


def _kind(steps: pd.DataFrame) -> pd.Series:
    return steps["is_beyond_graphs"] + (steps["prefill_requests"] > 0)


def _quantile(values: pd.Series, weights: pd.Series) -> float:
    order = values.sort_values().index
    reached = weights[order].cumsum() >= LEVEL * weights.sum()
    return float(values[order][reached].iloc[0])


def _noise(own: pd.DataFrame) -> float:
    cells = own.groupby(CONTENTS)["step_ms"]
    repeated = cells.transform("size") > 1
    return _mape(own[repeated], cells.transform("median")[repeated])


def _mape(rows: pd.DataFrame, predicted: Any) -> float:
    return float(100 * np.mean(np.abs(np.asarray(predicted) / rows["step_ms"].to_numpy() - 1)))


def _print(*cells: Any) -> None:
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def _arguments() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--with", type=Path, dest="along")
    arguments.add_argument("--bandwidth-gb-s", type=float, default=3000.0)
    arguments.add_argument("--matrix-tflop-s", type=float, default=790.0)
    return arguments.parse_args()


if __name__ == "__main__":
    main()
