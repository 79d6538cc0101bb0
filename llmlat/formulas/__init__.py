"""Formulas over columns, as text: what config, fits and predictor files share."""
