"""The part of etcd's interface that clients of PD use, over PD's own replicated store."""
