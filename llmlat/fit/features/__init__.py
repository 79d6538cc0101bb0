"""Features: from the columns of a row to the numbers that a regressor sees.

`formula` is the language that derived columns are written in, `table` turns rows into a table of numbers
inside the fitted pipeline, and `check` finds what cannot be a feature before anything is measured.
"""
