"""Backbones of torchvision and timm by name: built without their last layer, weights named by their contents."""

import hashlib
import importlib.metadata
import sys

import pytest
import torch

from hashbench.errors import HashbenchError
from hashbench.networks.chosen import identity_of, provenance_of, source_of, weights_name
from hashbench.networks.libraries import search, torchvision_factory
from hashbench.registry import BACKBONES

# One of each construction: aux outputs, a plan of layers made of tensors, fixed size, channels last, several layers.
WIDTHS = {
    "googlenet": 1024,
    "regnet_x_400mf": 400,
    "vit_b_32": 768,
    "swin_t": 768,
    "convnext_tiny": 768,
    "mobilenet_v3_small": 1024,
}


@pytest.mark.parametrize("name", WIDTHS)
def test_any_classifier_of_torchvision_is_a_backbone(name):
    assert identity_of(f"torchvision:{name}", (3, 224, 224)) == {"width": WIDTHS[name], "takes": ["images"]}


def test_its_features_are_what_its_last_layer_saw():
    torch.manual_seed(0)
    backbone = BACKBONES.get("torchvision:shufflenet_v2_x0_5")((3, 32, 32), False).eval()
    from torchvision.models import shufflenet_v2_x0_5

    whole, seen = shufflenet_v2_x0_5().eval(), []
    state = {**backbone.body.state_dict(), "fc.weight": whole.fc.weight, "fc.bias": whole.fc.bias}
    whole.load_state_dict(state)
    whole.fc.register_forward_hook(lambda layer, inputs, output: seen.append(inputs[0]))
    images = torch.rand(2, 3, 32, 32)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    whole((images - mean[:, None, None]) / std[:, None, None])
    assert torch.allclose(backbone(images), seen[0], atol=1e-6)
    assert backbone(images[:, :1]).shape == (2, 1024)  # grey


def test_training_gives_features_where_a_classifier_gives_more():
    backbone = torchvision_factory("googlenet")((3, 64, 64), False).train()
    assert backbone(torch.rand(2, 3, 64, 64)).shape == (2, 1024)


def test_what_has_no_last_linear_layer_is_refused():
    with pytest.raises(HashbenchError, match="'torchvision:squeezenet1_1' has no last linear layer"):
        identity_of("torchvision:squeezenet1_1", (3, 224, 224))


def test_a_size_that_a_network_does_not_take_is_refused():
    with pytest.raises(HashbenchError, match="'torchvision:maxvit_t' cannot be built for inputs of 3 x 100 x 100"):
        identity_of("torchvision:maxvit_t", (3, 100, 100))
    with pytest.raises(HashbenchError, match=r"takes 224 pixels, not 64; say --set recipe\.size=224"):
        torchvision_factory("vit_b_32")((3, 64, 64), True)


