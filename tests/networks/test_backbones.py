import hashlib
from pathlib import Path

import pytest
import torch
from torch import nn

from hashbench.errors import HashbenchError
from hashbench.networks.backbones import TorchvisionFactory, file_sha256
from hashbench.registry import BACKBONES


def multiply_adds(module: nn.Module, image: torch.Tensor) -> int:
    total = 0

    def count(layer, inputs, output):
        nonlocal total
        total += layer.weight.numel() * output.shape[2] * output.shape[3]

    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(count)
    module(image)
    return total


@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 32)])
def test_the_small_network_stays_small(channels, size):
    network = BACKBONES.get("resnet-small")((channels, size, size), False).eval()
    image = torch.rand(1, channels, size, size)
    assert network(image).shape == (1, network.width)
    assert 1e6 < multiply_adds(network, image) < 20e6


@pytest.mark.parametrize("name", ["resnet34", "mobilenet_v2", "alexnet", "resnet50", "vit_b_16"])
def test_torchvision_backbones_give_features_of_grey_and_colour(name):
    with torch.device("meta"):
        network = BACKBONES.get(name)((1, 224, 224), False).eval()
        assert network(torch.rand(2, 1, 224, 224)).shape == (2, network.width)
        assert network(torch.rand(2, 3, 224, 224)).shape == (2, network.width)


def test_images_are_normalised_inside():
    network = BACKBONES.get("resnet18")((3, 32, 32), False)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    images = torch.rand(2, 3, 4, 4)
    expected = (images - mean[:, None, None]) / std[:, None, None]
    assert torch.allclose(network.normalise(images), expected)


def test_missing_weights_name_the_file_and_the_folder(monkeypatch, tmp_path):
    def no_network(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    with pytest.raises(HashbenchError) as error:
        BACKBONES.get("resnet34")((3, 224, 224), True)
    assert "resnet34-b627a593.pth" in str(error.value)
    assert str(tmp_path / "checkpoints") in str(error.value)


def test_damaged_weights_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    factory: TorchvisionFactory = BACKBONES.get("resnet34")
    assert isinstance(factory.weights_file, Path)
    factory.weights_file.parent.mkdir()
    factory.weights_file.write_bytes(b"half a file")
    with pytest.raises(HashbenchError, match="damaged"):
        factory.load_weights()


def test_weights_that_are_damaged_after_they_were_read_are_noticed(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    before = file_sha256(path)
    path.write_bytes(b"two")
    assert file_sha256(path) == hashlib.sha256(b"two").hexdigest() != before


def test_what_does_not_fit_is_said():
    with pytest.raises(HashbenchError, match="224"):
        BACKBONES.get("vit_b_16")((3, 32, 32), True)
    with pytest.raises(HashbenchError, match="no pretrained weights"):
        BACKBONES.get("resnet-small")((3, 32, 32), True)
    with pytest.raises(HashbenchError, match="vectors"):
        BACKBONES.get("identity")((3, 32, 32), False)
    with pytest.raises(HashbenchError, match="images"):
        BACKBONES.get("resnet18")((128,), False)
