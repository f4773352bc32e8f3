"""The beginning of a cluster: its id, and the first store with the one region that holds every key."""

from __future__ import annotations

from core_py.errors import PdError
from core_py.ports import Random
from pd_py.cluster import store_labels
from pd_py.cluster.versions import Version
from pd_py.metastore.port import Metadata
from protos.kvproto import metapb_pb2

CLUSTER_ID_KEY = "/pd/cluster_id"


class AlreadyBootstrapped(PdError):
    """Another store was first."""

    code = "PD:Cluster:AlreadyBootstrapped"


async def ensure_cluster_id(metastore: Metadata, rng: Random) -> int:
    """The cluster's id; a first start draws it."""
    stored = metastore.get(CLUSTER_ID_KEY)
    if stored is not None:
        return int(stored)
    cluster_id = rng.getrandbits(62) | 1 << 62
    await metastore.write({CLUSTER_ID_KEY: str(cluster_id).encode()})
    return cluster_id


def check(cluster_id: int, store: metapb_pb2.Store, region: metapb_pb2.Region) -> None:
    """Whether a store and a region can be the first. Raises PdError with the public server's text."""
    if not store.id:
        raise PdError("invalid zero store id")
    if not region.id:
        raise PdError("invalid zero region id")
    if region.start_key or region.end_key:
        raise PdError(f"invalid first region key range, must all be empty for bootstrap {cluster_id}")
    if len(region.peers) != 1:
        raise PdError(f"invalid first region peer count {len(region.peers)}, must be 1 for bootstrap {cluster_id}")
    peer = region.peers[0]
    if peer.store_id != store.id:
        raise PdError(f"invalid peer store id {peer.store_id} != {store.id} for bootstrap {cluster_id}")
    if not peer.id:
        raise PdError("invalid zero peer id")
    Version.parse(store.version)
    store_labels.validate(store_labels.of(store))
