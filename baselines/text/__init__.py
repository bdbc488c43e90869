"""Methods for documents: bags of words in, codes out, learned by generating the words."""
