#!/usr/bin/env bash
# Measures everything that thesis.md shows: one CUDA GPU with 40 GB of memory, about ten minutes.
# Arguments are overrides for every run, such as tracking=none.
set -euo pipefail
python=${PYTHON:-python3}

# The thesis's protocol, with and without the key-value cache; the third run measures nothing and fits again, now
# that both engines' rows are there for the verdict on the cache.
for engine in eager no_cache eager; do
  "$python" -m llmlat +experiment=thesis "engine=$engine" "$@"
done

# The same model measured as one should: after warm-up, over a grid of prompt lengths, three times each.
for engine in eager no_cache eager; do
  "$python" -m llmlat +experiment=thesis name=thesis_steady prompt_set=length_grid collect.repetitions=3 \
    "collect.warmup=${WARMUP:-600}" split=by_request "engine=$engine" "$@"
done
