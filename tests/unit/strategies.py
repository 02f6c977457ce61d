"""What hypothesis draws in more than one test module."""

from __future__ import annotations

from hypothesis import strategies as st

from fastapi_rooms.core.names import MAX_NAME_BYTES


def _fits(name: str) -> bool:
    return 1 <= len(name.encode()) <= MAX_NAME_BYTES


any_text = st.text(st.characters(exclude_categories=["Cs"]))
"""Any Unicode but lone surrogates, which UTF-8 has not."""

room_names = st.one_of(
    any_text.filter(_fits),
    st.text("#/*\0a", min_size=1, max_size=6),  # what could be mistaken for a channel's own marks
    st.sampled_from(["x" * MAX_NAME_BYTES, "é" * (MAX_NAME_BYTES // 2), "🎉", "Room", "room"]),
)
"""Every kind of name that a room may have."""

namespaces = room_names.map(lambda name: "/" + name.replace("#", "")).filter(_fits)
node_ids = st.binary(min_size=8, max_size=8).map(bytes.hex)
