"""The published settings that `--recipe paper` trains by."""

import pytest

from baselines.centers.csq import CSQ
from baselines.centers.mds import MDS
from baselines.centers.shc import SHC
from baselines.pairwise.adsh import ADSH
from baselines.pairwise.dfh import DFH
from baselines.pairwise.dhn import DHN
from baselines.pairwise.dpsh import DPSH
from baselines.pairwise.dsdh import DSDH
from baselines.pairwise.idhn import IDHN
from baselines.pairwise.mihash import MIHash
from baselines.pointwise.dpn import DPN
from baselines.pointwise.greedyhash import GreedyHash
from baselines.pointwise.jmlh import JMLH
from baselines.proxy.dcwh import DCWH
from baselines.proxy.dhd import DHD
from baselines.proxy.hyp2 import HyP2
from baselines.proxy.orthohash import OrthoHash
from baselines.text.mish import MISH
from baselines.text.vdsh import VDSH
from baselines.unsupervised.bihalf import BiHalf
from baselines.unsupervised.cibhash import CIBHash
from baselines.unsupervised.cimon import CIMON
from baselines.unsupervised.greedyhash_u import GreedyHashU
from baselines.wrappers.nhl import NHL
from hashbench import recipes
from hashbench.experiments.planned import Settings
from hashbench.experiments.planning import plan
from hashbench.methods.crh import CRH

PUBLISHED = {
    ADSH: {"backbone": "resnet50", "optimizer": "sgd", "learning_rate": 1e-3, "momentum": 0.0, "weight_decay": 5e-4,
           "batch_size": 64, "epochs": 5, "schedule": "step", "step_epochs": 1, "step_factor": 0.1},
    BiHalf: {"backbone": "vgg16", "train_backbone": False, "optimizer": "sgd", "learning_rate": 1e-4, "momentum": 0.9,
             "weight_decay": 5e-4, "batch_size": 32, "epochs": 300, "schedule": "step", "step_epochs": 120,
             "step_factor": 0.1, "augment": "none"},
    CIBHash: {"backbone": "vgg16", "train_backbone": True, "optimizer": "adam", "learning_rate": 1e-3, "batch_size": 64,
              "weight_decay": 0.0, "epochs": 60, "schedule": "constant"},
    CIMON: {"backbone": "vgg16", "optimizer": "sgd", "learning_rate": 1e-3, "momentum": 0.9, "weight_decay": 1e-5,
            "batch_size": 24, "epochs": 150, "schedule": "constant", "augment": "resized-crop-flip"},
    CRH: {"backbone": "resnet34", "optimizer": "adam", "learning_rate": 1e-4, "betas": (0.5, 0.999), "batch_size": 128,
          "weight_decay": 1e-5, "final_learning_rate": 1e-7, "gradient_clip": 1.0, "schedule": "cosine"},
    CSQ: {"backbone": "resnet50", "optimizer": "adam", "learning_rate": 1e-3, "batch_size": 64, "epochs": 90,
          "schedule": "step", "step_epochs": 10, "step_factor": 0.7},
    DCWH: {"backbone": "torchvision:googlenet", "optimizer": "sgd", "learning_rate": 1e-3, "momentum": 0.9,
           "weight_decay": 5e-4, "batch_size": 128, "epochs": 150, "schedule": "step", "step_epochs": 50,
           "step_factor": 0.1},
    DFH: {"backbone": "alexnet", "optimizer": "sgd", "learning_rate": 0.01, "momentum": 0.9, "weight_decay": 5e-4,
          "batch_size": 128, "epochs": 150, "schedule": "step", "step_epochs": 50, "step_factor": 0.1},
    DHD: {"backbone": "alexnet", "optimizer": "adam", "learning_rate": 3e-4, "weight_decay": 1e-5, "batch_size": 128,
          "epochs": 500, "schedule": "cosine"},
    DHN: {"backbone": "alexnet", "optimizer": "sgd", "learning_rate": 2e-4, "momentum": 0.9, "weight_decay": 5e-4,
          "batch_size": 64, "epochs": 18, "schedule": "step", "step_epochs": 3, "step_factor": 0.5},
    DPSH: {"backbone": "alexnet", "optimizer": "sgd", "learning_rate": 0.05, "momentum": 0.0, "weight_decay": 1e-5,
           "batch_size": 128, "epochs": 150, "schedule": "step", "step_epochs": 50, "step_factor": 0.1},
    DSDH: {"backbone": "alexnet", "optimizer": "sgd", "learning_rate": 0.01, "momentum": 0.0, "weight_decay": 5e-4,
           "batch_size": 128, "epochs": 150, "schedule": "step", "step_epochs": 1},
    DPN: {"backbone": "alexnet", "optimizer": "sgd", "learning_rate": 1e-4, "momentum": 0.9, "weight_decay": 5e-4,
          "batch_size": 256, "epochs": 200, "schedule": "step", "step_epochs": 100, "step_factor": 0.1},
    IDHN: {"backbone": "alexnet", "optimizer": "adam", "learning_rate": 1e-3, "batch_size": 128, "epochs": 100,
           "schedule": "step", "step_epochs": 16, "step_factor": 0.5},
    MIHash: {"backbone": "alexnet", "optimizer": "sgd", "learning_rate": 1e-3, "momentum": 0.9, "weight_decay": 5e-4,
             "batch_size": 256, "epochs": 100, "schedule": "step", "step_epochs": 50, "step_factor": 0.5},
    GreedyHash: {"backbone": "alexnet", "optimizer": "sgd", "learning_rate": 1e-3, "momentum": 0.9, "batch_size": 32,
                 "weight_decay": 5e-4, "epochs": 50, "schedule": "step", "step_epochs": 30, "step_factor": 0.1},
    GreedyHashU: {"backbone": "vgg16", "train_backbone": False, "optimizer": "sgd", "learning_rate": 1e-4,
                  "momentum": 0.9, "weight_decay": 5e-4, "batch_size": 32, "epochs": 60, "schedule": "constant",
                  "augment": "none"},
    HyP2: {"backbone": "alexnet", "optimizer": "sgd", "learning_rate": 0.01, "momentum": 0.9, "weight_decay": 5e-4,
           "batch_size": 100, "epochs": 100, "schedule": "step", "step_epochs": 10, "step_factor": 0.5,
           "augment": "flip"},
    JMLH: {"train_backbone": False, "optimizer": "adam", "learning_rate": 1e-4, "batch_size": 400,
           "schedule": "constant"},
    MDS: {"backbone": "resnet50", "optimizer": "rmsprop", "learning_rate": 1e-5, "momentum": 0.0, "weight_decay": 1e-5,
          "batch_size": 64, "schedule": "constant"},
    MISH: {"backbone": "identity", "pretrained": False, "optimizer": "adam", "learning_rate": 1e-3, "batch_size": 40,
           "schedule": "constant"},
    NHL: {"backbone": "resnet50", "optimizer": "adam", "learning_rate": 1e-5, "weight_decay": 1e-5, "batch_size": 64,
          "schedule": "constant"},
    OrthoHash: {"backbone": "alexnet", "optimizer": "adam", "learning_rate": 1e-4, "weight_decay": 5e-4,
                "batch_size": 256, "epochs": 100, "schedule": "step", "step_epochs": 80, "step_factor": 0.1},
    SHC: {"backbone": "resnet34", "optimizer": "rmsprop", "learning_rate": 1e-4, "weight_decay": 1e-5,
          "final_learning_rate": 1e-7, "batch_size": 64, "epochs": 300, "momentum": 0.0, "schedule": "cosine"},
    VDSH: {"backbone": "identity", "pretrained": False, "optimizer": "adam", "learning_rate": 1e-3, "batch_size": 1,
           "epochs": 25, "schedule": "step", "step_epochs": 1, "step_factor": 0.96},
}  # fmt: skip


