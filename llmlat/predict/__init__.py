"""The third part: predictor.json in, times out. numpy alone: neither scikit-learn nor pandas nor rows."""
