"""The trainer: hooks are called, schedule and clipping applied, a resumed training equals an uninterrupted one."""

import dataclasses

import pytest
import torch
from torch import nn

import hashbench
from hashbench import recipes
from hashbench.datasets.loading.loader import TrainLoader, inference_batches
from hashbench.errors import HashbenchError
from hashbench.methods.contract import DeepMethod, Task
from hashbench.networks.backbones import Identity
from hashbench.networks.network import HashNetwork
from hashbench.storage.tensorfiles import save
from hashbench.training.loop import Reports, train

COUNT, WIDTH, CLASSES, BITS = 50, 6, 3, 8
RECIPE = recipes.load("scratch", overrides={"epochs": 3, "batch_size": 16, "augment": "none"}, multi_label=False)


class Spy(DeepMethod):
    """Counts its calls; the loss pulls the outputs of class c to the c-th own, learned center."""

    def setup(self, task, prepared):
        self.centers = nn.Parameter(torch.ones(task.num_classes, task.bits))
        self.register_buffer("epochs_seen", torch.zeros(()))
        self.calls, self.sums, self.fresh = [], [], False

    def loss(self, out, batch):
        return {"pull": ((out - batch.labels @ self.centers) ** 2).mean(), "small": 1e-3 * out.abs().mean()}

    def after_step(self, network, batch):
        self.calls.append(("step", batch.step))

    def epoch_sums(self, out, batch):
        return {"count": torch.tensor(float(len(out))).double(), "out": out.double().sum(dim=0)}

    def wants_fresh_pass(self, epoch):
        return self.fresh

    def end_epoch(self, epoch, sums):
        self.epochs_seen += 1
        self.calls.append(("epoch", epoch))
        self.sums.append({name: value.clone() for name, value in sums.items()})
        return {"epochs_seen": float(self.epochs_seen)}


class Toy:
    """A training set of vectors."""

    def __init__(self, batch_size=16):
        generator = torch.Generator().manual_seed(0)
        self.inputs = torch.randn(COUNT, WIDTH, generator=generator).numpy()
        label = torch.randint(0, CLASSES, (COUNT,), generator=generator)
        self.loader = TrainLoader(
            self.inputs, nn.functional.one_hot(label, CLASSES).numpy(), batch_size=batch_size, seed=0, device="cpu"
        )

    @property
    def labels(self):
        return self.loader.labels

    def batches(self, epoch=0):
        return self.loader.epoch(epoch)

    def features(self):
        return torch.from_numpy(self.inputs)

    def fresh(self):
        for start, inputs in enumerate(inference_batches(self.inputs, batch_size=20, device="cpu")):
            index = torch.arange(20 * start, 20 * start + len(inputs))
            yield hashbench.Batch(views=(inputs,), labels=self.labels[index], index=index, epoch=0, step=0)


def made(recipe=RECIPE, seed=0, method=Spy):
    data = Toy(recipe.batch_size)
    task = Task(CLASSES, BITS, False, "vectors", COUNT, recipe.epochs, data.loader.steps_per_epoch,
                torch.device("cpu"), seed)  # fmt: skip
    torch.manual_seed(0)
    spy = method()
    spy.setup(task, {})
    network = HashNetwork(Identity(WIDTH), nn.Sequential(nn.Dropout(0.3), nn.Linear(WIDTH, BITS)), recipe.precision)
    return spy, network, {"task": task, "recipe": recipe, "data": data}


def test_every_hook_is_called_in_order():
    spy, network, arguments = made()
    lines = []
    progress = train(spy, network, **arguments, reports=Reports(log=lines.append))
    steps = arguments["task"].steps_per_epoch
    expected = [call for e in range(3) for call in [*(("step", e * steps + i) for i in range(steps)), ("epoch", e)]]
    assert spy.calls == expected
    assert [float(sums["count"]) for sums in spy.sums] == [COUNT] * 3
    assert [line["epoch"] for line in lines] == [0, 1, 2]
    assert set(lines[0]["loss"]) == {"pull", "small"}
    assert lines[2]["loss"]["pull"] < lines[0]["loss"]["pull"]
    assert progress.diagnostics == {"epochs_seen": 3.0}
    assert progress.images == 3 * COUNT


