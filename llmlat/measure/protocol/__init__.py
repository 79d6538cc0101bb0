"""The measuring protocol: when it has settled, what comes next, how often, and what is done again."""
