"""Who owns a run folder: what lies in it decides what a training that goes on there loads and runs."""

import os
import pwd
import stat

from oneshot.base.errors import UserError
from oneshot.base.storage import Folder

LOADED = (".safetensors", ".toml", ".json", ".jsonl")  # what is read when a training goes on


def check(run: Folder) -> None:
    """Raise UserError if a local run folder, or a part of it that would be read, is another user's or can be written by
    others. On an object store the bucket's own rights decide."""
    if not run.is_local:
        return
    for folder, _, names in os.walk(run.path):
        for path in (folder, *(os.path.join(folder, name) for name in names if name.endswith(LOADED))):
            try:
                found = os.stat(path)
            except FileNotFoundError:
                continue  # an old checkpoint that was just removed, or a dangling link
            if found.st_uid != os.geteuid():
                raise UserError(f"{path} belongs to {_name(found.st_uid)}: go on in a copy of your own (cp -r {run})")
            if _open(found):
                mode = stat.S_IMODE(found.st_mode)
                raise UserError(
                    f"{path} can be written by other users (mode {mode:o}): run chmod -R go-w {run} and set umask 022"
                )


def _open(found: os.stat_result) -> bool:
    """Whether others may write. The user's own group may: with a umask of 002 each user has a private one."""
    return bool(found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and found.st_gid != os.getegid()))


def _name(user: int) -> str:
    try:
        return f"the user {pwd.getpwuid(user).pw_name}"
    except KeyError:
        return f"the user {user}"
