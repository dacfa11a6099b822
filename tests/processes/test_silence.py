"""Connections that stay silent are closed, and no others."""

import resource
import socket
import time

import pytest

from service.processes import silence


@pytest.fixture
def listener() -> socket.socket:
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(2)
    return listening


def look(listener: socket.socket, *connections: socket.socket) -> None:
    """Look at some of this process's connections, as the watch does at all of them."""
    for connection in (listener, *connections):
        silence._close_if_silent(connection.fileno(), listener.getsockname()[1])


def test_connection_that_sends_nothing_is_closed_and_one_that_did_is_not(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "SILENT_FOR", 0.05)
    address = listener.getsockname()
    silent, talking = socket.create_connection(address), socket.create_connection(address)
    ends = [listener.accept()[0] for _ in range(2)]
    talking.sendall(b"G")
    silent.settimeout(0.02)
    look(listener, *ends)
    with pytest.raises(TimeoutError):
        silent.recv(1)
    silent.settimeout(0.1)
    with pytest.raises(TimeoutError):
        silent.recv(1)
    look(listener, *ends)
    assert silent.recv(1) == b""
    for end in ends:
        end.settimeout(0.2)
    assert b"G" in [end.recv(1) for end in ends]
    talking.settimeout(0.05)
    with pytest.raises(TimeoutError):
        talking.recv(1)
    for each in (silent, talking, *ends, listener):
        each.close()


def test_what_is_no_connection_to_the_port_is_left_alone(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "SILENT_FOR", -1.0)
    other = socket.create_server(("127.0.0.1", 0))
    to_other = socket.create_connection(other.getsockname())
    end = other.accept()[0]
    one, two = socket.socketpair()
    look(listener, to_other, end, one)
    for each in (to_other, one):
        each.sendall(b"x")
    assert (end.recv(1), two.recv(1)) == (b"x", b"x")
    for each in (listener, other, to_other, end, one, two):
        each.close()


def test_watch_outlives_a_lack_of_file_descriptors(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "SILENT_FOR", 0.05)
    monkeypatch.setattr(silence, "_LOOKS_EVERY", 0.01)
    silence.close_silent_connections(listener.getsockname()[1])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        # It looks several times meanwhile.
        time.sleep(0.1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    silent = socket.create_connection(listener.getsockname(), timeout=5)
    end = listener.accept()[0]
    assert silent.recv(1) == b""
    for each in (silent, end, listener):
        each.close()
