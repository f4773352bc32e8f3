"""Where replicas should be: labels of stores, placement rules and their groups, how well a region fits them, labels of regions."""
