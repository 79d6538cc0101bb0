"""Server-sent events, and the arrival that completed each."""

import pytest

from llmlat.measure.endpoint.sse import events


def read(*arrivals: bytes) -> list[tuple[int, bytes]]:
    ends = [sum(map(len, arrivals[: n + 1])) for n in range(len(arrivals))]
    return list(events(b"".join(arrivals), ends))


def test_an_event_belongs_to_the_arrival_of_its_last_byte():
    assert read(b"data: a\n\n", b"data: b\n\ndata: c\n\nda", b"ta: d\n", b"\n") == [
        (0, b"a"), (1, b"b"), (1, b"c"), (3, b"d"),
    ]  # fmt: skip


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_lines_end_in_three_ways(end):
    assert read(b"data: a" + end + b"data: b" + end + end) == [(0, b"a\nb")]


def test_a_carriage_return_ends_an_event_before_its_line_feed_has_come():
    assert read(b"data: a\r\n\r", b"\ndata: b\r\n\r\n") == [(0, b"a"), (1, b"b")]


def test_comments_other_fields_and_a_byte_order_mark_are_passed_over():
    assert read(b"\xef\xbb\xbfdata:a\n: ping\nevent: message\nid: 3\n\n: ping\n\n") == [(0, b"a")]


def test_an_event_without_its_empty_line_is_none():
    assert read(b"data: a\n\ndata: b\n") == [(0, b"a")]
    assert read(b"") == []
