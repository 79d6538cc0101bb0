"""Measure every token a language model generates, and predict how long the next one takes."""

from llmlat.predict.estimate import Estimate, OutsideError
from llmlat.predict.predictor import Predictor, PredictorError, load_predictor

__version__ = "0.1.0"
__all__ = ["Estimate", "OutsideError", "Predictor", "PredictorError", "load_predictor"]
