"""Giving a store its identity, and a cluster its first region.

The identity (cluster id, store id, API version of the raw values) is written to the data directory once. A directory of another
cluster is refused before anything else happens, and so is one with data of another API version, which would be misread.
The first store prepares region 1 on disk, then asks PD to accept it; a store that loses that race removes what it prepared. Both
steps may be repeated after a crash at any point.
"""

from __future__ import annotations

from core_py.errors import StorageError
from core_py.failpoints import UNARMED, FailPoints
from core_py.runtime.log import get_logger
from protos.kvproto import kvrpcpb_pb2, metapb_pb2
from protos.kvproto import raft_serverpb_pb2 as serverpb
from tikv_py.client.pd.client import PdClient
from tikv_py.client.pd.errors import AlreadyBootstrapped
from tikv_py.engine.port import CF_DEFAULT, CF_RAFT, DATA_CFS, Engine
from tikv_py.raftstore import keys
from tikv_py.raftstore.peer_storage import initial_apply_state, region_state_bytes

PREPARE_KEY = b"\x01\x02"
INIT_EPOCH = 1


async def identify(kv_db: Engine, pd: PdClient, *, ttl: bool = False) -> int:
    """The store's id, drawn from PD on a new directory; `ttl`: raw values carry an expiry (API V1TTL).

    Raises StorageError for another cluster's directory, or one with data of the other API version.
    """
    version = kvrpcpb_pb2.V1TTL if ttl else kvrpcpb_pb2.V1
    stored = kv_db.get(CF_DEFAULT, keys.STORE_IDENT_KEY)
    if stored is not None:
        ident = serverpb.StoreIdent.FromString(stored)
        if ident.cluster_id != pd.cluster_id:
            raise StorageError(
                f"the data directory belongs to cluster {ident.cluster_id}, PD serves cluster {pd.cluster_id};"
                " start the store with that cluster's PD, or with an empty data directory"
            )
        if ident.api_version != version:
            _switch_version(kv_db, ident, version)
        return ident.store_id
    if kv_db.scan(CF_RAFT, b"", b"", 1) or kv_db.scan(CF_DEFAULT, b"", b"", 1):
        raise StorageError("the data directory holds data without a store identity; use an empty one")
    store_id = await pd.alloc_id()
    _write_identity(kv_db, serverpb.StoreIdent(cluster_id=pd.cluster_id, store_id=store_id, api_version=version))
    return store_id


def _write_identity(kv_db: Engine, ident: serverpb.StoreIdent) -> None:
    batch = kv_db.batch()
    batch.put(CF_DEFAULT, keys.STORE_IDENT_KEY, ident.SerializeToString())
    kv_db.write(batch)
    kv_db.sync_wal()


def _switch_version(kv_db: Engine, ident: serverpb.StoreIdent, version: kvrpcpb_pb2.APIVersion) -> None:
    """Only a store without data may change. Raises StorageError."""
    low, high = keys.data_range(b"", b"")
    if any(kv_db.scan(cf, low, high, 1) for cf in DATA_CFS):
        names = {kvrpcpb_pb2.V1: "false", kvrpcpb_pb2.V1TTL: "true"}
        raise StorageError(
            f"the data was written with storage.enable-ttl = {names.get(ident.api_version, 'another API version')};"
            " it cannot be read with another setting: set it back, or start with an empty data directory"
        )
    ident.api_version = version
    _write_identity(kv_db, ident)


async def bootstrap_cluster(kv_db: Engine, pd: PdClient, store: metapb_pb2.Store, fail: FailPoints = UNARMED) -> None:
    """Make the first region if the cluster has none."""
    prepared = kv_db.get(CF_DEFAULT, PREPARE_KEY)
    if prepared is None:
        if await pd.is_bootstrapped():
            return
        region = metapb_pb2.Region(id=await pd.alloc_id())
        region.region_epoch.conf_ver = region.region_epoch.version = INIT_EPOCH
        region.peers.add(id=await pd.alloc_id(), store_id=store.id)
        _prepare(kv_db, region)
    else:
        region = metapb_pb2.Region.FromString(prepared)
    try:
        if fail.armed:
            await fail.reach("bootstrap_prepared")
        await pd.bootstrap(store, region)
        get_logger().info("cluster bootstrapped", region=region.id, store=store.id)
        accepted = True
    except AlreadyBootstrapped:
        # By another store, or by this one just before it crashed: PD knows which region is the first.
        known = await pd.get_region_by_id(region.id)
        accepted = known is not None and any(peer.store_id == store.id for peer in known.region.peers)
    if fail.armed:
        await fail.reach("bootstrap_decided")
    _finish(kv_db, region, keep=accepted)


def _prepare(kv_db: Engine, region: metapb_pb2.Region) -> None:
    batch = kv_db.batch()
    batch.put(CF_DEFAULT, PREPARE_KEY, region.SerializeToString())
    batch.put(CF_RAFT, keys.region_state_key(region.id), region_state_bytes(region, serverpb.Normal))
    batch.put(CF_RAFT, keys.apply_state_key(region.id), initial_apply_state().to_bytes())
    kv_db.write(batch)
    kv_db.sync_wal()


def _finish(kv_db: Engine, region: metapb_pb2.Region, *, keep: bool) -> None:
    batch = kv_db.batch()
    batch.delete(CF_DEFAULT, PREPARE_KEY)
    if not keep:
        batch.delete(CF_RAFT, keys.region_state_key(region.id))
        batch.delete(CF_RAFT, keys.apply_state_key(region.id))
    kv_db.write(batch)
    kv_db.sync_wal()
