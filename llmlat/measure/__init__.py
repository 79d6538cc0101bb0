"""The measuring half: it ends in token rows on disk, and alone imports torch.

There are two `ways`, an engine in this process and a server (`endpoint`), and data flows alike in both. A
plan says what is generated (`cells`, `prompts`) and what decides it (`identity`). A session holds the dataset
(`resuming`), loads the model (`models`, `generators`) and hands over to `measuring`, which takes the requests
that the `protocol` puts on its agenda. `collect` is the timed loop over `engines` and `decoding`, on the
clocks of `timers`; `rows` and `telemetry` make of its marks what is kept. `machine` is what it all runs on.
"""
