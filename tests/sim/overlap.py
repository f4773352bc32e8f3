"""Pure Raft nodes whose members change two at a time while the cluster falls apart along the line where that would hurt.

A leader asks for a second change before the first is applied, or for both at once. If one old majority could decide both, a
majority of the newest configuration need not overlap with one of the oldest: so as soon as the change is committed at the leader,
and before others hear of it, the cluster is cut into just these two, and both sides elect and write. With one change at a time, or
a joint configuration between, no two majorities are disjoint, and one of the sides waits.

Invariants: see `divergence`, whose steps these are. Voters leave, then those come back that did.
"""

from __future__ import annotations

from core_py.raft.errors import ConfChangeRefused, NotLeaderError, ProposalDropped
from core_py.raft.messages import ConfChange, ConfChangeSingle, ConfChangeType, StateRole
from tests.sim import divergence
from tests.sim.divergence import DivergingCluster
from tests.sim.test_raft_safety import Server, check_log_matching, encode
from tests.sim.world import Options, Outcome

ROUNDS = 12
OPTIONS = Options("core-overlap")


class OverlappingCluster(DivergingCluster):
    """Five servers, of which three to five vote."""

    def play(self) -> None:
        """Change, part, mend; many times."""
        self.stats |= {"together": 0, "in a row": 0, "refused": 0, "parted": 0}
        for _ in range(ROUNDS):
            self.mend()
            leader = self.serving_leader()
            if leader is not None:
                self.change_twice(leader)
            check_log_matching(self)

    def change_twice(self, leader: Server) -> None:
        """Two changes, and a cut as soon as they are committed at the leader."""
        node = leader.node
        assert node is not None
        before = set(node.conf_state.voters)
        others = self.shuffled(server for server in self.voters if server is not leader)
        missing = [server.id for server in others if server.id not in before]
        kind = ConfChangeType.ADD_NODE if missing else ConfChangeType.REMOVE_NODE
        changed = missing[:2] or [server.id for server in others if server.id in before][:2]
        singles = tuple(ConfChangeSingle(kind, peer) for peer in changed)
        together = self.rng.random() < 0.3
        for change in [singles] if together else [(single,) for single in singles]:
            self.propose_change(leader, ConfChange(change))
        last = node.last_index
        self.stats["together" if together else "in a row"] += 1
        if not self.turns(60, until=lambda: node.role is StateRole.LEADER and node.committed >= last):
            return
        self.network.clear()  # with the news of the commit
        kept = [server.id for server in others if server.id in before and server.id not in changed]
        self.part({leader.id, *(changed if missing else kept[:1])})
        self.stats["parted"] += 1
        for _ in range(3):
            self.propose(leader)
            self.turns(self.rng.randrange(5, 15))
        rival = self.elect([server for server in others if server.id not in self.cut])
        if rival is not None:
            self.propose(rival)
        self.turns(self.rng.randrange(10, 20))

    def propose_change(self, server: Server, change: ConfChange) -> None:
        """Ask for a change of the members; the leader may refuse it."""
        assert server.node is not None
        self.note("change", server.id, change)
        try:
            server.node.propose_conf_change(change, encode(change))
        except (NotLeaderError, ProposalDropped, ConfChangeRefused) as error:
            self.note("refused", type(error).__name__)
            self.stats["refused"] += 1


def simulate(seed: int, options: Options = OPTIONS) -> Outcome:
    """Run one seed. Raises SeedFailed."""
    return divergence.simulate(seed, options, OverlappingCluster)
