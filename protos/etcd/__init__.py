"""The part of the etcd v3 protocol that benchmarks drive and PD will serve."""
