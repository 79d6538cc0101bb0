"""A server instead of an engine: requests over HTTP, and a row a token as it arrived.

A client sees chunks and when they came, and nothing of the engine behind them. Data flows one way:
`settings` and `plan` say what is asked, `server` and `capabilities` what the server is and takes; `arrival`,
`client` and `reader` send it and note when bytes come (`exchange`), in a process of their own; `sse`,
`answers` and `rows` make token rows of them, beside it; `measuring` and `session` keep those in the dataset.
No torch here.
"""
