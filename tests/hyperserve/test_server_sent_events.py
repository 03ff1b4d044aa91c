"""Server-sent events are parsed from bytes split anywhere."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperserve.server_sent_events import Event, EventParser

STREAM = (
    b': a comment\n\nid: 1\nevent: job\ndata: {"a":\ndata:1}\n\n'
    b"data: \xe2\x80\xa8 is no line end\r\n\r\nevent: end\r\r"
)
EVENTS = [
    Event("job", '{"a":\n1}', "1"),
    Event("message", "\u2028 is no line end", "1"),
    Event("end", "", "1"),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_however_the_bytes_are_cut_the_events_are_the_same(cuts: list[int]) -> None:
    parser = EventParser()
    edges = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[start:end] for start, end in pairwise(edges)]
    # A carriage return at the end of all is held back, as half of a line end.
    assert [event for piece in [*pieces, b"\n"] for event in parser.feed(piece)] == EVENTS


@pytest.mark.parametrize(
    "data", [b"", b"\n\n\n", b": ping\n\n", b"data: unfinished\n", b"id: 7\n\n", b"retry: 1\n\n"]
)
def test_what_is_no_event_says_nothing(data: bytes) -> None:
    assert EventParser().feed(data) == []
