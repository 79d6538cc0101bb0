"""Measure every token a language model generates, and predict how long the next one takes."""



__version__ = "0.1.0"

