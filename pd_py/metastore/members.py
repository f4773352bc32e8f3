"""The members of PD: who they are, as values, and how the first of them come to one mind without having met. Pure.

`--initial-cluster pd1=http://a:2380,pd2=http://b:2380` names all first members; each derives the same ids from names, peer URLs
and the cluster's token. A member that joins later gets its id from the running cluster.

Invariant: an id is never used twice: a lost member that comes back with an empty disk has forgotten its votes, so it joins anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

from core_py.errors import ConfigError
from protos.private import metaraft_pb2

MAX_MEMBERS = 9
MAX_URL_LENGTH = 512


@dataclass(frozen=True, slots=True)
class Member:
    """One member. `client_urls` is empty until it has run once."""

    id: int
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...] = ()
    is_learner: bool = False

    @property
    def peer_address(self) -> str:
        """host:port where other members reach it."""
        return bare_address(self.peer_urls[0]) if self.peer_urls else ""

    @property
    def client_address(self) -> str:
        """host:port where clients reach it."""
        return bare_address(self.client_urls[0]) if self.client_urls else ""


def bare_address(url: str) -> str:
    """host:port of a URL."""
    return url.split("://", 1)[-1].rstrip("/")


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1 or 1


def member_id(name: str, peer_url: str, token: str) -> int:
    """The id of a first member."""
    return _number(f"member\n{token}\n{name}\n{peer_url}")


def group_id(members: Iterable[Member], token: str) -> int:
    """What a group of first members calls itself; messages of any other group are refused."""
    ids = sorted(member.id for member in members)
    return _number(f"group\n{token}\n{ids}")


def parse_initial_cluster(text: str, token: str) -> tuple[Member, ...]:
    """The first members, by id. Raises ConfigError."""
    urls: dict[str, list[str]] = {}
    for part in (part.strip() for part in text.split(",")):
        name, equals, url = part.partition("=")
        if not equals or not name or not url or len(url) > MAX_URL_LENGTH:
            raise ConfigError(f'initial-cluster: {part!r} is not of the form "name=http://host:2380"')
        urls.setdefault(name, []).append(url)
    members = [Member(member_id(name, found[0], token), name, tuple(found)) for name, found in urls.items()]
    if len(members) > MAX_MEMBERS:
        raise ConfigError(f"initial-cluster names {len(members)} members; {MAX_MEMBERS} is the limit")
    seen = [url for member in members for url in member.peer_urls]
    if len(set(seen)) < len(seen):
        raise ConfigError("initial-cluster names a peer URL twice")
    return tuple(sorted(members, key=lambda member: member.id))


def to_pb(member: Member) -> metaraft_pb2.Member:
    """For the log and the wire."""
    return metaraft_pb2.Member(
        id=member.id,
        name=member.name,
        peer_urls=member.peer_urls,
        client_urls=member.client_urls,
        is_learner=member.is_learner,
    )


def from_pb(member: metaraft_pb2.Member) -> Member:
    """The inverse of `to_pb`."""
    return Member(member.id, member.name, tuple(member.peer_urls), tuple(member.client_urls), member.is_learner)


class MemberTable:
    """All members by id, as the log says; part of the state machine."""

    def __init__(self) -> None:
        self._by_id: dict[int, Member] = {}

    def __contains__(self, member_id: int) -> bool:
        return member_id in self._by_id

    def all(self) -> list[Member]:
        """All members, by id."""
        return [self._by_id[number] for number in sorted(self._by_id)]

    def get(self, member_id: int) -> Member | None:
        """One member."""
        return self._by_id.get(member_id)

    def load(self, members: Iterable[Member]) -> None:
        """Begin anew with these."""
        self._by_id = {member.id: member for member in members}

    def apply(self, change: metaraft_pb2.MemberChange) -> None:
        """A change of the log. One that names an unknown member changes nothing, but for an addition."""
        member = from_pb(change.member)
        known = self._by_id.get(member.id)
        if change.kind == metaraft_pb2.MemberChange.ADD_LEARNER:
            self._by_id[member.id] = replace(member, is_learner=True)
        elif known is None:
            return
        elif change.kind == metaraft_pb2.MemberChange.REMOVE:
            del self._by_id[member.id]
        elif change.kind == metaraft_pb2.MemberChange.PROMOTE:
            self._by_id[member.id] = replace(known, is_learner=False)
        else:
            self._by_id[member.id] = replace(
                known,
                name=member.name or known.name,
                peer_urls=member.peer_urls or known.peer_urls,
                client_urls=member.client_urls or known.client_urls,
            )
