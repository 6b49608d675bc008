"""Whether a skim keeps the sentence that answers a question, its rate, and what a book costs.

The questions are those of `questions.py`; constants were tuned on its `train` part, reported is
`test`. An answer is kept when all words of its sentence are.

The rate is measured on beginnings of a book, as the distance to what was asked for in points of a
hundred. LexRank gets our sentences and words, so that its seconds are those of ranking alone.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from math import log, sqrt
from pathlib import Path
from statistics import mean

import numpy as np
import numpy.typing as npt
from measuring import header, paired, spread, verdict
from questions import Question, make_questions

from streamdyn.plan import Action
from streamdyn.text.reading import Reading
from streamdyn.text.salience import COMMON
from streamdyn.text.sentences import sentence_starts
from streamdyn.text.skim import Unit, skim
from streamdyn.text.word_vectors import Wordllama
from streamdyn.text.words import split

SKIMS: dict[str, Unit] = {"skim": "sentence", "skim, unit=token": "token"}
QUERY = "Who killed the tiger Shere Khan?"
BOOK, BOOK_TOKENS = "pg236", 50_000
LENGTHS = (*range(20, 31), 40, 50, 75, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000)
RATES = (0.03, 0.125, 1 / 3, *(number / 20 for number in range(1, 21)))


class Cut:
    """A text as tokens and sentences, for methods that only rank sentences."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.words, spans = split(text)
        offsets = np.array(spans, np.int64).reshape(-1, 2)
        self.starts, self.stops = offsets[:, 0], offsets[:, 1]
        self.begins = sentence_starts(text, self.words, self.starts, self.stops)
        self.ends = np.append(self.begins[1:], len(self.words))

    def sentence(self, number: int) -> list[str]:
        """Its words, without marks."""
        words = self.words[self.begins[number] : self.ends[number]]
        return [word for word in words if word[0].isalnum()]

    def keep(self, order: Sequence[int], rate: float) -> npt.NDArray[np.bool_]:
        """Tokens kept when sentences are taken in this order, the last one cut."""
        kept = np.zeros(len(self.words), bool)
        left = max(1, round(rate * len(kept)))
        for number in order:
            first = int(self.begins[number])
            stop = min(int(self.ends[number]), first + left)
            kept[first:stop] = True
            left -= stop - first
        return kept


def bm25_order(cut: Cut, query: str) -> list[int]:
    """Sentences by BM25 (k1 1.2, b 0.75) over lower-case words, nothing else."""
    sentences = [cut.sentence(number) for number in range(len(cut.begins))]
    holding = Counter(word for sentence in sentences for word in set(sentence))
    usual = mean(map(len, sentences))
    scores = []
    for sentence in sentences:
        counts, score = Counter(sentence), 0.0
        for word in set(split(query)[0]) & counts.keys():
            rare = log(1 + (len(sentences) - holding[word] + 0.5) / (holding[word] + 0.5))
            longer = 1.2 * (0.25 + 0.75 * len(sentence) / usual)
            score += rare * counts[word] * 2.2 / (counts[word] + longer)
        scores.append(score)
    return sorted(range(len(sentences)), key=lambda number: -scores[number])


def lexrank_order(cut: Cut) -> list[int]:
    """Sentences by the LexRank of sumy, on our words, with our list of common words."""
    from sumy.models.dom import ObjectDocumentModel, Paragraph, Sentence
    from sumy.summarizers.lex_rank import LexRankSummarizer

    class Words:
        def to_words(self, sentence: str) -> tuple[str, ...]:
            return tuple(cut.sentence(int(sentence)))

    sentences = [Sentence(str(number), Words()) for number in range(len(cut.begins))]
    summarizer = LexRankSummarizer()
    summarizer.stop_words = COMMON
    order: list[int] = []

    def take_all(ranked: Sequence[object]) -> Sequence[object]:
        order.extend(info.order for info in ranked)  # type: ignore[attr-defined]
        return ranked

    # A sentence without words makes sumy divide 0 by 0.
    with np.errstate(invalid="ignore"):
        summarizer(ObjectDocumentModel([Paragraph(sentences)]), take_all)
    return order


