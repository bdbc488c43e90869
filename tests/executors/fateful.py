"""Methods that end badly, and note what they do: a plug-in, so that worker processes know them too."""

import os
import signal
import time
from pathlib import Path

import hashbench
from hashbench import DeepMethod


def note(what: str) -> list[str]:
    """Append a line to the file that all processes of a test share, and return all lines."""
    path = Path(os.environ["FATEFUL_NOTES"])
    with open(path, "a") as file:
        file.write(f"{what}\n")
    return path.read_text().splitlines()


class Plain(DeepMethod):
    def loss(self, out, batch):
        return {"all": (out.square() - 1).square().mean()}


@hashbench.method("breaks")
class Breaks(Plain):
    def loss(self, out, batch):
        return {"all": out.mean() * float("inf")}


@hashbench.method("kills")
class Kills(Plain):
    """Kills its process in every attempt."""

    def end_epoch(self, epoch, sums):
        note("kills")
        os.kill(os.getpid(), signal.SIGKILL)


@hashbench.method("kills-once")
class KillsOnce(Plain):
    """Kills its process after the second epoch of its first attempt, of which the first epoch is kept."""

    def end_epoch(self, epoch, sums):
        if note(f"kills-once epoch {epoch}").count("kills-once epoch 1") == 1 and epoch == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return {}


@hashbench.method("slow")
class Slow(Plain):
    def end_epoch(self, epoch, sums):
        note(f"slow epoch {epoch} by {os.getpid()}")
        time.sleep(0.25)
        return {}


@hashbench.method("prepares-once")
class PreparesOnce(Plain):
    def prepare(self, task, data, tools):
        note("prepared")
        time.sleep(0.5)
        return {"scores": data.features()[:2]}

    def setup(self, task, prepared):
        self.register_buffer("scores", prepared["scores"])


@hashbench.backbone("notes-when-built")
def notes_when_built(shape, pretrained):
    from toy_dataset import ToyBackbone

    if pretrained:  # not where it is built to know its width
        note("built")
    return ToyBackbone(shape)


notes_when_built.weights_file = Path(__file__)
