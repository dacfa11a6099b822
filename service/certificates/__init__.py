"""What is known about certificates: ids, facts, hosts, imports."""
