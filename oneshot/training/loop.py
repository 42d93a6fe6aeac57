"""The only training loop. It knows a Worker and no Ray; local mode, Ray Train and tests build the Worker."""

import math
import time
from typing import Any

import torch
from torch import nn

from oneshot.base.environment import commit
from oneshot.base.errors import UserError
from oneshot.base.settings import Settings
from oneshot.base.storage import Folder
from oneshot.evaluation.validation import Validation
from oneshot.network import models
from oneshot.network.images import Images
from oneshot.network.worker import Worker
from oneshot.run import cards, checkpoint, events
from oneshot.run.checkpoint import Checkpoint, Progress
from oneshot.run.history import DIVERGED, HISTORY, best_row, better, leads, why_over, write_history, write_note
from oneshot.run.opened import IDENTITY, check_training
from oneshot.run.restore import load_optimizer, load_weights
from oneshot.run.watch import Watch, pulsing
from oneshot.training import start as starting
from oneshot.training.average import Average
from oneshot.training.batches import Batch, batches
from oneshot.training.optimizers import optimizer, schedule
from oneshot.training.parts import Parts

# A cross-entropy this far above chance (0.69) does not come back. With several ranks it is made NaN, so that all of
# them learn of it in the same step, through the averaged gradient.
HOPELESS = 1e3
DEAD = 1e-6  # spread of the validation logits below which a network answers every pair alike


class Diverged(Exception):
    """The loss or the gradient is not finite, on every rank alike."""


def fit(
    worker: Worker, settings: Settings, parts: Parts, folder: Folder, *, known: int = 0, until: int | None = None,
    watch: Watch | None = None,
) -> Progress:  # fmt: skip
    """Train as the settings say, from the newest whole checkpoint in `folder` or from the start, which may be another
    network (`cards.started`); with `until`, at most to the end of that epoch.

    Writes `history.jsonl`, `checkpoints/` and `events/` in `folder`, `notes.jsonl` if a checkpoint was damaged or the
    network is dead, and `pulse.json` as long as it runs. Calls `worker.report(row)` after each epoch, and first for the
    epochs in the checkpoint but for the first `known` ones: their reports may have been lost when a process died.
    Returns how far it came and why it ended. Raises UserError if the folder holds a training of other settings.
    """
    with pulsing(folder, watch or Watch(), leads=worker.rank == 0) as watch:
        training = Training(worker, settings, parts, folder, watch)
        progress = training.progress
        for row in progress.history[known:]:
            worker.report(row)
        while not progress.ended and (until is None or progress.epoch < until):
            try:
                row = training.run_epoch(progress.epoch + 1)
            except Diverged:
                training.finish_diverged()
                break
            training.finish_epoch(row)
    return progress


