"""What Ray writes to this process's output, sent to a file."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

from rich.console import Console

from oneshot.base.errors import UserError
from oneshot.screen.console import heard, print_line

KEPT = "Ray's own messages are in {}"


@contextlib.contextmanager
def to_file(console: Console) -> Iterator[str]:
    """Redirect this process's standard output and error to a file, and yield its path.

    The descriptors themselves are redirected, as Ray's C++ parts write to them directly. `heard(console)` gets a copy
    of its original output. The file is kept if the block fails, but not after a UserError or an interrupt.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    out = heard(console)
    stream = sys.stderr if out.stderr else sys.stdout
    out.file = os.fdopen(os.dup(2 if out.stderr else 1), "w", encoding=stream.encoding, errors=stream.errors)
    log, path = tempfile.mkstemp(prefix="oneshot-ray-", suffix=".log")
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    try:
        yield path
    except (UserError, KeyboardInterrupt):
        os.unlink(path)
        raise
    except Exception:
        print_line(out, KEPT.format(path))
        raise
    else:
        os.unlink(path)
    finally:
        for stream, descriptor, saved in zip((sys.stdout, sys.stderr), (1, 2), kept, strict=True):
            with contextlib.suppress(OSError):  # if the disk is full, the restored output must still report it
                stream.flush()
            os.dup2(saved, descriptor)
            os.close(saved)
