"""No test opens a socket unnoticed: conftest.py's own rules."""

from __future__ import annotations

import asyncio
import socket

import pytest
import requests

# Not loopback by its number, but it never leaves the machine, should the rule be broken.
ELSEWHERE = "0.0.0.0"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_loopback_is_refused_to_a_test_without_the_marker(host: str) -> None:
    with pytest.raises(pytest.fail.Exception, match="mark it @pytest"):
        socket.create_connection((host, 9))


@pytest.mark.loopback
def test_loopback_is_open_to_a_test_with_the_marker() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()


@pytest.mark.loopback
def test_other_machines_are_refused_to_every_test() -> None:
    with pytest.raises(pytest.fail.Exception, match="leave the machine"):
        socket.create_connection((ELSEWHERE, 9))


@pytest.mark.loopback
def test_names_of_other_machines_are_refused_to_every_test() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"reach example\.com"):
        socket.getaddrinfo("example.com", 80, flags=socket.AI_NUMERICHOST)  # asks no resolver


def test_requests_does_not_swallow_the_refusal() -> None:
    with pytest.raises(pytest.fail.Exception, match="leave the machine"):
        requests.get(f"http://{ELSEWHERE}:9/", timeout=1)


def test_asyncio_does_not_swallow_the_refusal() -> None:
    with pytest.raises(pytest.fail.Exception, match="leave the machine"):
        asyncio.run(asyncio.open_connection(ELSEWHERE, 9))


@pytest.mark.parametrize("host", ["nowhere.invalid", "service.example"])
def test_a_reserved_name_does_not_resolve(host: str) -> None:
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo(host, 80)
