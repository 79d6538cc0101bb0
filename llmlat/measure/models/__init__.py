"""Models and their tokenizers: where they come from, and how they are loaded."""
