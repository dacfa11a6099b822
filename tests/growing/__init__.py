"""Beyond one machine: replicas, failover, and a pooler."""
