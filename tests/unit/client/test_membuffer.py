"""The buffer against a dumb oracle: a plain dictionary that is copied at every checkpoint."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tikv_py.client.errors import KeyExistsError, TxnTooLarge
from tikv_py.client.txn.membuffer import BufferedOp, Entry, MemBuffer

KEYS = st.sampled_from([b"", b"a", b"b", b"ba", b"c"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["put", "insert", "delete"]), KEYS, st.binary(max_size=3)),
        st.tuples(st.sampled_from(["mark", "back"]), st.just(b""), st.just(b"")),
    ),
    max_size=40,
)


@given(STEPS, KEYS, KEYS)
def test_against_copies(steps: list[tuple[str, bytes, bytes]], low: bytes, high: bytes) -> None:
    buffer = MemBuffer()
    marks: list[tuple[int, dict[bytes, Entry]]] = []
    for what, key, value in steps:
        if what == "mark":
            marks.append((buffer.checkpoint(), dict(buffer.items())))
        elif what == "back" and marks:
            mark, want = marks.pop()
            buffer.rollback_to(mark)
            assert dict(buffer.items()) == want
        elif what == "put":
            buffer.put(key, value)
        elif what == "delete":
            buffer.delete(key)
        elif what == "insert":
            known = buffer.get(key)
            if known is not None and known.is_live:
                with pytest.raises(KeyExistsError):
                    buffer.insert(key, value)
            else:
                buffer.insert(key, value)
        buffer.check_invariants()
    inside = [key for key, _ in buffer.items() if low <= key and (not high or key < high)]
    first, last = buffer.first(low, high, reverse=False), buffer.first(low, high, reverse=True)
    assert (first[0] if first else None) == (inside[0] if inside else None)
    assert (last[0] if last else None) == (inside[-1] if inside else None)


def test_insert_then_delete_leaves_a_check() -> None:
    buffer = MemBuffer()
    buffer.insert(b"a", b"1")
    buffer.delete(b"a")
    assert buffer.get(b"a") == Entry(BufferedOp.CHECK_NOT_EXISTS, existed=False)
    buffer.put(b"a", b"2")
    assert buffer.get(b"a") == Entry(BufferedOp.INSERT, b"2", existed=False)


def test_size_limit() -> None:
    buffer = MemBuffer(max_txn_bytes=10)
    buffer.put(b"a", b"12345678")
    with pytest.raises(TxnTooLarge):
        buffer.put(b"b", b"1")
    buffer.put(b"a", b"")
    buffer.put(b"b", b"1")
