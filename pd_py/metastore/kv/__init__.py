"""PD's key-value state as etcd's clients know it: keys with revisions, transactions, leases. Pure: commands in, results out."""