Method = Callable[[Question, Cut], npt.NDArray[np.bool_]]


def methods(rate: float, generator: random.Random) -> dict[str, Method]:
    """What is compared, by name; all keep the same number of tokens."""

    def of(reading: Reading) -> npt.NDArray[np.bool_]:
        kept: npt.NDArray[np.bool_] = reading.actions == Action.PROCESS
        return kept

    def shuffled(cut: Cut) -> list[int]:
        return generator.sample(range(len(cut.begins)), len(cut.begins))

    return {
        "skim, query": lambda q, cut: of(skim(q.text, rate=rate, query=q.query)),
        "skim, query, hashed": lambda q, cut: of(
            skim(q.text, rate=rate, query=q.query, vectors="hashed")
        ),
        "BM25 only": lambda q, cut: cut.keep(bm25_order(cut, q.query), rate),
        "skim, no query": lambda q, cut: of(skim(q.text, rate=rate)),
        "LexRank (sumy), no query": lambda q, cut: cut.keep(lexrank_order(cut), rate),
        "first k": lambda q, cut: cut.keep(range(len(cut.begins)), rate),
        "uniform": lambda q, cut: cut.keep(shuffled(cut), rate),
    }


def is_answer_kept(question: Question, cut: Cut, kept: npt.NDArray[np.bool_]) -> bool:
    """All words of the answering sentence are there."""
    first, stop = np.searchsorted(cut.starts, question.answer)
    return all(kept[t] for t in range(first, stop) if cut.words[t][0].isalnum())


def keep_rates(questions: Sequence[Question], rate: float) -> dict[str, dict[str, list[bool]]]:
    """Method → set → whether each answer was kept."""
    found: dict[str, dict[str, list[bool]]] = {}
    cuts = [Cut(question.text) for question in questions]
    for name, method in methods(rate, random.Random("skim uniform")).items():
        started = time.perf_counter()
        found[name] = defaultdict(list)
        for question, cut in zip(questions, cuts, strict=True):
            is_kept = is_answer_kept(question, cut, method(question, cut))
            found[name][question.kind].append(is_kept)
            found[name]["all"].append(is_kept)
        print(f"{name}: {time.perf_counter() - started:.1f} s", file=sys.stderr)
    return found


def book(docs: Path, num_tokens: int) -> str:
    """Its beginning."""
    whole = (docs / "books" / f"{BOOK}.txt").read_text("utf-8", errors="replace")
    return whole[: split(whole)[1][num_tokens - 1][1]]


def book_seconds(text: str, repeats: int) -> dict[str, list[float]]:
    """Seconds to skim a text, and LexRank's on the same, once."""
    started = time.perf_counter()
    Wordllama()
    times = {"load of wordllama": [time.perf_counter() - started]}
    for name, unit in SKIMS.items():
        times[name], times[f"{name}, query"] = paired(
            partial(skim, text, unit=unit), partial(skim, text, unit=unit, query=QUERY), repeats
        )
    cut = Cut(text)
    started = time.perf_counter()
    lexrank_order(cut)
    times["LexRank (sumy), once"] = [time.perf_counter() - started]
    return times


@dataclass(frozen=True, slots=True)
class Miss:
    """How far one skim was from the rate asked for."""

    points: float
    """Of a hundred."""
    least: float
    """The same for the nearest whole number of tokens."""
    length: int
    """Tokens."""
    rate: float


def rate_misses(docs: Path) -> dict[str, list[Miss]]:
    """Method → one for each length and rate."""
    misses: dict[str, list[Miss]] = defaultdict(list)
    for length in LENGTHS:
        text = book(docs, length)
        for rate in RATES:
            least = abs(round(rate * length) / length - rate)
            for name, unit in SKIMS.items():
                for query in (None, QUERY):
                    reading = skim(text, rate=rate, unit=unit, query=query)
                    points = 100 * abs(reading.read_rate - rate)
                    misses[name + ", query" * bool(query)].append(
                        Miss(points, 100 * least, reading.tokens_total, rate)
                    )
    return misses


