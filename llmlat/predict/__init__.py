"""The predicting half: from token rows to a fitted, tested, portable predictor. No torch here."""
