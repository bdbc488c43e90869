"""Methods: the contract, the pieces that losses are made of, CRH; the names below are what a method's file needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hashbench.exports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "balanced_pairs": "hashbench.methods.pair_terms",
        "balanced_words": "hashbench.methods.codebooks",
        "base_method": "hashbench.methods.contract",
        "Batch": "hashbench.datasets.loading.batch",
        "bit_cross_entropy": "hashbench.methods.quantization",
        "center_codes": "hashbench.methods.adversarial",
        "central_words": "hashbench.methods.codebooks",
        "class_cross_entropy": "hashbench.methods.quantization",
        "coordinate_descent": "hashbench.methods.discrete",
        "cosine_gap": "hashbench.methods.similarity",
        "counted_pairs": "hashbench.methods.pair_terms",
        "cubic_gap": "hashbench.methods.quantization",
        "DeepMethod": "hashbench.methods.contract",
        "distances": "hashbench.methods.codebooks",
        "distinct_words": "hashbench.methods.codebooks",
        "draw_anchors": "hashbench.methods.anchors",
        "factorise_pairs": "hashbench.methods.factorisation",
        "gilbert_varshamov_distance": "hashbench.methods.codebooks",
        "gram_matrices": "hashbench.methods.factorisation",
        "hadamard_words": "hashbench.methods.codebooks",
        "half_gaussians": "hashbench.methods.similarity",
        "label_overlap": "hashbench.methods.pair_terms",
        "labelled_mean": "hashbench.methods.quantization",
        "labelled_pairs": "hashbench.methods.pair_terms",
        "lack_of_central_words": "hashbench.methods.codebooks",
        "log_cosh_gap": "hashbench.methods.quantization",
        "majority": "hashbench.methods.codebooks",
        "max_distance_words": "hashbench.methods.codebooks",
        "mean_distance": "hashbench.methods.anchors",
        "mean_of_labelled_pairs": "hashbench.methods.pair_terms",
        "mean_of_pairs": "hashbench.methods.pair_terms",
        "mean_pair_likelihood": "hashbench.methods.pair_terms",
        "Method": "hashbench.methods.contract",
        "method": "hashbench.methods.contract",
        "nearest_rotation": "hashbench.methods.projections",
        "nt_xent": "hashbench.methods.similarity",
        "option": "hashbench.methods.contract",
        "pair_likelihood": "hashbench.methods.pair_terms",
        "PairMethod": "hashbench.methods.pairs",
        "PairScorer": "hashbench.methods.pairs",
        "PairTask": "hashbench.methods.pairs",
        "principal_components": "hashbench.methods.projections",
        "project": "hashbench.methods.projections",
        "projected_gradient": "hashbench.methods.adversarial",
        "quantizing_rotation": "hashbench.methods.projections",
        "radial_features": "hashbench.methods.anchors",
        "random_rotation": "hashbench.methods.projections",
        "random_words": "hashbench.methods.codebooks",
        "reassign": "hashbench.methods.reassignment",
        "reassignment_due": "hashbench.methods.reassignment",
        "ridge": "hashbench.methods.discrete",
        "SampleMemory": "hashbench.methods.memory",
        "separated_words": "hashbench.methods.codebooks",
        "signs": "hashbench.methods.binarization",
        "signs_of_waves": "hashbench.methods.projections",
        "similar": "hashbench.methods.pair_terms",
        "similarity_sums": "hashbench.methods.pair_terms",
        "smoothest_waves": "hashbench.methods.projections",
        "soft_bins": "hashbench.methods.pair_terms",
        "softmax_binary_entropy": "hashbench.methods.quantization",
        "softplus": "hashbench.methods.pair_terms",
        "spaced_words": "hashbench.methods.codebooks",
        "spanned_components": "hashbench.methods.projections",
        "spread": "hashbench.methods.codebooks",
        "squared_gap": "hashbench.methods.quantization",
        "straight_through_draws": "hashbench.methods.binarization",
        "straight_through_signs": "hashbench.methods.binarization",
        "Task": "hashbench.methods.contract",
        "Tools": "hashbench.methods.contract",
        "TrainingData": "hashbench.methods.contract",
        "Waves": "hashbench.methods.projections",
        "widest": "hashbench.methods.codebooks",
        "with_fixed_signs": "hashbench.methods.projections",
        "word_costs": "hashbench.methods.reassignment",
    },
)

if TYPE_CHECKING:
    from hashbench.datasets.loading.batch import Batch as Batch
    from hashbench.methods.adversarial import center_codes as center_codes
    from hashbench.methods.adversarial import projected_gradient as projected_gradient
    from hashbench.methods.anchors import draw_anchors as draw_anchors
    from hashbench.methods.anchors import mean_distance as mean_distance
    from hashbench.methods.anchors import radial_features as radial_features
    from hashbench.methods.binarization import signs as signs
    from hashbench.methods.binarization import straight_through_draws as straight_through_draws
    from hashbench.methods.binarization import straight_through_signs as straight_through_signs
    from hashbench.methods.codebooks import balanced_words as balanced_words
    from hashbench.methods.codebooks import central_words as central_words
    from hashbench.methods.codebooks import distances as distances
    from hashbench.methods.codebooks import distinct_words as distinct_words
    from hashbench.methods.codebooks import gilbert_varshamov_distance as gilbert_varshamov_distance
    from hashbench.methods.codebooks import hadamard_words as hadamard_words
    from hashbench.methods.codebooks import lack_of_central_words as lack_of_central_words
    from hashbench.methods.codebooks import majority as majority
    from hashbench.methods.codebooks import max_distance_words as max_distance_words
    from hashbench.methods.codebooks import random_words as random_words
    from hashbench.methods.codebooks import separated_words as separated_words
    from hashbench.methods.codebooks import spaced_words as spaced_words
    from hashbench.methods.codebooks import spread as spread
    from hashbench.methods.codebooks import widest as widest
    from hashbench.methods.contract import DeepMethod as DeepMethod
    from hashbench.methods.contract import Method as Method
    from hashbench.methods.contract import Task as Task
    from hashbench.methods.contract import Tools as Tools
    from hashbench.methods.contract import TrainingData as TrainingData
    from hashbench.methods.contract import base_method as base_method
    from hashbench.methods.contract import method as method
    from hashbench.methods.contract import option as option
    from hashbench.methods.discrete import coordinate_descent as coordinate_descent
    from hashbench.methods.discrete import ridge as ridge
    from hashbench.methods.factorisation import factorise_pairs as factorise_pairs
    from hashbench.methods.factorisation import gram_matrices as gram_matrices
    from hashbench.methods.memory import SampleMemory as SampleMemory
    from hashbench.methods.pair_terms import balanced_pairs as balanced_pairs
    from hashbench.methods.pair_terms import counted_pairs as counted_pairs
    from hashbench.methods.pair_terms import label_overlap as label_overlap
    from hashbench.methods.pair_terms import labelled_pairs as labelled_pairs
    from hashbench.methods.pair_terms import mean_of_labelled_pairs as mean_of_labelled_pairs
    from hashbench.methods.pair_terms import mean_of_pairs as mean_of_pairs
    from hashbench.methods.pair_terms import mean_pair_likelihood as mean_pair_likelihood
    from hashbench.methods.pair_terms import pair_likelihood as pair_likelihood
    from hashbench.methods.pair_terms import similar as similar
    from hashbench.methods.pair_terms import similarity_sums as similarity_sums
    from hashbench.methods.pair_terms import soft_bins as soft_bins
    from hashbench.methods.pair_terms import softplus as softplus
    from hashbench.methods.pairs import PairMethod as PairMethod
    from hashbench.methods.pairs import PairScorer as PairScorer
    from hashbench.methods.pairs import PairTask as PairTask
    from hashbench.methods.projections import Waves as Waves
    from hashbench.methods.projections import nearest_rotation as nearest_rotation
    from hashbench.methods.projections import principal_components as principal_components
    from hashbench.methods.projections import project as project
    from hashbench.methods.projections import quantizing_rotation as quantizing_rotation
    from hashbench.methods.projections import random_rotation as random_rotation
    from hashbench.methods.projections import signs_of_waves as signs_of_waves
    from hashbench.methods.projections import smoothest_waves as smoothest_waves
    from hashbench.methods.projections import spanned_components as spanned_components
    from hashbench.methods.projections import with_fixed_signs as with_fixed_signs
    from hashbench.methods.quantization import bit_cross_entropy as bit_cross_entropy
    from hashbench.methods.quantization import class_cross_entropy as class_cross_entropy
    from hashbench.methods.quantization import cubic_gap as cubic_gap
    from hashbench.methods.quantization import labelled_mean as labelled_mean
    from hashbench.methods.quantization import log_cosh_gap as log_cosh_gap
    from hashbench.methods.quantization import softmax_binary_entropy as softmax_binary_entropy
    from hashbench.methods.quantization import squared_gap as squared_gap
    from hashbench.methods.reassignment import reassign as reassign
    from hashbench.methods.reassignment import reassignment_due as reassignment_due
    from hashbench.methods.reassignment import word_costs as word_costs
    from hashbench.methods.similarity import cosine_gap as cosine_gap
    from hashbench.methods.similarity import half_gaussians as half_gaussians
    from hashbench.methods.similarity import nt_xent as nt_xent
