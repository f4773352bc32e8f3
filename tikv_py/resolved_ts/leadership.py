"""One round of asking the other stores: which of this store's regions a quorum still knows as led from here.

Pure: what to send and what the answers mean. A region is settled as soon as a quorum of its voters (of both halves, while its
membership is joint) has the leader's term and knows it as leader; the store that asks counts as one of them. A region whose
leader is alone is settled without an answer.

Invariants: an answer counts for the peer that the region's membership names on the answering store; a request holds at most
`REGIONS_PER_REQUEST` regions, so that nobody is kept busy for long. Tests: tests/unit/resolved_ts/test_leadership.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from core_py.raft.messages import ConfState
from core_py.raft.quorum import VoteResult, joint_vote
from protos.kvproto import kvrpcpb_pb2, metapb_pb2
from tikv_py.resolved_ts.progress import Claim

REGIONS_PER_REQUEST = 512


@dataclass(slots=True)
class Candidate:
    """A region led from here, and the claim that holds if that is true."""

    region: metapb_pb2.Region
    peer_id: int
    term: int
    conf: ConfState
    claim: Claim
    published: Claim
    """The last one that was settled; the other replicas learn it by this round."""
    agreed: dict[int, bool] = field(default_factory=dict)

    def is_settled(self) -> bool:
        """Whether a quorum agrees."""
        return joint_vote(self.conf.voters, self.conf.voters_outgoing, self.agreed) is VoteResult.WON


class LeadershipRound:
    """See the module's text."""

    def __init__(self, store_id: int, ts: int) -> None:
        self._store_id = store_id
        self._ts = ts
        self._open: dict[int, Candidate] = {}
        self._requests: dict[int, list[kvrpcpb_pb2.CheckLeaderRequest]] = {}

    def add(self, candidate: Candidate) -> bool:
        """Ask about a region; whether it is settled already."""
        info = _leader_info(candidate)
        for member in candidate.region.peers:
            if member.store_id != self._store_id:
                self._request_for(member.store_id).regions.append(info)
        candidate.agreed[candidate.peer_id] = True
        if len(candidate.conf.voters) == 1 and candidate.is_settled():
            return True
        self._open[candidate.region.id] = candidate
        return False

    def _request_for(self, store_id: int) -> kvrpcpb_pb2.CheckLeaderRequest:
        requests = self._requests.setdefault(store_id, [])
        if not requests or len(requests[-1].regions) >= REGIONS_PER_REQUEST:
            requests.append(kvrpcpb_pb2.CheckLeaderRequest(ts=self._ts))
        return requests[-1]

    def requests(self) -> dict[int, Sequence[kvrpcpb_pb2.CheckLeaderRequest]]:
        """What to send, by store."""
        return dict(sorted(self._requests.items()))

    def unsettled(self) -> int:
        """How many regions still lack a quorum."""
        return len(self._open)

    def on_answer(self, store_id: int, region_ids: Iterable[int]) -> list[Candidate]:
        """A store agrees about these regions; the ones that this settles."""
        settled = []
        for region_id in region_ids:
            candidate = self._open.get(region_id)
            if candidate is None:
                continue
            for member in candidate.region.peers:
                if member.store_id == store_id:
                    candidate.agreed[member.id] = True
            if candidate.is_settled():
                settled.append(self._open.pop(region_id))
        return settled


def _leader_info(candidate: Candidate) -> kvrpcpb_pb2.LeaderInfo:
    region = candidate.region
    info = kvrpcpb_pb2.LeaderInfo(region_id=region.id, peer_id=candidate.peer_id, term=candidate.term)
    info.region_epoch.CopyFrom(region.region_epoch)
    if candidate.published.ts:
        state = info.read_state
        state.applied_index, state.safe_ts = candidate.published
    return info