def test_parameters_of_the_loss_are_trained():
    spy, network, arguments = made()
    train(spy, network, **arguments, reports=Reports())
    assert not torch.equal(spy.centers, torch.ones_like(spy.centers))


def test_a_fresh_pass_sees_the_set_once_and_unaugmented():
    spy, network, arguments = made()
    spy.fresh = True
    train(spy, network, **arguments, reports=Reports())
    network.eval()
    with torch.no_grad():
        expected = network(torch.from_numpy(arguments["data"].inputs)).double().sum(dim=0)
    assert float(spy.sums[-1]["count"]) == COUNT
    assert torch.allclose(spy.sums[-1]["out"], expected)


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop"])
def test_resumed_equals_uninterrupted(tmp_path, optimizer):
    recipe = dataclasses.replace(RECIPE, optimizer=optimizer, learning_rate=1e-2)
    whole_spy, whole, arguments = made(recipe)
    train(whole_spy, whole, **arguments, reports=Reports())

    def stop_after_second(line):
        if line["epoch"] == 1 and not resumed:
            raise Interrupted

    resumed = False
    checkpoint = tmp_path / "checkpoint.pt"
    spy, network, arguments = made(recipe)
    with pytest.raises(Interrupted):
        train(spy, network, **arguments, reports=Reports(log=stop_after_second, checkpoint=checkpoint))
    resumed = True
    spy, network, arguments = made(recipe)
    progress = train(spy, network, **arguments, reports=Reports(log=stop_after_second, checkpoint=checkpoint))
    assert progress.images == 3 * COUNT
    for name, value in [*whole.state_dict().items(), *whole_spy.state_dict().items()]:
        other = network.state_dict().get(name, spy.state_dict().get(name))
        assert torch.equal(value, other), name


@pytest.mark.parametrize("damage", ["torn", "no file of torch", "a flipped byte in a tensor"])
def test_a_damaged_checkpoint_starts_the_training_over_and_says_so(tmp_path, damage):
    checkpoint = tmp_path / "checkpoint.pt"

    def stop_after_second(line):
        if line["epoch"] == 1:
            raise Interrupted

    spy, network, arguments = made()
    with pytest.raises(Interrupted):
        train(spy, network, **arguments, reports=Reports(log=stop_after_second, checkpoint=checkpoint))
    whole = checkpoint.read_bytes()
    kept = torch.load(checkpoint, weights_only=True)["network"]["head.1.weight"]
    at = whole.index(kept.numpy().tobytes())
    checkpoint.write_bytes(
        {
            "torn": whole[:-20],
            "no file of torch": b"text",
            "a flipped byte in a tensor": whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :],
        }[damage]
    )
    log = []
    spy, network, arguments = made()
    train(spy, network, **arguments, reports=Reports(log=log.append, checkpoint=checkpoint))
    assert log[0]["warning"].endswith("; the training starts over.")
    assert [line["epoch"] for line in log[1:]] == [0, 1, 2]


def test_a_checkpoint_of_another_network_is_named(tmp_path):
    checkpoint = tmp_path / "checkpoint.pt"
    save({"network": {}}, checkpoint)
    spy, network, arguments = made()
    with pytest.raises(HashbenchError, match=r"does not fit .* delete it to start over"):
        train(spy, network, **arguments, reports=Reports(checkpoint=checkpoint))


def test_a_loss_that_is_not_finite_names_epoch_step_and_term():
    class Breaks(Spy):
        def loss(self, out, batch):
            terms = super().loss(out, batch)
            return {**terms, "small": terms["small"] * (float("nan") if batch.step == 6 else 1.0)}

    spy, network, arguments = made(method=Breaks)
    with pytest.raises(HashbenchError, match=r"'small' became nan in epoch 2, step 3;"):
        train(spy, network, **arguments, reports=Reports())


