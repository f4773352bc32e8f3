"""What PD knows of the cluster: stores, regions, members; from durable metadata and from heartbeats."""
