#!/bin/sh
# Measures the runs of sweep.toml under the conditions of study.md, from the root of the repository; resumes.
set -e
runs=runs/robustness/fashion-mnist-10k@5k
csq=$(echo "$runs"/csq/32b/s0-*)
dpsh=$(echo "$runs"/dpsh/32b/s0-*)
hashbench evaluate-run "$runs" --under "clean(queries=500),noise,blur,jpeg,occlusion"
hashbench evaluate-run "$runs" --under "pgd(eps=2/255),pgd(eps=4/255),pgd(eps=8/255)"
hashbench evaluate-run "$runs" --under "pgd(eps=8/255, steps=50, queries=500),pgd(eps=8/255, squash=false)"
hashbench evaluate-run "$runs" --under "pgd(eps=8/255, surrogate=$csq),pgd(eps=8/255, surrogate=$dpsh)"
hashbench evaluate-run "$runs" --under "hag,targeted"
hashbench evaluate-run runs/robustness/fashion-mnist-10k@unseen --under "pgd(eps=8/255)"
