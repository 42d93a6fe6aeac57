"""A web server on this machine that misbehaves on demand, for the tests of downloads."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """What the server holds and how it behaves; `asked` lists its requests in order."""

    files: dict[str, bytes]
    ranges: bool = True
    etag: str = '"1"'
    cuts: list[int] = field(default_factory=list)  # how many bytes to send of each of the next answers
    stalls: int = 0  # how many of the next answers stop in the middle and never go on
    codes: list[int] = field(default_factory=list)  # status codes of the next answers
    asked: list[tuple[str, str | None]] = field(default_factory=list)  # path and Range header
    url: str = ""
    closing: threading.Event = field(default_factory=threading.Event)

    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]

    def ranges_asked(self) -> list[str | None]:
        return [wanted for _, wanted in self.asked]


@contextmanager
def serve(site: Site) -> Iterator[Site]:
    """Serve the site at `site.url` while the block runs."""
    handler = type("Handler", (_Handler,), {"site": site})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield site
    finally:
        site.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        site, wanted = self.site, self.headers.get("Range")
        site.asked.append((self.path, wanted))
        code = site.codes.pop(0) if site.codes else 200
        body = site.files.get(self.path)
        if body is None or code != 200:
            self.send_response(404 if body is None else code)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = 0
        if wanted and site.ranges and self.headers.get("If-Range", site.etag) == site.etag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(body) - start))
        if site.etag:
            self.send_header("ETag", site.etag)
        self.end_headers()
        self._send(body[start:])

    def _send(self, body: bytes) -> None:
        if self.site.stalls:
            self.site.stalls -= 1
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.site.closing.wait(30)
        else:
            self.wfile.write(body[: self.site.cuts.pop(0)] if self.site.cuts else body)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass
