"""Check that the store of a URI answers and has the bucket: once, in bounded time, before anything starts."""

import functools
import os
import signal
import subprocess
import sys

from oneshot.base.errors import UserError, last_line
from oneshot.base.storage import Folder, cause, refuse_secrets

SECONDS = 20  # to wait for an answer
NETWORK = {"s3": "the network and AWS_ENDPOINT_URL"}  # what to check, by the scheme of the URI
CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS or `gcloud auth application-default login`",
    "abfs": "AZURE_CLIENT_ID, AZURE_TENANT_ID, AZURE_CLIENT_SECRET or `az login`",
}

# Run in its own process: a pyarrow call that waits for an answer can be neither limited in time nor interrupted.
_ASK = """
import sys
from pyarrow import fs
store, path = fs.FileSystem.from_uri(sys.argv[1])
if store.type_name in ("s3", "gcs", "abfs"):
    bucket = path.partition("/")[0]
    try:
        found = store.get_file_info(bucket)
    except OSError:  # rights may end above what was named
        found = store.get_file_info(path)
    else:
        if found.type == fs.FileType.NotFound:
            sys.exit(f"error: there is no bucket '{bucket}': make it, or name another")
else:
    store.get_file_info(path)
"""


def reach(where: str | os.PathLike[str]) -> Folder:
    """The folder that a person named by a path or a URI. Raises UserError if the name is empty, or if its store does
    not answer, refuses the credentials or has no such bucket."""
    text = os.fspath(where)
    if not text:
        raise UserError("a folder's name is empty: is a variable in the command not set? Name the folder")
    if "://" in text:
        refuse_secrets(text)
        _ask(text)
    return Folder.of(text)


@functools.cache
def _ask(uri: str) -> None:
    try:
        done = subprocess.run([sys.executable, "-c", _ASK, uri], capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise UserError(
            f"cannot use '{uri}' as a folder: no answer within {SECONDS} s; check {_network(uri)}"
        ) from None
    if done.returncode == 0:
        return
    last = last_line(done.stderr)
    said = cause(last.partition(": ")[2] or last) or _ended(done.returncode)
    raise UserError(f"cannot use '{uri}' as a folder: {said}{_hint(uri, said)}")


def _hint(uri: str, said: str) -> str:
    """What to check, according to the kind of store and what it said."""
    if any(word in said for word in ("NETWORK_CONNECTION", "UNAVAILABLE", "resolve host")):
        return f"; check {_network(uri)}"
    refused = ("ACCESS_DENIED", "PERMISSION_DENIED", "UNAUTHENTICATED", "redential", "Authenti", "Authori")
    if any(word in said for word in refused) and (names := CREDENTIALS.get(_scheme(uri))):
        return f"; check {names} and their permissions there"
    return ""


def _network(uri: str) -> str:
    return NETWORK.get(_scheme(uri), "the network")


def _scheme(uri: str) -> str:
    scheme = uri.partition("://")[0]
    return {"gcs": "gs", "abfss": "abfs"}.get(scheme, scheme)


def _ended(code: int) -> str:
    """How a process that printed nothing ended."""
    by = f"by signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"with exit code {code}"
    return f"the process that queried its store ended {by} without a message"
