"""Spending a budget of tokens exactly: on whole sentences, or on words wherever they stand."""

from __future__ import annotations

from typing import Final

import numpy as np

from streamdyn.text.salience import Bools, Document, Ints, Scores
from streamdyn.text.sentences import CLAUSES

JOINERS: Final = frozenset("-.,@/:'\u2019&+%\u2010\u2011")
"""Marks that hold a compound together: 3.14, well-known, ann@example.org."""
LONGEST_COMPOUND: Final = 8
"""Tokens."""
SCRAP: Final = 8
"""Tokens; a rest of the budget up to this goes to a short sentence that fits, if there is one."""
_LOOK_FOR = 100
"""Sentences among which that one is looked for."""
_OPENING = 1.5
"""Factor on the worth of a part of a sentence that begins where a clause does."""


def compound_starts(document: Document) -> Ints:
    """Tokens that begin a word with all that is joined to it, such as a decimal number.

    Returns:
        `(C,)` token numbers, increasing, the first one 0; empty for an empty text.
    """
    size = len(document.ids)
    joins = np.array([word in JOINERS for word in document.words], bool)[document.ids]
    is_word = np.array([word[0].isalnum() for word in document.words], bool)[document.ids]
    attached = np.zeros(size + 1, bool)
    attached[1:size] = document.starts[1:] == document.stops[:-1]
    inner = np.zeros(size, bool)
    inner[1:-1] = joins[1:-1] & is_word[:-2] & is_word[2:]
    inner &= attached[:-1] & attached[1:]
    goes_on = inner.copy()
    goes_on[1:] |= inner[:-1]
    starts = np.flatnonzero(~goes_on)
    lengths = np.diff(starts, append=size)
    long = np.flatnonzero(lengths > LONGEST_COMPOUND)
    more = [
        np.arange(starts[i], starts[i] + lengths[i], LONGEST_COMPOUND)[1:] for i in long.tolist()
    ]
    return np.sort(np.concatenate([starts, *more]))


def take_sentences(
    document: Document, kept: Bools, budget: int, order: Ints, values: Scores
) -> None:
    """Keep whole sentences while they fit, and of the next one the part that is worth most.

    Args:
        document: The text.
        kept: `(T,)`, what is kept already and costs nothing; filled in.
        budget: Tokens to add, at most what is left of the text.
        order: `(S,)` sentences, the best first.
        values: `(T,)`, what tokens are worth.
    """
    costs = np.add.reduceat(~kept, document.begins, dtype=np.int64)[order]
    spent = np.cumsum(costs)
    number = int(np.searchsorted(spent, budget, "right"))
    chosen = order[:number]
    rest = budget - (int(spent[number - 1]) if number else 0)
    if 0 < rest <= SCRAP and number and 2 * rest < costs[number]:
        (fitting,) = np.nonzero(costs[number : number + _LOOK_FOR] == rest)
        if len(fitting):
            chosen, rest = np.append(chosen, order[number + fitting[0]]), 0
    is_chosen = np.zeros(len(order), bool)
    is_chosen[chosen] = True
    kept |= is_chosen[document.sentence_of]
    if rest:
        next_ones = order[number : number + _LOOK_FOR][costs[number : number + _LOOK_FOR] >= rest]
        runs = (_best_run(document, _free(document, kept, s), rest, values) for s in next_ones)
        first, is_whole = next(runs)
        # Where every run would cut a compound, another sentence may have one that does not.
        kept[first if is_whole else next((run for run, whole in runs if whole), first)] = True


def _free(document: Document, kept: Bools, sentence: int) -> Ints:
    first = int(document.begins[sentence])
    last = first + int(document.lengths[sentence])
    return first + np.flatnonzero(~kept[first:last])


def _best_run(document: Document, free: Ints, size: int, values: Scores) -> tuple[Ints, bool]:
    """`size` neighbours out of `free`, worth most, rather from the beginning of a clause.

    Returns:
        The tokens, and whether no compound is cut.
    """
    places = np.arange(len(free) - size + 1)
    ends = np.zeros(len(document.words), bool)
    ends[[number for number, word in enumerate(document.words) if word in CLAUSES]] = True
    opens = np.append(True, ends[document.ids[free[:-1]]])[places]
    whole = np.append(np.isin(free, compound_starts(document)), True)
    sound = whole[places] & whole[places + size]
    total = np.append(0, np.cumsum(values[free]))
    worth = total[places + size] - total[places]
    start = int(np.lexsort((-worth * np.where(opens, _OPENING, 1), ~sound))[0])
    return free[start : start + size], bool(sound[start])


def take_tokens(document: Document, kept: Bools, budget: int, values: Scores) -> None:
    """Keep the compounds of the highest mean value; single words fill what is left.

    Args:
        document: The text.
        kept: `(T,)`, what is kept already and costs nothing; filled in.
        budget: Tokens to add, at most what is left of the text.
        values: `(T,)`, what tokens are worth.
    """
    starts = compound_starts(document)
    compound_of = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(kept)))
    costs = np.add.reduceat(~kept, starts, dtype=np.int64)
    worth = np.add.reduceat(np.where(kept, 0, values), starts) / np.maximum(costs, 1)
    order = np.argsort(-worth, kind="stable")
    spent = np.cumsum(costs[order])
    number = int(np.searchsorted(spent, budget, "right"))
    rest = budget - (int(spent[number - 1]) if number else 0)
    singles = order[number:][costs[order[number:]] == 1][:rest]
    is_chosen = np.zeros(len(starts), bool)
    is_chosen[order[:number]] = is_chosen[singles] = True
    kept |= is_chosen[compound_of]
    rest -= len(singles)
    if rest:
        free = np.flatnonzero(~kept)
        kept[free[np.argsort(-values[free], kind="stable")[:rest]]] = True
