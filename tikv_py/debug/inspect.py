"""Reading a store's records past raft: what the Debug service answers and what `tikv-py ctl` reads of a stopped store.

Only reads, on whatever the two databases hold at this moment; a running store's newest turn may be half way between them.
Answers are `debugpb` messages, so that both callers show the same thing. Long work comes as iterators over a frozen view, to be
driven in slices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from core_py.errors import DbError
from protos.kvproto import debugpb_pb2 as debugpb
from protos.kvproto import eraftpb_pb2
from protos.kvproto import raft_serverpb_pb2 as serverpb
from tikv_py.engine.port import CF_DEFAULT, CF_RAFT, DATA_CFS, KV_CFS, Engine, Range, Snapshot
from tikv_py.mvcc.keys import split_version
from tikv_py.mvcc.write import Write, WriteType
from tikv_py.raftstore import keys


class NotThere(DbError):
    """The key, region or log entry that was asked for is not in this store."""

    code = "KV:Debug:NotFound"


class BadQuestion(DbError):
    """The request makes no sense: an unknown column family, a range without an end."""

    code = "KV:Debug:InvalidArgument"


@dataclass(slots=True)
class WriteStatistics:
    """What the write records of a region say about its transactions."""

    rows: int = 0
    versions: int = 0
    puts: int = 0
    deletes: int = 0
    max_row_versions: int = 0
    min_ts: int = 0
    max_ts: int = 0
    _row: bytes = b""
    _row_versions: int = field(default=0)

    def add(self, key: bytes, value: bytes) -> None:
        """Take one record in, in the order of keys. Raises CodecError."""
        data_key, commit_ts = split_version(key)
        kind = Write.from_bytes(value).write_type
        if data_key != self._row:
            self._row, self._row_versions = data_key, 0
            self.rows += 1
        self._row_versions += 1
        self.max_row_versions = max(self.max_row_versions, self._row_versions)
        self.versions += 1
        self.puts += kind is WriteType.PUT
        self.deletes += kind is WriteType.DELETE
        self.min_ts = min(self.min_ts or commit_ts, commit_ts)
        self.max_ts = max(self.max_ts, commit_ts)

    def properties(self) -> list[debugpb.Property]:
        """Under the names tikv-ctl shows."""
        found = {
            "mvcc.min_ts": self.min_ts,
            "mvcc.max_ts": self.max_ts,
            "mvcc.num_rows": self.rows,
            "mvcc.num_puts": self.puts,
            "mvcc.num_deletes": self.deletes,
            "mvcc.num_versions": self.versions,
            "mvcc.max_row_versions": self.max_row_versions,
        }
        return [debugpb.Property(name=name, value=str(value)) for name, value in found.items()]


class Inspector:
    """The two databases of one store."""

    def __init__(self, raft_db: Engine, kv_db: Engine) -> None:
        self.raft_db = raft_db
        self.kv_db = kv_db

    def engine(self, db: int, cf: str) -> Engine:
        """The database a request names. Raises BadQuestion for one, or a column family, that does not exist."""
        families: tuple[str, ...]
        if db == debugpb.KV:
            engine, families = self.kv_db, KV_CFS
        elif db == debugpb.RAFT:
            engine, families = self.raft_db, (CF_DEFAULT,)
        else:
            raise BadQuestion("name a database: kv or raft")
        if cf not in families:
            raise BadQuestion(f"column family {cf!r} is none of {', '.join(families)}")
        return engine

    def get(self, db: int, cf: str, key: bytes) -> bytes:
        """The value of an engine key. Raises NotThere, BadQuestion."""
        value = self.engine(db, cf).get(cf, key)
        if value is None:
            raise NotThere(f"key {key.hex()} is not in family {cf}")
        return value

    def raft_log(self, region_id: int, index: int) -> eraftpb_pb2.Entry:
        """One log entry. Raises NotThere."""
        data = self.raft_db.get(CF_DEFAULT, keys.log_key(region_id, index))
        if data is None:
            raise NotThere(f"entry {index} of region {region_id} is not in the raft log")
        return eraftpb_pb2.Entry.FromString(data)

    def region_info(self, region_id: int) -> debugpb.RegionInfoResponse:
        """The three states of a region; those it does not have stay unset. Raises NotThere when it has none."""
        response = debugpb.RegionInfoResponse()
        raft = self.raft_db.get(CF_DEFAULT, keys.raft_state_key(region_id))
        if raft is not None:
            response.raft_local_state.ParseFromString(raft)
        apply = self.kv_db.get(CF_RAFT, keys.apply_state_key(region_id))
        if apply is not None:
            response.raft_apply_state.ParseFromString(apply)
        local = self.kv_db.get(CF_RAFT, keys.region_state_key(region_id))
        if local is not None:
            response.region_local_state.ParseFromString(local)
        if raft is None and apply is None and local is None:
            raise NotThere(f"region {region_id} is not on this store")
        return response

    def region_state(self, region_id: int) -> serverpb.RegionLocalState:
        """The region with its bounds and peers. Raises NotThere."""
        data = self.kv_db.get(CF_RAFT, keys.region_state_key(region_id))
        if data is None:
            raise NotThere(f"region {region_id} is not on this store")
        return serverpb.RegionLocalState.FromString(data)

    def region_ids(self) -> list[int]:
        """All regions with a state, tombstones included."""
        found = self.kv_db.scan(CF_RAFT, keys.REGION_META_MIN, keys.REGION_META_MAX)
        return [keys.decode_region_state_key(key) for key, _ in found]

    def identity(self) -> serverpb.StoreIdent:
        """Who the store is. Raises NotThere on a directory that never joined a cluster."""
        data = self.kv_db.get(CF_DEFAULT, keys.STORE_IDENT_KEY)
        if data is None:
            raise NotThere("the store has no identity: it has never joined a cluster")
        return serverpb.StoreIdent.FromString(data)

    def view(self, region_id: int, cfs: Sequence[str]) -> Snapshot:
        """A frozen view of a region with a stream per family. Raises NotThere, BadQuestion."""
        unknown = [cf for cf in cfs if cf not in DATA_CFS]
        if unknown:
            raise BadQuestion(f"column family {unknown[0]!r} is none of {', '.join(DATA_CFS)}")
        region = self.region_state(region_id).region
        start, end = keys.data_range(region.start_key, region.end_key)
        return self.kv_db.snapshot([Range(cf, start, end) for cf in cfs])


def sizes(view: Snapshot, cfs: Sequence[str], slice_pairs: int) -> Iterator[debugpb.RegionSizeResponse.Entry | None]:
    """The bytes of each family; gives None after every slice of so many pairs."""
    for cf, stream in zip(cfs, view.streams, strict=True):
        total = 0
        for count, (key, value) in enumerate(stream, 1):
            total += len(key) + len(value)
            if count % slice_pairs == 0:
                yield None
        yield debugpb.RegionSizeResponse.Entry(cf=cf, size=total)


def write_statistics(view: Snapshot, slice_pairs: int) -> Iterator[WriteStatistics | None]:
    """Statistics over the view's only stream, the write family; None after every slice. Raises CodecError."""
    statistics = WriteStatistics()
    for count, (key, value) in enumerate(view.streams[0], 1):
        statistics.add(key, value)
        if count % slice_pairs == 0:
            yield None
    yield statistics
