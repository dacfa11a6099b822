"""Who works with whom: connections, and the grants that let a name be seen."""
