"""What an analysis of some rows says once all rows have been fitted and tested where they lie."""

from dataclasses import replace

from llmlat.fit.analysis.physics import physics_terms
from llmlat.fit.coefficients import coefficient_table, spelled_formula
from llmlat.fit.fitting import features_of
from llmlat.fit.floor import beside_floor
from llmlat.fit.large.fit import LargeFit
from llmlat.fit.results import Analysis

OF_THE_PART = ("mae_over_floor", "rmse_over_floor")


def of_all_rows(looked_at: Analysis, found: LargeFit) -> Analysis:
    """Return the analysis with the fit on all rows, its errors on all held-out ones, and its coefficients.

    What takes more than sums (other splits, intervals, phases, the noise floor, figures) stays what the rows
    that were looked at say; `large` says how many they are. So do their predictions: the fit on all rows may
    have been fitted on those that were held out of them.

    Parameters
    ----------
    looked_at : Analysis
        Of some whole requests.
    found : LargeFit
        Of all of them.
    """
    coefficients = coefficient_table(found.fitted)
    metrics = {name: value for name, value in looked_at.metrics.items() if name not in OF_THE_PART}
    counts = {name: metrics[name] for name in ("n_events", "n_requests")}
    how = found.metrics["how"]
    told = (
        f"{found.metrics['n_events']:,} rows are too many to load. They were fitted and tested where they "
        f"lie ({how}); other splits, intervals, kinds of token, the noise floor and the figures are of "
        f"{counts['n_events']:,} rows of {counts['n_requests']:,} whole requests."
    )
    metrics |= {
        name: value for name, value in found.metrics.items() if name not in ("split", "how", "n_passes")
    }
    metrics |= {
        **coefficients,
        "formula": spelled_formula(coefficients),
        "physics": physics_terms(found.fitted, looked_at.train),
        "left_out": dict(features_of(found.fitted).left_out_),
        "intervals": {"errors": None, "coefficients": None},
        "notices": [*metrics.get("notices", []), told],
        "large": {"how": how, "n_passes": found.metrics["n_passes"], "looked_at": counts},
    }
    return replace(
        looked_at,
        fitted=found.fitted,
        metrics=beside_floor(metrics, metrics["noise_floor"]),
        train=found.train,
    )
