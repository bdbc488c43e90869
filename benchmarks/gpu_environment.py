"""What the numbers of benchmarks/gpu.sh were measured with: device, driver, and the packages that are there or not."""

import platform
from importlib.metadata import PackageNotFoundError, version

import torch

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "numba", "pytest", "hypothesis", "scikit-learn", "faiss-cpu")


def version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


print(f"Python {platform.python_version()} on {platform.platform()}")
print(", ".join(f"{package} {version_of(package)}" for package in PACKAGES))
for number in range(torch.cuda.device_count()):
    found = torch.cuda.get_device_properties(number)
    print(f"cuda:{number} {found.name}, {found.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}")
if not torch.cuda.is_available():
    raise SystemExit("There is no CUDA device: nothing here can be checked or measured.")
