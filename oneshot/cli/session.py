"""The Ray that a verb works with: a cluster, connected to at once, or an embedded one, started when all is checked."""

import contextlib
from collections import Counter
from functools import partial

from rich.console import Console

from oneshot.base.settings import Scale
from oneshot.base.storage import Folder
from oneshot.cli.request import told_how_to_go_on
from oneshot.cluster import capacity, connection, sharing
from oneshot.cluster.packing import Packing, describe, this_machine, why_no_gpu
from oneshot.screen.console import print_line, print_warning


class Session:
    """Lasts as long as `stack`. `where` is the address of a cluster, or None for this machine, where Ray runs only from
    `start` on. `nodes` are those of the cluster, or this machine. `how` is to say how to go on, as soon as there is
    something to go on with: it is printed if the work is interrupted, finds no room, or Ray dies."""

    def __init__(
        self, console: Console, where: str | None, stack: contextlib.ExitStack, *, verbose: bool, trials: bool = False
    ) -> None:  # fmt: skip
        self.console, self.attached, self.stack, self.how = console, where is not None, stack, ""
        self._connect = partial(
            connection.connect, where, console=console, verbose=verbose, how_to_go_on=lambda: self.how, trials=trials
        )
        stack.enter_context(self.told_how_to_go_on())
        if self.attached:
            self.nodes = stack.enter_context(self._connect())
        else:
            if why := why_no_gpu():
                print_warning(console, why)
            self.nodes = [this_machine()]

    def told_how_to_go_on(self) -> contextlib.AbstractContextManager[None]:
        return told_how_to_go_on(self.console, lambda: self.how)

    def check_sharing(self, folder: Folder, data: Folder) -> None:
        """Check that the nodes of an attached cluster see the same files, unless all is on one machine and its disk.
        `nodes` are those that are still alive then; of the others this warns."""
        if not self.attached or (len(self.nodes) == 1 and folder.is_local and data.is_local):
            return
        sharing.check(folder, data)
        dead = Counter(self.nodes) - Counter(capacity.nodes())
        for node in dead.elements():
            print_warning(self.console, f"the node {node.name} has died; nothing is planned for it")
        self.nodes = list((Counter(self.nodes) - dead).elements())

    def tell_packing(self, packing: Packing, scale: Scale, *, training: str = "trial") -> None:
        """Say how trainings share the nodes."""
        used = capacity.in_use(scale.accelerator) if self.attached else None
        print_line(self.console, describe(packing, scale, self.nodes, used=used, training=training))

    def start(self) -> None:
        """Start the embedded Ray, unless there is a cluster."""
        if not self.attached:
            self.stack.enter_context(self._connect())
