"""From requests to what is sent: the JSON of each, and when it goes out."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from llmlat.measure.endpoint.arrival import Load, poisson_offsets_s
from llmlat.measure.endpoint.client import Job
from llmlat.measure.endpoint.plan import EndpointPlan
from llmlat.measure.endpoint.settings import Arrival
from llmlat.measure.prompts import Request


class Loads:
    """Makes loads of requests, and knows which request an exchange belongs to.

    Parameters
    ----------
    plan : EndpointPlan
    fields : mapping
        What this server takes beyond what every one does.
    seed : int
        Of what is drawn: sampled tokens, and the times of Poisson arrivals.
    """

    def __init__(self, plan: EndpointPlan, fields: Mapping[str, Any], seed: int) -> None:
        self._plan = plan
        self._fields = fields
        self._seed = seed
        self._requests: dict[int, Request] = {}

    def request(self, request_id: int) -> Request | None:
        """Return a request that was sent in a block."""
        return self._requests.get(request_id)

    def of(self, block: Sequence[Request]) -> Load:
        """Return what sends a block as the arrival pattern says."""
        self._requests.update((request.request_id, request) for request in block)
        endpoint, offsets_s = self._plan.endpoint, None
        if endpoint.arrival is Arrival.poisson:
            assert endpoint.rate_per_s is not None
            # By the first request: what is left of a broken-off run is a load of its own.
            drawn_from = (self._seed, block[0].request_id + 1)
            offsets_s = poisson_offsets_s(len(block), endpoint.rate_per_s, drawn_from)
        return Load([self._job(request) for request in block], endpoint.most_in_flight, offsets_s)

    def single(self, request: Request, n_tokens: int) -> Load:
        """Return what sends one request by itself, for so many tokens."""
        return Load([self._job(replace(request, max_new_tokens=n_tokens))], 1)

    def _job(self, request: Request) -> Job:
        # Some servers take no seed that is too large for 32 bits and a sign.
        seed = request.draw_seed(self._seed) & 0x7FFFFFFF
        body = self._plan.body(request, seed, self._fields)
        return Job(request.request_id, json.dumps(body).encode())
