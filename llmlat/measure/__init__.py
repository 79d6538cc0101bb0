"""The measuring half: the only rooms that import torch. It ends in token rows on disk."""
