"""Labels of stores: what they may look like, how reported ones join those set by hand, and whether they fit the location
labels. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from core_py.errors import PdError
from protos.kvproto import metapb_pb2

KEY_FORMAT = "^[$]?[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?$"
VALUE_FORMAT = "^[-A-Za-z0-9_./]*$"
RESERVED = ("engine", "engine_role")
"""Labels by which a store says what kind of engine it is; nobody else sets them, and they are no location."""
LABELS_MAX = 64
CHARS_MAX = 256

Labels = Iterable[tuple[str, str]]


def validate(labels: Labels) -> None:
    """Raise PdError for a label that the public server would not take."""
    pairs = list(labels)
    if len(pairs) > LABELS_MAX:
        raise PdError(f"{len(pairs)} labels are more than {LABELS_MAX}")
    for key, value in pairs:
        _match(key, KEY_FORMAT)
        _match(value, VALUE_FORMAT)


def _match(text: str, form: str) -> None:
    if len(text) > CHARS_MAX or text.endswith("\n") or re.match(form, text) is None:
        raise PdError(f'{text[:CHARS_MAX]} does not match format "{form}"')


def merge(known: Labels, news: Labels) -> list[tuple[str, str]]:
    """The labels after an update: keys compare without case, an empty value removes a label."""
    merged = [[key, value] for key, value in known]
    for key, value in news:
        same = next((pair for pair in merged if pair[0].lower() == key.lower()), None)
        if same is None:
            merged.append([key, value])
        else:
            same[1] = value
    return [(key, value) for key, value in merged if value]


def of(meta: metapb_pb2.Store) -> list[tuple[str, str]]:
    """A store's labels."""
    return [(label.key, label.value) for label in meta.labels]


def put(meta: metapb_pb2.Store, labels: Labels) -> None:
    """Set a store's labels."""
    del meta.labels[:]
    for key, value in labels:
        meta.labels.add(key=key, value=value)


def check_location(labels: Labels, location_labels: Iterable[str], *, is_strict: bool) -> None:
    """With strict matching a store has a value for each location label, and no other labels. Raises PdError."""
    if not is_strict:
        return
    wanted = list(location_labels)
    present: Mapping[str, str] = {key.lower(): value for key, value in labels}
    for key in wanted:
        if not present.get(key.lower()):
            raise PdError(f"label configuration is incorrect, need to specify the key: {key} ")
    for key, _ in labels:
        if key not in wanted and key not in RESERVED:
            raise PdError(f"key matching the label was not found in the PD, store label key: {key} ")
