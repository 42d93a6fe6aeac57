"""A real S3 API on this machine (moto's), which records requests, accepts one key, and refuses requests on demand."""

import logging
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from pyarrow import fs
from werkzeug.serving import make_server

KEY = "oneshot-tests"


@dataclass
class ObjectStore:
    """The server. `asked` lists its requests in order, as (method, object, query).

    `refuse` is given each request's method, object and query, and may return a status code to refuse it with.
    """

    url: str = ""
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    refuse: Callable[[str, str, str], int | None] = lambda method, path, query: None
    app: Any = field(default_factory=lambda: DomainDispatcherApplication(create_backend_app))

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        request = environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["QUERY_STRING"]
        self.asked.append(request)
        known = f"Credential={KEY}/" in environ.get("HTTP_AUTHORIZATION", "")
        code = self.refuse(*request) if known else 403
        if code is None:
            return self.app(environ, start)
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        body = b"<Error><Code>AccessDenied</Code><Message>refused</Message></Error>" if code == 403 else b""
        start(f"{code} refused", [("Content-Length", str(len(body))), ("Content-Type", "application/xml")])
        return [body]

    def gets(self, name: str) -> int:
        """How often an object of this name was fetched."""
        return sum(method == "GET" and path.endswith(f"/{name}") for method, path, _ in self.asked)

    def variables(self) -> dict[str, str]:
        """The environment variables that lead to this store."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def new_bucket(self) -> str:
        """Make an empty bucket and return its URI. This process's environment must lead to the store."""
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        store, _ = fs.FileSystem.from_uri(f"s3://{name}?allow_bucket_creation=true")
        store.create_dir(name)
        return f"s3://{name}"


@contextmanager
def serve() -> Iterator[ObjectStore]:
    """Run the server at `url` while the block runs."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    store = ObjectStore()
    server = make_server("127.0.0.1", 0, store, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    store.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield store
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
