"""Serving: to this machine at the root, to others behind a token, and to nobody afterwards."""

import socket
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest

from splatdream.viewer.serve import serving


def test_this_machine_gets_the_page_at_the_root_and_nothing_else() -> None:
    with serving(b"<p>hello") as address:
        assert address.startswith("http://127.0.0.1:")
        assert address.endswith("/")
        assert urlopen(address).read() == b"<p>hello"
        assert urlopen(f"{address}?webgl").read() == b"<p>hello"
        with pytest.raises(HTTPError, match="404"):
            urlopen(f"{address}etc/passwd")
    with pytest.raises(URLError):
        urlopen(address, timeout=2)


def test_the_newer_protocol_serves_too() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with serving(b"<p>hello", host="::1") as address:
        assert address.startswith("http://[::1]:")
        assert urlopen(address).read() == b"<p>hello"


def test_an_address_that_is_taken_or_elsewhere_is_named() -> None:
    with serving(b"") as address:
        port = int(address.rsplit(":", 1)[1].strip("/"))
        taken = f"nothing can be served at 127.0.0.1, port {port}: address already in use"
        with pytest.raises(OSError, match=taken), serving(b"", port=port):
            pass
    with pytest.raises(OSError, match=r"nothing can be served at no\.such\.invalid"):
        serving(b"", host="no.such.invalid").__enter__()


def test_beyond_this_machine_the_page_lies_behind_a_token() -> None:
    with serving(b"<p>hello", host="0.0.0.0") as address:
        root, token = address.replace("0.0.0.0", "127.0.0.1").rsplit("/", 1)
        assert len(token) >= 20
        assert urlopen(f"{root}/{token}").read() == b"<p>hello"
        for wrong in ("", token[:-1], f"{token}/"):
            with pytest.raises(HTTPError, match="404"):
                urlopen(f"{root}/{wrong}")
    with serving(b"", host="0.0.0.0") as other:
        assert not other.endswith(token)