def test_loss_terms_that_change_within_an_epoch_are_refused():
    class Warms(Spy):
        def loss(self, out, batch):
            terms = super().loss(out, batch)
            return terms if batch.step else {"pull": terms["pull"]}

    spy, network, arguments = made(method=Warms)
    with pytest.raises(HashbenchError, match=r"changed within epoch 1 from \['pull'\] to \['pull', 'small'\]"):
        train(spy, network, **arguments, reports=Reports())


def test_gradients_are_clipped():
    def distance(clip):
        plain = dataclasses.replace(RECIPE, optimizer="sgd", momentum=0.0, epochs=1, warmup_epochs=0)
        recipe = dataclasses.replace(plain, gradient_clip=clip)
        spy, network, arguments = made(recipe)
        before = [p.detach().clone() for p in network.parameters()]
        train(spy, network, **arguments, reports=Reports())
        return sum(float((p.detach() - q).norm()) for p, q in zip(network.parameters(), before, strict=True))

    assert distance(1e-3) < 0.1 * distance(0.0)


def test_the_backbone_takes_its_own_learning_rate():
    recipe = dataclasses.replace(RECIPE, backbone_learning_rate_scale=0.01)
    spy, _, _ = made(recipe)
    network = HashNetwork(nn.Linear(WIDTH, 4), nn.Linear(4, BITS), "fp32")
    backbone, rest = spy.parameter_groups(network, recipe)
    assert backbone["lr"] == pytest.approx(0.01 * rest["lr"])
    assert any(p is spy.centers for p in rest["params"])
    assert {id(p) for p in backbone["params"]} == {id(p) for p in network.backbone.parameters()}


def test_bf16_computes_low_and_returns_float32():
    inputs = torch.randn(4, WIDTH)
    head = nn.Linear(WIDTH, BITS)
    full, low = (HashNetwork(Identity(WIDTH), head, precision)(inputs) for precision in ("fp32", "bf16"))
    assert low.dtype == torch.float32
    assert not torch.equal(full, low)
    assert torch.allclose(full, low, atol=0.05)


def test_a_compiled_network_trains_the_same_weights(monkeypatch):
    compiled = []

    def compile_eagerly(run):  # all of torch.compile but the last stage, which takes a minute
        compiled.append((run.__self__, run.__name__))
        return torch._dynamo.optimize("eager")(run)

    monkeypatch.setattr(torch, "compile", compile_eagerly)
    trained = []
    for recipe in (RECIPE, dataclasses.replace(RECIPE, compile=True)):
        spy, network, arguments = made(recipe)
        train(spy, network, **arguments, reports=Reports())
        trained.append((network, spy))
    assert compiled == [(trained[1][0], name) for name in ("forward", "features", "outputs")]
    for (name, ours), theirs in zip(
        trained[1][0].state_dict().items(), trained[0][0].state_dict().values(), strict=True
    ):
        torch.testing.assert_close(ours, theirs, msg=name)
    assert trained[0][1].calls == trained[1][1].calls


@pytest.mark.gpu
@pytest.mark.parametrize("tier", ["resident", "streamed"])
def test_no_step_waits_for_the_gpu(tier, monkeypatch):
    """Whatever waits inside an epoch raises here; the losses come to the host only at its end."""
    monkeypatch.setenv("HASHBENCH_LOADER", tier)
    monkeypatch.setattr("hashbench.training.loop.CHECK_SECONDS", float("inf"))
    spy, network, arguments = made()
    inputs, labels = arguments["data"].inputs, arguments["data"].labels.numpy()
    loader = TrainLoader(inputs, labels, batch_size=16, seed=0, device="cuda")
    spy.to("cuda"), network.to("cuda")

    class Watched:
        def batches(self, epoch=0):
            batches = loader.epoch(epoch)
            first = next(batches)
            torch.cuda.set_sync_debug_mode("error")
            try:
                yield first
                yield from batches
            finally:
                torch.cuda.set_sync_debug_mode("default")

    spy.epoch_sums = lambda out, batch: {"out": out.double().sum(dim=0)}
    train(spy, network, **{**arguments, "data": Watched()}, reports=Reports())
    assert len(spy.sums) == RECIPE.epochs
