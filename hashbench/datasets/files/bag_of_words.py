"""Documents as bags of words: the rule of tokens, vocabulary and weights, and the cache of what it gives."""

from __future__ import annotations

import hashlib
import logging
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hashbench.errors import HashbenchError
from hashbench.storage.cache import cache_root
from hashbench.storage.files import exclusive, lock_of, make_folder, remove_abandoned, replacing

if TYPE_CHECKING:
    import numpy as np
    from scipy.sparse import csr_matrix

RULE = "tf-idf-v1"  # a rule is never edited: a better one gets the next version
VOCABULARY = 10_000
_LOG = logging.getLogger(__name__)


def bag_of_words(
    documents: Sequence[str], *, name: str, fitted: np.ndarray, vocabulary: int = VOCABULARY
) -> csr_matrix[Any]:
    """Return the tf-idf vectors (N, words) float32 of `documents`, with the words of those that are `fitted` (N,) bool.

    Tokens are two or more letters, digits or underscores in a row, in lower case, without scikit-learn's English stop
    words. The words are the `vocabulary` tokens that occur most often in the fitted documents, of equally frequent ones
    the first by alphabet, and stand in the order of the alphabet. A value is count x (ln((1 + n) / (1 + df)) + 1), with
    df of the n fitted documents having the word, and each row is divided by its length: scikit-learn's TfidfVectorizer,
    but for its choice among equally frequent words, which depends on the machine. A document without any of the words
    is a row of zeros, and the log says how many there are.

    The matrix is kept in the cache folder under the hash of documents, rule and scikit-learn's version. Raises
    HashbenchError where scikit-learn is missing, and where the fitted documents have no word.
    """
    import numpy as np

    try:
        import sklearn
    except ImportError as error:
        raise HashbenchError(
            f"{name} is text, which scikit-learn counts the words of; install it: pip install 'hashbench[text]'."
        ) from error
    of = _key(documents, fitted, vocabulary, sklearn.__version__)
    path = cache_root() / "words" / f"{name}-{of[:16]}.npz"
    make_folder(path.parent)
    remove_abandoned(path.parent)
    with exclusive(lock_of(path)):  # another process that wants the same waits here
        rows = _cached(path, of)
        if rows is None:
            rows = _weighted(_counts(documents, fitted, vocabulary, name), fitted)
            with replacing(path) as file:
                np.savez_compressed(
                    file, of=np.array(of), data=rows.data, indices=rows.indices, indptr=rows.indptr, shape=rows.shape
                )
    empty = int((np.diff(rows.indptr) == 0).sum())
    if empty:
        _LOG.warning(
            "%s: %s of %s documents have none of the %s words; they stay, as rows of zeros.",
            name, f"{empty:,}", f"{rows.shape[0]:,}", f"{rows.shape[1]:,}",
        )  # fmt: skip
    return rows


def _key(documents: Sequence[str], fitted: np.ndarray, vocabulary: int, version: str) -> str:
    total = hashlib.sha256(f"{RULE} {vocabulary} {version} {len(documents)}".encode())
    total.update(fitted.tobytes())
    for document in documents:
        total.update(hashlib.sha256(document.encode()).digest())
    return total.hexdigest()


def _cached(path: Path, of: str) -> csr_matrix[Any] | None:
    """Return the rows that lie in the cache; None where there are none, and, with a warning, where they are damaged."""
    import numpy as np
    from scipy.sparse import csr_matrix

    with suppress(FileNotFoundError):
        try:
            with np.load(path, allow_pickle=False) as kept:
                if str(kept["of"]) == of:
                    parts = (kept["data"], kept["indices"], kept["indptr"])
                    return csr_matrix(parts, shape=tuple(kept["shape"].tolist()))
        except FileNotFoundError:
            raise
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            _LOG.warning("%s is damaged (%s) and is computed anew.", path, error)
    return None


def _counts(documents: Sequence[str], fitted: np.ndarray, vocabulary: int, name: str) -> csr_matrix[Any]:
    """Return how often each word of the vocabulary occurs, (N, words) int64, words in the order of the alphabet."""
    import numpy as np
    from sklearn.feature_extraction.text import CountVectorizer
    from tqdm.auto import tqdm

    counter = CountVectorizer(stop_words="english", dtype=np.int64)
    try:
        counts = counter.fit_transform(tqdm(documents, f"words of {name}", unit="doc", leave=False, disable=None))
    except ValueError as error:  # "empty vocabulary"
        raise HashbenchError(f"The documents of {name} have no word; are its files damaged?") from error
    total = np.asarray(counts[np.flatnonzero(fitted)].sum(axis=0)).ravel()
    by_alphabet = np.arange(len(total))  # as scikit-learn sorts its columns
    frequent = np.lexsort((by_alphabet, -total))[:vocabulary]
    words = np.sort(frequent[total[frequent] > 0])
    if not len(words):
        raise HashbenchError(f"The training documents of {name} have no word; are its files damaged?")
    return counts[:, words]


def _weighted(counts: csr_matrix[Any], fitted: np.ndarray) -> csr_matrix[Any]:
    from sklearn.feature_extraction.text import TfidfTransformer

    weights = TfidfTransformer().fit(counts[fitted.nonzero()[0]])
    rows = weights.transform(counts).astype("float32")  # computed in float64, so that it is the same everywhere
    rows.sort_indices()
    return rows
