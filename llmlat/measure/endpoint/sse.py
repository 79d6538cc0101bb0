"""Server-sent events in an answer's bytes, and the arrival that completed each.

The format is the WHATWG HTML standard's, section 9.2 ("Server-sent events"): lines end with CR, LF or both,
`data` fields of one event are joined by line feeds, a line that begins with a colon is a comment, and an
event ends with an empty line. Names, ids and retry times are of no use here.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence

_LINE = re.compile(rb"([^\r\n]*)(\r\n|\n|\r)")
_BOM = b"\xef\xbb\xbf"


def events(body: bytes, arrival_end: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    """Yield the data of each event, after the arrival with which it was complete.

    An event that the stream's end leaves without its empty line is none, as the standard says.

    Parameters
    ----------
    body : bytes
        Everything that came.
    arrival_end : sequence of int
        How much of it had come by each arrival.
    """
    data: list[bytes] = []
    for line in _LINE.finditer(body):
        content = line[1].removeprefix(_BOM) if line.start() == 0 else line[1]
        if content:
            name, _, value = content.partition(b":")
            if name == b"data":
                data.append(value.removeprefix(b" "))
        elif data:
            # A line feed that comes after its carriage return, in a later arrival, is not waited for.
            end = line.end(1) + 1
            yield bisect_left(arrival_end, end), b"\n".join(data)
            data = []