class Training:
    """Everything that lives as long as a training: the network, its optimizer, the data on the device, the progress.

    `start`: the folder of the network that `train.start` names, if it is not the one that `cards.started` gives."""

    def __init__(
        self, worker: Worker, settings: Settings, parts: Parts, folder: Folder, watch: Watch,
        start: Folder | None = None,
    ) -> None:  # fmt: skip
        self.worker, self.settings, self.folder, self.watch = worker, settings, folder, watch
        train, size = settings.train, settings.data.size
        torch.manual_seed(train.seed)
        self.net = models.build(settings.model, size=size).to(worker.device)
        self.cleaning = parts.train.cleaning
        images = Images(parts.train, size=size, device=worker.device)
        self.batches = batches(parts.train, images, data=settings.data, train=train)
        self.validation = Validation(parts.validation, train, size=size, device=worker.device)
        self.steps, self.images_per_step = train.steps, self.batches.images_per_step
        self.optimizer = optimizer(self.net, train)
        self.progress = Progress()
        self.average = Average(self.net, train.ema) if train.ema else None
        self.origins: list[dict[str, Any]] = []  # of the network it started from, see `cards.origins`
        self.commit = commit()  # read now: the source may be edited during the training
        self.resumed = self._resume()
        if not self.resumed:
            self._begin(start)
        self.judged = self.average.net if self.average else self.net  # what is validated, and what is kept
        self.objective = worker.prepare(self.batches.objective(self.net))
        if worker.world_size > 2:
            self._lay_out_gradients()
        watch.start(epochs=train.epochs, steps_per_epoch=self.steps, done=self.progress.epoch)

    def run_epoch(self, epoch: int) -> dict[str, Any]:
        """Train and validate one epoch, or what is left of it; returns its row of the history. Raises Diverged."""
        worker, progress, started = self.worker, self.progress, time.perf_counter()
        first, before = progress.step, progress.sums[2]
        total = torch.tensor(progress.sums[:2], dtype=torch.float64)
        batch = self.batch(epoch, first)
        for step in range(first, self.steps):
            lr = self.set_lr(epoch, step)
            found = self.launch(*batch)
            if step + 1 < self.steps:
                batch = self.batch(epoch, step + 1)  # while a GPU is at work on this one
            loss, accuracy = self.update(found)
            if self.average:
                self.average.follow((epoch - 1) * self.steps + step + 1)
            total += torch.tensor([loss, accuracy])
            trained = time.perf_counter() - started
            rate = (step + 1 - first) * self.images_per_step / trained
            self.watch.step(step + 1, loss, rate)
            if self._checkpoint_after(step + 1):
                total = worker.mean(total.to(worker.device)).cpu()
                progress.step, progress.sums = step + 1, [*total.tolist(), before + trained]
                self._save()
        loss, accuracy = worker.mean(total.to(worker.device) / self.steps).tolist()
        measured = self.validation.measure(self.judged, worker, moved=self.watch.moved)
        if not math.isfinite(measured["val_loss"]):
            raise Diverged
        taken_up, self.resumed = self.resumed, False
        return {
            "epoch": epoch,
            "train_loss": loss,
            "train_accuracy": accuracy,
            **measured,
            "lr": lr,
            "seconds": before + time.perf_counter() - started,
            "images_per_second": rate,
            "commit": self.commit,
            **({"resumed_at": first} if taken_up else {}),  # the step at which an interrupted training went on
        }

    def batch(self, epoch: int, step: int) -> Batch:
        """The rank's share of a global batch."""
        return self.batches.get(epoch=epoch, step=step, rank=self.worker.rank, world_size=self.worker.world_size)

    def launch(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Forward and backward pass -> (3,): loss and accuracy of the rank's share, gradient norm. Waits for no GPU."""
        with self.worker.autocast():
            loss, accuracy = self.objective(images, labels)
        self.optimizer.zero_grad(set_to_none=True)
        alone = self.worker.world_size == 1
        (loss if alone else loss * torch.where(loss < HOPELESS, 1.0, torch.nan)).backward()
        # The averaged gradient is the same on every rank and not finite if any rank's loss is not: all ranks agree.
        norm = nn.utils.get_total_norm([each.grad for each in self.net.parameters() if each.grad is not None])
        if clip := self.settings.train.clip:  # else spare the pass that would multiply the gradients by 1
            nn.utils.clip_grads_with_norm_(self.net.parameters(), clip, norm)
        return torch.stack([loss.detach(), accuracy, norm])

    def update(self, found: torch.Tensor) -> tuple[float, float]:
        """Take the optimizer's step after `launch`, whose result is `found`; returns loss and accuracy. Raises Diverged
        before the weights are touched."""
        loss, accuracy, norm = found.tolist()  # the one wait for the device
        if not (math.isfinite(norm) and loss < HOPELESS):
            raise Diverged
        self.optimizer.step()
        return loss, accuracy

    def finish_epoch(self, row: dict[str, Any]) -> None:
        """Record an epoch: whether its network is the best and the training over; checkpoint, history and report."""
        progress = self.progress
        row["best"] = better(self.settings.train, row, best_row(progress.history))
        progress.epoch, progress.step, progress.sums = row["epoch"], 0, [0.0, 0.0, 0.0]
        if row["best"]:
            progress.best_epoch, progress.best_loss = row["epoch"], row["val_loss"]
        progress.history.append(row)
        row["ended"] = progress.ended = self._why_over()
        self._save()
        if self.worker.rank == 0:
            write_history(self.folder, progress.history)
            events.write(self.folder, row)
        self.watch.epoch(row, leads(self.settings.train, progress.history))
        if _dead(row) and not any(_dead(each) for each in progress.history[:-1]):  # said once
            self._note("every pair gets the same score: the network is dead; try a lower learning rate")
        self.worker.report(row)

    def finish_diverged(self) -> None:
        """Record that the next epoch diverged. The report carries an infinite loss: Tune wants a number."""
        progress = self.progress
        progress.ended = "diverged"
        row = {"epoch": progress.epoch + 1, "val_loss": None, "ended": "diverged", "best": False}
        progress.history.append(row)
        if self.worker.rank == 0:
            write_history(self.folder, progress.history)
        self.watch.note(DIVERGED.format(epoch=row["epoch"]))
        self.worker.report(row | {"val_loss": math.inf})

    def _note(self, sentence: str) -> None:
        """Pass a sentence to this process's watch, and write it into the run's folder for those of other processes."""
        self.watch.note(sentence)
        if self.worker.rank == 0:
            write_note(self.folder, sentence)

    def _checkpoint_after(self, step: int) -> bool:
        """Whether to write a checkpoint after this step, inside the epoch."""
        every = self.settings.scale.checkpoint_steps
        return every > 0 and step % every == 0 and step < self.steps

    def _save(self) -> None:
        self.watch.moved()
        if self.worker.rank == 0:
            checkpoint.save(
                self.folder / "checkpoints", self.progress, settings=_identity(self.settings), net=self.judged,
                optimizer=self.optimizer, trained=self.net if self.average else None, cleaning=self.cleaning,
                start=self.origins,
            )  # fmt: skip
        self.watch.moved()

    def set_lr(self, epoch: int, step: int) -> float:
        """Set this step's learning rates of encoder and head; returns the encoder's, for the history."""
        lr = self.settings.train.lr * schedule(self.settings.train, epoch=epoch, step=step, steps=self.steps)
        *encoder, head = self.optimizer.param_groups
        for group in encoder:
            group["lr"] = lr
        head["lr"] = lr * self.settings.train.head_lr
        return lr

    def _begin(self, start: Folder | None) -> None:
        """Set the first weights if there is no checkpoint: those of the network to start from, else fresh ones."""
        if name := self.settings.train.start:
            self.origins = starting.load(self.net, start or cards.started(self.folder), name)
        elif self.settings.model.head == "calibrated":
            self._calibrate()
        if self.average:
            self.average.net.load_state_dict(self.net.state_dict())

    def _lay_out_gradients(self) -> None:
        """Take a step that changes nothing, so that DDP's gradients lie where they will stay.

        DDP lays them out anew after its first step in a process, and their layout decides the order in which those of
        three or more ranks are added. With this step a resumed training ends with the bits of an uninterrupted one.
        """
        before = {name: buffer.clone() for name, buffer in self.net.named_buffers()}  # statistics of the batch norm
        self.launch(*self.batch(1, 0))
        self.optimizer.zero_grad(set_to_none=True)
        for name, buffer in self.net.named_buffers():
            buffer.copy_(before[name])

    def _calibrate(self) -> None:
        """Scale the head on the first batch, which every rank computes whole, since all must start alike."""
        images, _ = self.batches.get(epoch=1, step=0)
        with torch.no_grad(), self.worker.autocast():
            z = self.net.embed(images).float()
        if self.settings.data.sampling == "pairs":
            left, right = z.chunk(2)
            distances = (left - right).abs().sum(dim=1)
        else:
            distances = torch.pdist(z, p=1)  # all pairs of the episode
        self.net.head.calibrate(distances)

    def _resume(self) -> bool:
        """Resume from the newest whole checkpoint, the one that rank 0 finds; returns whether there is one."""
        found, refused = None, ""
        if self.worker.rank == 0:
            try:
                found = self._find()
            except UserError as error:  # the others must not wait for an answer that never comes
                refused = str(error)
        name, refused = self.worker.agree((found.name if found else None, refused))
        if refused:
            raise UserError(refused)
        if name is None:
            return False
        found = found or checkpoint.read(self.folder / "checkpoints" / name)
        check_training(found.settings, self.settings, self.folder)
        place = self.folder / "checkpoints" / name
        if found.progress.step >= self.steps:
            raise UserError(f"{place} is at step {found.progress.step} of an epoch of {self.steps} steps; use another")
        trained = found.trained if self.average else found.weights
        load_weights(self.net, trained, f"{place} is of another network")
        if self.average:
            load_weights(self.average.net, found.weights, f"{place} is of another network")
        load_optimizer(self.optimizer, found.optimizer, f"{place} is of another optimizer")
        self.progress, self.origins = found.progress, found.start
        self.progress.ended = self._why_over()  # the settings may now ask for other epochs or patience
        return True

    def _why_over(self) -> str:
        return why_over(self.settings.train, epoch=self.progress.epoch, best_epoch=self.progress.best_epoch)

    def _find(self) -> Checkpoint | None:
        """The newest whole checkpoint, if any. Damaged ones are noted and kept; history and curves are rewritten to end
        with the checkpoint."""
        found, passed = checkpoint.newest(self.folder / "checkpoints")
        for left, sentence in zip(reversed(range(len(passed))), passed, strict=True):
            last_hope = "using the one before it" if found or left else "none is left: the training starts again"
            self._note(f"{sentence}; {last_hope}")
        if found or self.folder.has(HISTORY):
            write_history(self.folder, found.progress.history if found else [])
        if found:
            events.mend(self.folder, found.progress.history)
        return found


def _dead(row: dict[str, Any]) -> bool:
    """Whether a network answered every validation pair alike in an epoch; a diverged epoch measured nothing."""
    spread = row.get("val_spread")
    return spread is not None and spread < DEAD


def _identity(settings: Settings) -> dict[str, Any]:
    """The settings that decide a training's result: not the number of workers, nor how it is searched or judged."""
    return settings.model_dump(include=set(IDENTITY))
