"""PostgreSQL: connection pools, migrations, and the embedded server."""
