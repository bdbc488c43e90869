"""From a trained run to numbers: codes, histograms, centers, and the verification of what was stored."""
