"""The databases of a stopped store as a target. A running store holds their locks, so it cannot be read this way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from core_py.errors import StorageError
from protos.kvproto import debugpb_pb2 as debugpb
from protos.kvproto import eraftpb_pb2
from tikv_py.ctl.target import MvccItem
from tikv_py.debug.inspect import Inspector, sizes, write_statistics
from tikv_py.debug.mvcc_scan import mvcc_view, scan_mvcc
from tikv_py.engine.port import CF_DEFAULT, CF_WRITE, DATA_CFS, Engine, Pair
from tikv_py.engine.rocks import RocksEngine

SLICE_PAIRS = 1 << 30  # nothing else wants this process's time


class StoreIsRunning(StorageError):
    """The data directory is in use."""

    code = "KV:Ctl:StoreIsRunning"


class LocalTarget:
    """See `tikv_py.ctl.target.Target`."""

    def __init__(self, raft_db: Engine, kv_db: Engine) -> None:
        self.inspector = Inspector(raft_db, kv_db)

    @classmethod
    def open(cls, data_dir: str) -> LocalTarget:
        """Open `<data_dir>/db` and `<data_dir>/raft`. Raises StorageError, StoreIsRunning."""
        directory = Path(data_dir)
        for part in ("db", "raft"):
            if not (directory / part / "CURRENT").is_file():
                raise StorageError(f"{directory} is no data directory of a store: there is no database in {part}/")
        kv_db = _open(directory / "db", None)
        try:
            raft_db = _open(directory / "raft", (CF_DEFAULT,))
        except StorageError:
            kv_db.close()
            raise
        return cls(raft_db, kv_db)

    async def region_ids(self) -> Sequence[int]:
        """All regions, tombstones included."""
        return self.inspector.region_ids()

    async def region_info(self, region_id: int) -> debugpb.RegionInfoResponse:
        """A region's states."""
        return self.inspector.region_info(region_id)

    async def raft_log(self, region_id: int, index: int) -> eraftpb_pb2.Entry:
        """A log entry."""
        return self.inspector.raft_log(region_id, index)

    async def region_size(self, region_id: int, cfs: Sequence[str]) -> debugpb.RegionSizeResponse:
        """Bytes per family."""
        wanted = list(cfs) or list(DATA_CFS)
        view = self.inspector.view(region_id, wanted)
        try:
            found = [entry for entry in sizes(view, wanted, SLICE_PAIRS) if entry is not None]
        finally:
            view.release()
        return debugpb.RegionSizeResponse(entries=found)

    async def region_properties(self, region_id: int) -> Sequence[debugpb.Property]:
        """Counts of rows and versions."""
        view = self.inspector.view(region_id, [CF_WRITE])
        try:
            found = [one for one in write_statistics(view, SLICE_PAIRS) if one is not None]
        finally:
            view.release()
        return found[0].properties()

    async def get(self, db: int, cf: str, key: bytes) -> bytes:
        """An engine key's value."""
        return self.inspector.get(db, cf, key)

    async def scan_mvcc(self, start: bytes, end: bytes, limit: int) -> AsyncIterator[MvccItem]:
        """Keys with their versions."""
        view = mvcc_view(self.inspector.kv_db, start, end, limit)
        try:
            for key, info in scan_mvcc(view, limit):
                yield debugpb.ScanMvccResponse(key=key, info=info)
        finally:
            view.release()

    def raw_scan(self, cf: str, start: bytes, end: bytes, limit: int) -> list[Pair]:
        """Engine pairs as they are. Raises BadQuestion for an unknown family."""
        return self.inspector.engine(debugpb.KV, cf).scan(cf, start, end, limit)

    async def compact(self, db: int, cf: str, start: bytes, end: bytes) -> None:
        """Rewrite a range."""
        self.inspector.engine(db, cf).compact(cf, start, end)

    async def store_id(self) -> int:
        """Who the store is."""
        return self.inspector.identity().store_id

    async def cluster_id(self) -> int:
        """Whose it is."""
        return self.inspector.identity().cluster_id

    async def close(self) -> None:
        """Release the locks."""
        self.inspector.raft_db.close()
        self.inspector.kv_db.close()


def _open(path: Path, cfs: tuple[str, ...] | None) -> Engine:
    try:
        return RocksEngine(str(path)) if cfs is None else RocksEngine(str(path), cfs)
    except StorageError as error:
        if "lock" in error.message.lower():
            raise StoreIsRunning(
                f"{path} is in use: its store is running. Stop it first, or ask it with --host instead of --data-dir"
            ) from error
        raise
