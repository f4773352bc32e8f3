"""`tikv-py ctl`: looking into a store and repairing it, with the commands of the public tikv-ctl."""
