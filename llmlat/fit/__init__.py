"""The second part: rows in, a fitted and tested predictor out. scikit-learn here, and no torch."""
