#!/usr/bin/env bash
# Every check and benchmark that needs a GPU, in one call of at most nine minutes; what they print goes to $OUT (default: .).
#
#     OUT=gpu-report benchmarks/gpu.sh
#
# Needs torch, torchvision, numpy, scipy, click, tqdm, tabulate and matplotlib, and pytest for the checks; nothing is
# installed, nothing is downloaded. Without numba the evaluation runs on torch. A step that hangs is ended at its limit,
# and the next one goes on. Ends with 1 when a step failed.
set -uo pipefail
cd "$(dirname "$0")/.."
out=$(mkdir -p "${OUT:-.}" && cd "${OUT:-.}" && pwd)
python=${PYTHON:-python}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export HASHBENCH_CACHE="$scratch/cache" PYTHONPATH="$PWD:$scratch${PYTHONPATH:+:$PYTHONPATH}"

# The baselines come through entry points. Where the repository is not installed, this stands for its metadata.
"$python" - "$scratch" <<'PYTHON'
import sys, tomllib
from importlib.metadata import entry_points
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
if not entry_points(group="hashbench.methods"):
    folder = Path(sys.argv[1]) / f"hashbench-{project['version']}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: hashbench\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    lines = [line for group, names in groups for line in (f"[{group}]", *(f"{n} = {t}" for n, t in names.items()))]
    (folder / "entry_points.txt").write_text("\n".join(lines) + "\n")
PYTHON

failed=()
step() { # name, seconds, command...
    local name=$1 limit=$2 started=$SECONDS
    shift 2
    echo "== $name: $*"
    timeout --kill-after=3 "$limit" "$@" >"$out/$name.txt" 2>&1
    local status=$?
    tail -n 15 "$out/$name.txt"
    case $status in
    0) echo "== $name: done in $((SECONDS - started)) s" ;;
    124 | 137) echo "== $name: ended at its limit of $limit s" ;;
    *) echo "== $name: failed with $status" ;;
    esac
    ((status == 0)) || failed+=("$name")
}
hashbench=("$python" -m hashbench)
train=(--dataset fashion-mnist-10k --device cuda --quiet)

step environment 20 "$python" benchmarks/gpu_environment.py
mapfile -t files < <(grep -rlE 'mark\.gpu' tests --include='test_*.py')
for package in hypothesis sklearn numba; do # a file of tests that needs what is not here is left out, aloud
    "$python" -c "import $package" 2>/dev/null && continue
    kept=()
    for file in "${files[@]}"; do
        if grep -qE "^(from|import) $package" "$file"; then echo "== checks: $file needs $package"; else kept+=("$file"); fi
    done
    files=("${kept[@]}")
done
step checks 150 "$python" -m pytest -m gpu -rs "${files[@]}"
step run 80 "${hashbench[@]}" run --method crh --bits 16,32,64 "${train[@]}" --runs-dir "$scratch/runs"
step torchrun 60 "$python" -m torch.distributed.run --standalone --nproc-per-node 1 -m hashbench run \
    --method crh,shc --bits 32 --epochs 3 "${train[@]/cuda/auto}" --runs-dir "$scratch/torchrun"
step training 70 "$python" benchmarks/training.py --device cuda
step loading 60 "$python" benchmarks/loading.py --device cuda
step evaluation 100 "$python" benchmarks/evaluation.py --cuda --repeats 2 --only CUDA --only k=1000 \
    --case 10000x1000000x64 --case 5000x117000x64x80

if ((${#failed[@]})); then
    echo "Failed: ${failed[*]}; see $out."
    exit 1
fi
