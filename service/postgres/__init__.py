"""PostgreSQL: pools of connections, migrations, and the embedded server."""
