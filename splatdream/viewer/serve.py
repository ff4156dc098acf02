"""One page on a port: to this machine without more, to others at an address that holds a token."""

import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

LOCAL = ("127.0.0.1", "localhost", "::1")


@contextmanager
def serving(page: bytes, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serves the page within the block and yields its address; port 0 takes a free one.

    Beyond this machine's own addresses the path is a fresh token, and everything else is not found. OSError where the
    host is not this machine's, or the port is taken.
    """
    path = "/" if host in LOCAL else f"/{secrets.token_urlsafe(16)}"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not secrets.compare_digest(urlsplit(self.path).path.encode(), path.encode()):
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(page)))
            self.send_header("Referrer-Policy", "no-referrer")
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: who looks is nobody's business."""

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    try:
        server = Server((host, port), Handler)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OSError(f"nothing can be served at {host}, port {port}: {reason}") from error
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{f'[{host}]' if ':' in host else host}:{server.server_address[1]}{path}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
