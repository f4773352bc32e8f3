"""Pure Raft nodes whose logs are driven apart on purpose, and leaders that are left behind: schedules that chance does not make.

Figure 8 of the paper needs a leader with an entry of an older term on a majority, its own on a minority, and a rival with a better
log than that majority: each of the three needs a leader cut off at the right moment. So this nemesis makes leaders and cuts them
off right after their first entries, again and again; lets one of them come back, and watches it bring an older entry to a
majority; at that very moment it takes the leader away and lets those campaign who are without the entry. Nothing may be lost.

A stale read needs a leader that has served its term, is replaced without hearing of it, and is asked after its successor has
committed: the leader is cut off together with a client. It must not answer.

Invariants: as in `test_raft_safety`, whose cluster and checks this is; elections come by `campaign` only, nobody's time goes on
until the cluster heals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from core_py.raft.messages import StateRole
from core_py.raft.node import RawNode
from tests.sim.test_raft_safety import Cluster, Server, check_log_matching, has_led
from tests.sim.trace import Trace
from tests.sim.world import Options, Outcome, SeedFailed

ROUNDS = 12
OPTIONS = Options("core-divergence")


class DivergingCluster(Cluster):
    """Five voters; an append carries one entry, so that a leader's own comes after the older ones."""

    def __init__(self, seed: int, trace: Trace) -> None:
        self.told = trace
        super().__init__(seed)
        self.stats |= {"cut off": 0, "strikes": 0, "left behind": 0}

    def choose_conditions(self) -> None:
        """Elections are not held back by anything, and nothing is lost but by cuts."""
        self.size, self.loss, self.max_bytes = 5, 0.0, 0
        self.lockstep = self.calm = False

    def note(self, *parts: object) -> None:
        """Keep the event for whoever has to read a failure."""
        super().note(*parts)
        line = " ".join(str(part) for part in parts)
        self.told.lines.append(line)
        if self.told.echo:
            print(line)

    @property
    def voters(self) -> list[Server]:
        """Those that vote, in order."""
        return [self.servers[peer] for peer in range(1, self.size + 1)]

    def play(self) -> None:
        """Leave a leader behind; drive logs apart, strike, mend; many times."""
        for _ in range(ROUNDS):
            self.leave_behind()
            away = self.drive_apart()
            self.provoke(away)
            self.mend()
            check_log_matching(self)

    # -- what a round consists of --------------------------------------------------------------------------------

    def leave_behind(self) -> None:
        """The others replace a leader that serves its clients, and commit; a client that has stayed with it reads."""
        old = self.serving_leader()
        if old is None:
            return
        others = self.shuffled(server for server in self.voters if server is not old)
        self.part({old.id, *(server.id for server in others[: self.rng.randrange(2)])})
        new = self.elect([server for server in others if server.id not in self.cut])
        if new is None:
            return
        self.propose(new)
        self.turns(self.rng.randrange(10, 25))
        if old.node is None or not has_led(old.node) or old.node.committed >= max(self.committed, default=0):
            return
        self.stats["left behind"] += 1
        self.read(old)
        self.turns(self.rng.randrange(10))
        self.part(set())

    def drive_apart(self) -> set[int]:
        """Leaders, each cut off with what it has just appended; who was cut off last."""
        away: set[int] = set()
        for _ in range(self.rng.choice((2, 2, 3))):
            leader = self.elect(self.shuffled(server for server in self.voters if server.id not in away))
            if leader is None:
                continue
            others = [server.id for server in self.voters if server is not leader]
            away = {leader.id, *self.rng.sample(others, self.rng.choice((0, 0, 1)))}
            self.part(away)
            self.stats["cut off"] += 1
            for _ in range(self.rng.randrange(3)):
                self.propose(leader)
            self.turns(self.rng.randrange(2, 8))
        return away

    def provoke(self, away: set[int]) -> None:
        """Without those who are away somebody leads, until a majority has an entry that is older than its term."""
        self.part(away)
        leader = self.elect(self.shuffled(server for server in self.voters if server.id not in away))
        if leader is None or leader.node is None:
            return
        node, known = leader.node, leader.node.committed
        if not self.turns(40, until=lambda: has_older_majority(node, known)):
            return
        self.stats["strikes"] += 1
        self.note("strike", leader.id, "term", node.term)
        self.take_ready(leader, node)  # what it believes committed, it applies
        self.apply_some(leader, node, len(leader.to_apply))
        if self.rng.random() < 0.8:
            self.network.clear()
        if self.rng.random() < 0.5:
            self.crash(leader)
            self.part(set())
        else:
            self.part({leader.id})
        without = [server for server in self.voters if server.id in away]
        others = [server for server in self.voters if server.id not in away and server is not leader]
        self.elect([*without, *self.shuffled(others)])
        self.turns(self.rng.randrange(20))

    def mend(self) -> None:
        """All run and hear each other, and somebody commits."""
        self.part(set())
        leader = self.elect(self.shuffled(self.voters))
        self.turns(self.rng.randrange(10, 30))
        if leader is not None:
            self.propose(leader)
        self.turns(self.rng.randrange(10, 30))

    # -- steps ---------------------------------------------------------------------------------------------------

    def shuffled(self, servers: Iterable[Server]) -> list[Server]:
        """In an order of the seed's."""
        found = list(servers)
        self.rng.shuffle(found)
        return found

    def part(self, away: set[int]) -> None:
        """Cut these off from the others, and nobody else; whoever is down starts."""
        self.cut = set(away)
        self.note("cut", sorted(away))
        for server in self.voters:
            if server.node is None:
                self.note("restart", server.id)
                self.start(server, restarted=True)

    def serving_leader(self) -> Server | None:
        """Whoever leads the highest term and has committed in it."""
        leaders = [
            (server.node.term, server) for server in self.voters if server.node is not None and has_led(server.node)
        ]
        return max(leaders, key=lambda one: one[0])[1] if leaders else None

    def propose(self, server: Server) -> None:
        """A client writes, if it still finds the leader there."""
        self.counter += 1
        if server.node is not None and server.node.role is StateRole.LEADER:
            server.node.propose(b"c%d" % self.counter)

    def read(self, server: Server) -> None:
        """A client reads at a leader: the answer must know of all that was applied anywhere by now."""
        assert server.node is not None
        self.counter += 1
        context = b"r%d" % self.counter
        self.note("read", server.id, "term", server.node.term)
        server.node.read_index(context)
        self.reads[context] = (max(self.committed, default=0), server.id)

    def elect(self, candidates: list[Server]) -> Server | None:
        """Let them campaign in turn until one leads. Who leads already loses its office to a restart."""
        for server in candidates:
            if server.node is not None and server.node.role is StateRole.LEADER:
                self.note("crash", server.id)
                self.crash(server)
            if server.node is None:
                self.start(server, restarted=True)
            if self.wins(server):
                return server
        return None

    def wins(self, server: Server) -> bool:
        """Whether a campaign comes to its end soon."""
        node = server.node
        assert node is not None
        self.note("campaign", server.id)
        node.campaign()
        return self.turns(12, until=lambda: node.role is StateRole.LEADER)

    def turns(self, count: int, until: Callable[[], bool] = lambda: False) -> bool:
        """Loops turn and messages arrive, one at a time; True as soon as something is so."""
        for _ in range(count):
            for work in (self.take_ready, self.finish_write, self.apply_few):
                self.for_some(work)
            for _ in range(self.rng.randrange(1, 8)):
                self.deliver()
                if until():
                    break
            self.check()
            if until():
                return True
        return False

    def apply_few(self, server: Server, node: RawNode) -> None:
        """Apply a little of what is committed."""
        self.apply_some(server, node, 3)


def has_older_majority(node: RawNode, known: int) -> bool:
    """Whether a leader has brought an entry of an older term, behind index `known`, to a majority, but none of its own."""
    if node.role is not StateRole.LEADER:
        return False
    matches = [progress.match for peer in node.conf_state.voters if (progress := node.progress(peer)) is not None]
    index = sorted(matches, reverse=True)[len(matches) // 2]
    return index > known and node.raft_log.term(index) < node.term


def simulate(seed: int, options: Options = OPTIONS, make: type[DivergingCluster] = DivergingCluster) -> Outcome:
    """Run one seed. Raises SeedFailed."""
    trace = Trace(options.echo)
    try:
        cluster = make(seed, trace)
        cluster.play()
        cluster.heal()
        check_log_matching(cluster)
    except Exception as error:
        raise SeedFailed(options.name, seed, error, trace) from error
    return Outcome(trace.hexdigest(), cluster.stats["applied"], cluster.stats["reads"], [], cluster.stats)