def test_default_weights_are_named_by_their_file_and_checked(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert weights_name("torchvision:resnet50") == "resnet50-11ad3fa6.pth"  # the default; resnet50's are others
    assert weights_name("resnet50") == "resnet50-0676ba61.pth"
    factory = BACKBONES.get("torchvision:resnet50")
    factory.weights_file.parent.mkdir()
    factory.weights_file.write_bytes(b"half a file")
    with pytest.raises(HashbenchError, match="damaged"):
        factory((3, 64, 64), True)


def test_pretrained_weights_are_what_the_backbone_has(monkeypatch, tmp_path):
    """A file of fresh weights stands for the published one, whose hash is not asked for here."""
    from torchvision.models import shufflenet_v2_x0_5

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    factory = torchvision_factory("shufflenet_v2_x0_5")
    factory.weights_file.parent.mkdir()
    torch.manual_seed(3)
    published = shufflenet_v2_x0_5().state_dict()
    torch.save(published, factory.weights_file)
    monkeypatch.setattr(type(factory), "load_weights", lambda self: None)
    found = factory((3, 32, 32), True).body.state_dict()
    assert found.keys() == published.keys() - {"fc.weight", "fc.bias"}
    assert all(torch.equal(value, published[name]) for name, value in found.items())


def test_a_name_that_torchvision_lacks_is_one_sentence():
    with pytest.raises(HashbenchError, match=r"Unknown backbone 'torchvision:resnet19'\. Did you mean 'torchvision:re"):
        BACKBONES.get("torchvision:resnet19")


def test_where_a_backbone_comes_from():
    version = importlib.metadata.version("torchvision")
    assert provenance_of("torchvision:resnet18") == {"distribution": "torchvision", "version": version}
    assert provenance_of("resnet18")["distribution"] == "hashbench"
    assert source_of("torchvision:resnet18") is None is source_of("resnet18")


def test_names_are_searched_in_what_is_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    assert search("*resnet18*") == ["torchvision:resnet18"]
    assert {"torchvision:vgg16", "torchvision:vgg11_bn"} < {*search("torchvision:vgg*")}
    with pytest.raises(HashbenchError, match=r"need the package timm; install it with pip install 'hashbench\[timm\]'"):
        search("timm:resnet*")
    with pytest.raises(HashbenchError, match="need the package timm"):
        BACKBONES.get("timm:resnet18")


class TestTimm:
    @pytest.fixture(autouse=True)
    def _timm(self, monkeypatch, tmp_path):
        self.timm = pytest.importorskip("timm")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
        monkeypatch.setattr(BACKBONES, "_loaded", dict(BACKBONES._loaded))
        self.hub = tmp_path / "hub"

    def test_a_name_gets_the_tag_of_its_weights(self):
        assert BACKBONES.name_of("timm:resnet10t") == "timm:resnet10t.c3_in1k"
        assert identity_of("timm:resnet10t", (3, 64, 64)) == {"width": 512, "takes": ["images"]}
        assert "timm:resnet10t.c3_in1k" in search("timm:resnet10*")
        for name, guess in (("timm:resnett", "timm:resnet.*"), ("timm:resnet10t.nix", "timm:resnet10t.c3_in1k")):
            with pytest.raises(HashbenchError, match=f"Unknown backbone '{name}'. Did you mean '{guess}'"):
                BACKBONES.get(name)

    def test_weights_that_are_not_there_are_not_fetched(self):
        with pytest.raises(HashbenchError, match=r"The weights of 'timm:resnet10t\.c3_in1k' are not in timm's cache"):
            weights_name("timm:resnet10t")

    def test_weights_in_the_cache_are_named_by_their_hash(self):
        from safetensors.torch import save_file

        torch.manual_seed(5)
        published = self.timm.create_model("resnet10t").state_dict()
        folder = self.hub / "models--timm--resnet10t.c3_in1k"
        (folder / "snapshots" / "abc").mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text("abc")
        save_file(published, folder / "snapshots" / "abc" / "model.safetensors")
        name = weights_name("timm:resnet10t")
        assert name.startswith("resnet10t.c3_in1k-")
        assert name.endswith(".safetensors")
        backbone = BACKBONES.get("timm:resnet10t")((1, 64, 64), True).eval()
        assert all(torch.equal(value, published[key]) for key, value in backbone.body.state_dict().items())
        assert backbone(torch.rand(2, 1, 64, 64)).shape == (2, 512)

    def test_damaged_weights_in_the_cache_are_refused(self):
        folder = self.hub / "models--timm--resnet10t.c3_in1k"
        for name in ("blobs", "refs", "snapshots/abc"):
            (folder / name).mkdir(parents=True)
        (folder / "refs" / "main").write_text("abc")
        blob = folder / "blobs" / hashlib.sha256(b"whole").hexdigest()  # as the hub's client calls it
        (folder / "snapshots" / "abc" / "model.safetensors").symlink_to(blob)
        blob.write_bytes(b"whole")
        assert weights_name("timm:resnet10t") == f"resnet10t.c3_in1k-{blob.name[:8]}.safetensors"
        blob.write_bytes(b"whale")
        with pytest.raises(HashbenchError, match="is damaged: its sha256 is not its name; delete it"):
            weights_name("timm:resnet10t")

    def test_networks_of_one_size_take_others_untrained_alone(self):
        assert identity_of("timm:vit_tiny_patch16_224", (3, 64, 64))["width"] == 192
        with pytest.raises(HashbenchError, match=r"takes 224 pixels, not 64; say --set recipe\.size=224"):
            BACKBONES.get("timm:vit_tiny_patch16_224")((3, 64, 64), True)
