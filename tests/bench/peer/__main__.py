"""`python -m tests.bench.peer PORT orm|text DATABASE_URL CONNECTIONS` serves it with uvicorn."""

import sys

import uvicorn

from tests.bench.peer.app import create_app

if __name__ == "__main__":
    port, kind, url, connections = sys.argv[1:]
    uvicorn.run(
        create_app(kind, url, int(connections)),
        port=int(port),
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
    )
