"""What the regressors are worth on data measured elsewhere, beside the same with rows drawn at random.

    python benchmarks/held_out.py --data DIR [--only splitwise]

DIR holds `splitwise/perf_model.csv` (Mutinifni/splitwise-sim), `vidur/a100_attention.csv` (microsoft/vidur)
and `h200_probe/eager_and_graph_events.csv`. Errors are mean absolute ones as percentages of the latency
(MAPE), on rows whose group or size no training row has; `x noise` is the mean absolute error in ms as a
multiple of the noise floor's. `auto` chooses by training rows only: by groups of them, or, where sizes are
held out, by how a candidate goes on from the smaller of them to the larger. `at random` is the leakage:
single rows held out, with their like among the training rows.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from held_out_tasks import Split, Task, tasks
from sklearn.base import clone
from sklearn.model_selection import KFold
from sklearn.utils.validation import has_fit_parameter
from threadpoolctl import threadpool_limits

from llmlat.fit.floor import noise_floor
from llmlat.fit.regressors import AutoRegressor
from llmlat.records import DECODE, TARGET

N_FOLDS = 5


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", default="", help="a part of the data sets' names")
    arguments = parser.parse_args()
    chosen = (task for task in tasks(arguments.data) if arguments.only in task.name)
    with threadpool_limits(limits=1):
        lines = [line for task in chosen for line in table(task)]
    print(pd.DataFrame(lines).to_string(index=False, float_format=lambda value: f"{value:.2f}", na_rep=""))


def table(task: Task) -> Iterator[dict[str, Any]]:
    """Yield a line a regressor: its error on held-out groups, and on rows drawn at random."""
    drawn = list(KFold(N_FOLDS, shuffle=True, random_state=0).split(task.rows))
    noise_ms, noise_pct = noise(task)
    auto = AutoRegressor(task.candidates, cv=task.auto_cv)
    for name, regressor in {**task.candidates, "auto": auto}.items():
        held_out = predictions(task, regressor, task.folds)
        # What leaks to the candidates leaks to the choice among them, which takes the longest.
        at_random = None if regressor is auto else predictions(task, regressor, drawn)
        yield {
            "data": task.name,
            "target": task.target,
            "held out": task.held_out,
            "regressor": name,
            "MAPE %": 100 * held_out["missed_share"].mean(),
            "at random %": None if at_random is None else 100 * at_random["missed_share"].mean(),
            "noise %": noise_pct,
            "x noise": held_out["missed_ms"].mean() / noise_ms if noise_ms else None,
            "to reach": task.to_reach,
            "chosen": ", ".join(sorted(set(held_out["chosen"]))),
        }


def predictions(task: Task, regressor: Any, folds: list[Split]) -> pd.DataFrame:
    """Return by how much each held-out row is missed, and what `auto` chose to predict it."""
    parts = []
    for train, test in folds:
        fitted, rows = fit(task, regressor, train), task.rows.iloc[test]
        missed_ms = (fitted.predict(rows[task.columns]) - rows[task.target]).abs()
        choice = getattr(fitted, "choices_", {}).get("all", {"chosen": ""})
        parts.append(
            pd.DataFrame(
                {
                    "missed_ms": missed_ms,
                    "missed_share": missed_ms / rows[task.target],
                    "chosen": choice["chosen"],
                }
            )
        )
    return pd.concat(parts)


def fit(task: Task, regressor: Any, train: Any) -> Any:
    """Fit on training rows; rows with equal features are one point, at their median latency."""
    rows = task.rows.iloc[train]
    keys = list(dict.fromkeys([*task.columns, task.group]))
    points = rows.groupby(keys, as_index=False, sort=False)[task.target].median()
    points = points.sort_values(task.group, kind="stable")
    takes_groups = has_fit_parameter(regressor, "groups")
    groups = {"groups": points[task.group].to_numpy()} if takes_groups else {}
    return clone(regressor).fit(points[task.columns], points[task.target].to_numpy(), **groups)


def noise(task: Task) -> tuple[float | None, float | None]:
    """Return the noise floor in ms and as a percentage: what rows with equal features miss each other by."""
    latency = task.rows[task.target]
    # The absolute deviation of a logarithm is a relative one.
    floors = [
        noise_floor(task.rows.assign(**{TARGET: values, "phase": DECODE}), task.columns)[0]
        for values in (latency, np.log(latency))
    ]
    ms, share = (floor and floor["mae_ms"] for floor in floors)
    return ms, share and 100 * share


if __name__ == "__main__":
    main()
