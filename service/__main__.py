"""Lets `python -m service` stand for the `confirmed-owner` command."""

from service.cli import main

main()