def print_kept(
    found: dict[str, dict[str, list[bool]]], questions: Sequence[Question], rate: float
) -> None:
    """The table of methods and sets, and how much of a story the budget would hold."""
    kinds = sorted(found["uniform"], key="all".__eq__)
    print(" | ".join([f"{'':24}", *(f"{k} n={len(found['uniform'][k])}" for k in kinds)]))
    for method, sets in found.items():
        cells = []
        for kind in kinds:
            share, error, n = kept_share(sets[kind])
            shown = f"{100 * share:.1f} ({100 * error:.1f})"
            cells.append(f"{shown:>{len(f'{kind} n={n}')}}")
        print(" | ".join([f"{method:24}", *cells]))
    for kind in kinds[:-1]:
        own = [question for question in questions if question.kind == kind]
        size = mean(len(split(question.text)[0]) for question in own)
        story = mean(len(split(question.story)[0]) for question in own)
        print(f"{kind}: {size:.0f} tokens, {rate * size:.0f} to keep; {story:.0f} in the story")


def kept_share(kept: Sequence[bool]) -> tuple[float, float, int]:
    """The share, its standard error, and n."""
    share, n = mean(kept), len(kept)
    return share, sqrt(share * (1 - share) / n), n


def print_misses(misses: dict[str, list[Miss]]) -> None:
    """The worst of each method."""
    for method, own in misses.items():
        worst = max(own, key=lambda miss: miss.points)
        over = max(miss.points - miss.least for miss in own)
        print(
            f"{method:24}   {worst.points:.2f} at most, {worst.rate:.3g} of {worst.length} tokens; "
            f"{over:.2f} more than the nearest whole number of tokens"
        )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("docs", type=Path, help="folder with babi/, mctest/, books/, speeches/")
    parser.add_argument("--number", type=int, default=300, help="questions a set at most")
    parser.add_argument("--part", choices=("train", "test"), default="test")
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="one JSON document instead of tables")
    args = parser.parse_args()
    questions = make_questions(args.docs, args.part, args.number)
    found = keep_rates(questions, args.rate)
    times = book_seconds(book(args.docs, BOOK_TOKENS), args.repeats)
    misses = rate_misses(args.docs)
    if args.json:
        shares = {
            method: {
                kind: dict(zip(("kept", "se", "n"), kept_share(kept), strict=True))
                for kind, kept in sets.items()
            }
            for method, sets in found.items()
        }
        facts = {"part": args.part, "rate": args.rate, "keep_rates": shares}
        facts |= {"book_seconds": times, "rate_misses": misses}
        print(json.dumps(facts, indent=2, default=asdict))
        return
    header()
    print(f"\nanswer sentence kept at rate {args.rate:g}, % (standard error); {args.part} files")
    print_kept(found, questions, args.rate)
    print(f"\nseconds on {BOOK_TOKENS:,} tokens of {BOOK}.txt, vectors loaded")
    for method, seconds in times.items():
        print(f"{method:24}   {spread(seconds)}")
    print(f"\npoints off the rate, over {len(LENGTHS)} lengths from 20 on and {len(RATES)} rates")
    print_misses(misses)
    print()
    asked = found["skim, query"]
    verdict("answers kept, all sets", mean(asked["all"]), 0.85, at_most=False)
    verdict("answers kept, worst set", min(map(mean, asked.values())), 0.85, at_most=False)
    slowest = max(max(seconds) for method, seconds in times.items() if method.startswith("skim"))
    verdict("seconds, slowest skim of a book", slowest, 1.0, at_most=True)
    for least in (20, 25):  # Below 25 tokens half a token is more than 2 points.
        off = max(m.points for own in misses.values() for m in own if m.length >= least)
        verdict(f"points off the rate, from {least} tokens on", round(off, 9), 2.0, at_most=True)


if __name__ == "__main__":
    main()
