"""One step as one function of Python floats, so that asking for it takes microseconds.

The function is put together of formulas, whose every part has been looked at, and of numbers, with variables
of its own. It answers what it can be certain of, and None of anything else: an array, a missing number, a
text that was not measured, an overflow, a step that may be outside of what was measured. Whoever asked then
goes the long way, on arrays.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Real
from typing import Any

from llmlat.formulas.formula import parse
from llmlat.formulas.one_step import NAMESPACE, expression_of
from llmlat.formulas.recipe import recipe_of

OneStep = Callable[[Mapping[str, Any], bool], float | None]

SAFE = 1e-6
"""By how much less than the most leverage a step is certain to be inside."""


def one_step(
    spec: Mapping[str, Any],
    formulas: Mapping[str, str],
    predicted: Callable[[Sequence[str]], str | None],
    of_features: Callable[[Sequence[float]], float],
) -> OneStep:
    """Return the function of one step.

    Parameters
    ----------
    spec : mapping
        The content of `predictor.json`, which has been checked.
    formulas : mapping of str to str
        Of each feature.
    predicted : callable
        Returns the prediction as an expression, of the variables that hold the features; or None.
    of_features : callable
        The prediction of a step's features, for where it is no expression.

    Returns
    -------
    callable
        Of the inputs by name, and of whether to look if they are inside of what was measured; the latency in
        ms, or None.
    """
    written = _Written(spec, formulas, predicted)
    namespace: dict[str, Any] = {
        **NAMESPACE,
        **written.constants,
        "Real": Real,
        "float": float,
        "isinstance": isinstance,
        "len": len,
        "str": str,
        "max": max,
        "exp": math.exp,
        "expm1": math.expm1,
        "nan": math.nan,
        "of_features": of_features,
        "KeyError": KeyError,
        "Trouble": (ArithmeticError, ValueError, TypeError),
    }
    exec(compile(written.source, "<one step>", "exec"), namespace)
    function: OneStep = namespace["step"]
    return function


class _Written:
    """The source of a step, and the tables that it reads."""

    def __init__(
        self,
        spec: Mapping[str, Any],
        formulas: Mapping[str, str],
        predicted: Callable[[Sequence[str]], str | None],
    ) -> None:
        self._spec = spec
        self._names: dict[str, str] = {}
        self.constants: dict[str, Any] = {}
        body = [*self._inputs(), *self._derived(formulas)]
        features = [f"f{k}" for k in range(len(formulas))]
        body += self._features(formulas, features)
        of_features = f"of_features(({', '.join(features)},))"
        body.append(f"y = {predicted(features) or of_features}")
        body += ["if not y - y == 0.0: return None", *self._measured(features), "return y"]
        lines = ["def step(values, watched):", " try:", *(f"  {line}" for line in body)]
        lines += [" except KeyError: return None", " except Trouble: return None"]
        self.source = "\n".join(lines) + "\n"

    def _inputs(self) -> Iterator[str]:
        """Read and check what is said; what need not be said is as it was, or follows."""
        entries: Mapping[str, Any] = self._spec["inputs"]
        variables = {name: f"v{k}" for k, name in enumerate(entries)}
        needed = [name for name, entry in entries.items() if entry.get("default") is None]
        others = [name for name in entries if name not in needed]
        for name in needed:
            yield f"{variables[name]} = values[{name!r}]"
            yield from self._checked(name, variables[name])
        known = {name: variables[name] for name in needed}
        yield f"n = {len(needed)}"
        for name in sorted(others, key=lambda name: isinstance(entries[name]["default"], Mapping)):
            default = _default(entries[name]["default"], known)
            yield f"{variables[name]} = values.get({name!r})"
            yield f"if {variables[name]} is None: {variables[name]} = {default}"
            yield "else:"
            yield "  n += 1"
            yield from (f"  {line}" for line in self._checked(name, variables[name]))
            known[name] = variables[name]
        yield "if len(values) != n: return None"
        self._names = variables
        total = " + ".join(variables[name] for name in entries if "values" not in entries[name]) or "0.0"
        yield f"if not ({total}) * 0.0 == 0.0: return None"

    def _checked(self, name: str, variable: str) -> Iterator[str]:
        entry = self._spec["inputs"][name]
        if "values" in entry:
            self.constants[f"texts_{variable}"] = frozenset(entry["values"])
            yield f"if not isinstance({variable}, str) or {variable} not in texts_{variable}: return None"
            return
        yield f"if not isinstance({variable}, Real): return None"
        yield f"{variable} = float({variable})"

    def _derived(self, formulas: Mapping[str, str]) -> Iterator[str]:
        derived = self._spec.get("derived") or {}
        read = dict.fromkeys(part for text in formulas.values() for part in parse(text).names)
        for k, (name, formula) in enumerate(recipe_of(list(read), derived).steps.items()):
            yield f"d{k} = {expression_of(formula.text, self._names)}"
            self._names = {**self._names, name: f"d{k}"}

    def _features(self, formulas: Mapping[str, str], features: Sequence[str]) -> Iterator[str]:
        for feature, text in zip(features, formulas.values(), strict=True):
            yield f"{feature} = {expression_of(text, self._names)}"

    def _measured(self, features: Sequence[str]) -> Iterator[str]:
        """Leave what may be outside, and let nothing be quicker than the fastest step."""
        domain = self._spec.get("domain")
        if not domain:
            return
        names = {name: text for name, text in self._names.items() if name in self._spec["inputs"]}
        is_prefill = expression_of(domain["phase"], names) if domain["phase"] else None
        yield f"phase = {is_prefill or '0.0'}"
        for phase, entry in domain["phases"].items():
            here = {"prefill": "phase != 0.0", "decode": "phase == 0.0"}.get(phase, "True")
            yield f"if {here}:"
            yield "  if watched:"
            yield from (f"    {line}" for line in self._inside(phase, entry, features, names))
            fastest = float(entry["fastest_ms"])
            yield f"  return y if y > {fastest!r} else {fastest!r}"
        yield "return None"

    def _inside(
        self, phase: str, entry: Mapping[str, Any], features: Sequence[str], names: Mapping[str, str]
    ) -> Iterator[str]:
        domain = self._spec["domain"]
        coordinates = {name: expression_of(text, names) for name, text in domain["coordinates"].items()}
        for k, text in enumerate(coordinates.values()):
            yield f"c{k} = {text}"
            low, high = entry["from"][k], entry["to"][k]
            if low is not None:
                yield f"if not {float(low)!r} <= c{k} <= {float(high)!r}: return None"
        at = {name: f"c{k}" for k, name in enumerate(coordinates)}
        for name, gaps in (entry.get("gaps") or {}).items():
            for low, high in gaps:
                yield f"if {float(low)!r} < {at[name]} < {float(high)!r}: return None"
        spans = {name: _span(entry, k) for k, name in enumerate(coordinates)}
        together = {
            name: at.get(name) or expression_of(text, names) for name, text in domain["together"].items()
        }
        slack = [float(entry["slack"]) * spans.get(name, 1.0) for name in together]
        yield from self._dominated(f"most_{phase}", entry["most"], slack, list(together.values()), ">=")
        yield from self._dominated(f"least_{phase}", entry["least"], slack, list(together.values()), "<=")
        with_them = [at[name] for name in domain["leverage_with"]]
        if entry.get("leverage"):
            yield from _levered(entry["leverage"], [*features, *with_them])

    def _dominated(
        self,
        table: str,
        points: Sequence[Sequence[float]],
        slack: Sequence[float],
        at: Sequence[str],
        sign: str,
    ) -> Iterator[str]:
        if not points or not at:
            return
        way = 1.0 if sign == ">=" else -1.0
        self.constants[table] = tuple(
            tuple(float(value) + way * extra for value, extra in zip(point, slack, strict=True))
            for point in points
        )
        variables = [f"p{k}" for k in range(len(at))]
        yield f"for {', '.join(variables)}, in {table}:"
        yield f"  if {' and '.join(f'{p} {sign} {x}' for p, x in zip(variables, at, strict=True))}: break"
        yield "else: return None"


def _levered(entry: Mapping[str, Any], columns: Sequence[str]) -> Iterator[str]:
    for k, (column, mean, scale) in enumerate(zip(columns, entry["mean"], entry["scale"], strict=True)):
        yield f"z{k} = ({column} - {float(mean)!r}) / {float(scale)!r}"
    axes = [_weighted(axis) for axis in entry["axes"]]
    if axes:
        squares = " + ".join(f"a{k} * a{k}" for k in range(len(axes)))
        yield from (f"a{k} = {axis}" for k, axis in enumerate(axes))
        yield f"if {squares} > {1.0 - SAFE!r}: return None"
    for never in entry["never"]:
        yield f"if not {-SAFE!r} <= {_weighted(never)} <= {SAFE!r}: return None"


def _weighted(weights: Sequence[float]) -> str:
    terms = [f"{float(weight)!r} * z{k}" for k, weight in enumerate(weights) if weight]
    return " + ".join(terms) or "0.0"


def _default(default: Any, known: Mapping[str, str]) -> str:
    if not isinstance(default, Mapping):
        return repr(default if isinstance(default, str) else float(default))
    constants = {name: repr(float(value)) for name, value in default["constants"].items()}
    return expression_of(default["formula"], {**constants, **known})


def _span(entry: Mapping[str, Any], k: int) -> float:
    low, high = entry["from"][k], entry["to"][k]
    return 0.0 if low is None else float(high) - float(low)