@pytest.mark.parametrize("cls", PUBLISHED, ids=lambda cls: cls.info.name)
@pytest.mark.parametrize("multi_label", [False, True])
def test_the_paper_recipe_is_the_published_one(cls, multi_label):
    recipe = recipes.load("paper", paper=cls.paper_recipe, multi_label=multi_label)
    assert {name: getattr(recipe, name) for name in PUBLISHED[cls]} == PUBLISHED[cls]
    # What the papers do not speak of is left plain.
    assert recipe.warmup_epochs == 0
    assert recipe.precision == "fp32"
    backbone_scales = {
        CIBHash: 0.0, CSQ: 0.05 if multi_label else 0.01, DHD: 0.05, DHN: 0.1, IDHN: 0.01, MIHash: 0.01, OrthoHash: 0.1
    }  # fmt: skip
    assert recipe.backbone_learning_rate_scale == backbone_scales.get(cls, 1.0)
    assert recipe.gradient_clip == {CRH: 1.0, MDS: 5.0}.get(cls, 0)


def test_epochs_of_crh_depend_on_the_labels():
    epochs = [recipes.load("paper", paper=CRH.paper_recipe, multi_label=several).epochs for several in (False, True)]
    assert epochs == [300, 30]


def test_fields_that_belong_to_the_published_settings_come_along(tmp_path):
    def fields(**settings):
        (cell,) = plan(["csq"], ["toy"], [16], settings=Settings(runs_dir=tmp_path, **settings)).runs
        return {name: cell.experiment.fields[name] for name in ("quantization", "head_layers")}

    assert fields(recipe="paper") == {"quantization": 0.05, "head_layers": 3}
    assert fields(recipe="paper", overrides={"csq": {"head_layers": "1"}}) == {"quantization": 0.05, "head_layers": 1}
    assert fields(recipe="scratch") == {"quantization": 1e-4, "head_layers": 1}


@pytest.mark.parametrize(
    ("method", "code"),
    [
        ("idhn", {"scale": None, "soft_error": "code"}),
        ("dfh", {"margin": 0.0, "center_pull": 1.0, "centers": "discrete"}),
    ],
)
def test_what_the_authors_code_does_differently_comes_along(tmp_path, method, code):
    (cell,) = plan([method], ["toy"], [16], settings=Settings(runs_dir=tmp_path, recipe="paper")).runs
    assert {name: cell.experiment.fields[name] for name in code} == code
