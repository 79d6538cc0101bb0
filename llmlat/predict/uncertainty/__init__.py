"""How far off a prediction may be: intervals from held-out groups, and where nothing was measured.

`conformal` turns the misses on held-out groups into intervals, `coverage` tries them on requests that had no
part in it, `domain` knows what was measured, and `bootstrap` tells how well errors and coefficients are
known.
"""
