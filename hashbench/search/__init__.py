"""Search with the codes of a trained run: an index of images as one file, and the images nearest to others."""
