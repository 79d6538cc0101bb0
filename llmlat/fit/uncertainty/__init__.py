"""How far off a prediction may be, and how well errors and coefficients are known.

`conformal` turns misses on held-out groups into a band; `calibration` has the bands of a fit, inside what was
measured and beyond, and tries them on requests that had no part in it; `bootstrap` draws requests.
"""
