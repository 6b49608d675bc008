"""Whether a skim keeps the sentence that answers a question, and what a book costs to skim.

Documents are made from `docs/` of the shared data: a story is put between the paragraphs of other
texts, and a question about it comes with the one sentence that answers it.

| set | story | answer |
|---|---|---|
| babi, one fact | bAbI 1, 5, 6, 9, 10, 12, up to the question | the supporting sentence |
| babi, several facts | bAbI 2, 3, 11, 13, 14 | the last supporting one that holds the answer |
| mctest in books | an MCTest story | the only one with all content words of the right option |
| mctest in stories | the same, among seven other MCTest stories | the same |

Around the others is one run of paragraphs with at least 100 ends of sentences, the place in it
drawn. MCTest questions count where they are of the kind `one` and the sentence is unique; some of
these are found by chance and answer nothing. Constants were tuned on the `train` files (and `dev`)
with other books and speeches; reported is `test`. A sentence is kept when all its words are.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log, sqrt
from pathlib import Path

import numpy as np
import numpy.typing as npt
from measuring import header, paired, spread, verdict

from streamdyn.plan import Action
from streamdyn.text.reading import Reading
from streamdyn.text.salience import COMMON
from streamdyn.text.sentences import sentence_starts
from streamdyn.text.skim import skim
from streamdyn.text.words import split

Span = tuple[int, int]
ONE_FACT, SEVERAL_FACTS = (1, 5, 6, 9, 10, 12), (2, 3, 11, 13, 14)
BOOKS = {
    "train": ("pg11", "pg16", "pg174", "pg345", "pg98"),
    "test": ("pg1342", "pg1661", "pg236", "pg2701", "pg5200"),
}
SENTENCE_END = re.compile(r"(?<=[.!?])[\"'\u201d\u2019)]*\s+")
NUM_STORIES = 8
BOOK, BOOK_TOKENS = "pg236", 50_000


@dataclass(frozen=True, slots=True)
class Question:
    """A text, what is asked of it, and where the answer stands."""

    kind: str
    text: str
    query: str
    answer: Span
    """Characters of the sentence that answers."""


def surroundings(docs: Path, part: str) -> list[list[str]]:
    """The paragraphs of each book and speech of a part."""
    books = [docs / "books" / f"{name}.txt" for name in BOOKS[part]]
    speeches = sorted((docs / "speeches").glob("*/*.txt"))[part == "test" :: 2]
    texts = [re.split(r"\n\s*\n", path.read_text("utf-8", errors="replace")) for path in books]
    texts += [path.read_text("latin-1").split("\n") for path in speeches]
    return [[p.strip() for p in paragraphs if p.strip()] for paragraphs in texts]


def planted(
    generator: random.Random, texts: list[list[str]], story: Sequence[str], answer: int
) -> tuple[str, Span]:
    """The story as a paragraph among others, and where its sentence `answer` stands."""
    while True:
        paragraphs = generator.choice(texts)
        start = stop = generator.randrange(len(paragraphs))
        ends = 0
        while stop < len(paragraphs) and ends < 100:
            ends += len(re.findall(r"[.!?](?=\W*(?:\s|$))", paragraphs[stop]))
            stop += 1
        if ends >= 100:
            break
    chosen = paragraphs[start:stop]
    place = generator.randrange(len(chosen) + 1)
    text = "\n\n".join([*chosen[:place], " ".join(story), *chosen[place:]])
    first = sum(len(paragraph) + 2 for paragraph in chosen[:place])
    first += sum(len(sentence) + 1 for sentence in story[:answer])
    return text, (first, first + len(story[answer]))


def babi(docs: Path, part: str, task: int) -> Iterator[tuple[list[str], str, int]]:
    """Sentences so far, a question, and which sentence answers it."""
    (path,) = (docs / "babi").glob(f"qa{task}_*_{part}.txt")
    story: dict[int, str] = {}
    for line in path.read_text("utf-8").splitlines():
        number, rest = line.split(" ", 1)
        if number == "1":
            story = {}
        if "\t" not in rest:
            story[int(number)] = rest.strip()
            continue
        query, answer, supporting = rest.split("\t")
        facts = [int(fact) for fact in supporting.split()]
        naming = [fact for fact in facts if answer.lower() in story[fact].lower()]
        yield list(story.values()), query.strip(), list(story).index(max(naming or facts))


def mctest(docs: Path, part: str) -> Iterator[tuple[list[str], list[tuple[str, int]]]]:
    """Sentences of a story, and its questions with the sentence that answers each."""
    parts = ("train", "dev") if part == "train" else ("test",)
    for name in (f"{size}.{p}" for size in ("mc160", "mc500") for p in parts):
        path = docs / "mctest" / name
        lines = path.with_name(f"{name}.tsv").read_text("utf-8", errors="replace").splitlines()
        keys = path.with_name(f"{name}.ans").read_text("utf-8").splitlines()
        for line, key in zip(lines, keys, strict=True):
            fields = line.split("\t")
            story = " ".join(fields[2].replace("\\newline", " ").replace("\\tab", " ").split())
            cuts = [0, *(match.end() for match in SENTENCE_END.finditer(story)), len(story)]
            sentences = [story[a:b].strip() for a, b in pairwise(cuts) if b > a]
            questions = []
            for at, right in enumerate(key.split()):
                kind, query = fields[3 + 5 * at].split(": ", 1)
                wanted = content(fields[4 + 5 * at + "ABCD".index(right)])
                having = [i for i, s in enumerate(sentences) if wanted <= content(s)]
                if kind == "one" and wanted and len(having) == 1:
                    questions.append((query, having[0]))
            yield sentences, questions


def content(text: str) -> set[str]:
    """Its words, without the common ones."""
    return set(re.findall(r"[a-z0-9']+", text.lower())) - COMMON - {"no", "not"}


def make_questions(docs: Path, part: str, number: int) -> list[Question]:
    """At most `number` questions of each of the four sets, the same in every run."""
    generator = random.Random(f"skim {part}")
    texts = surroundings(docs, part)
    made = []
    for kind, tasks in (("babi, one fact", ONE_FACT), ("babi, several facts", SEVERAL_FACTS)):
        pool = [item for task in tasks for item in babi(docs, part, task)]
        for story, query, answer in generator.sample(pool, min(number, len(pool))):
            made.append(Question(kind, *_asked(query, planted(generator, texts, story, answer))))
    stories = list(mctest(docs, part))
    asked = [(s, q, a) for s, (_, questions) in enumerate(stories) for q, a in questions]
    for own, query, answer in generator.sample(asked, min(number, len(asked))):
        found = planted(generator, texts, stories[own][0], answer)
        made.append(Question("mctest in books", *_asked(query, found)))
    for own, query, answer in generator.sample(asked, min(number, len(asked))):
        others = [s for s in range(len(stories)) if s != own]
        among = [own, *generator.sample(others, NUM_STORIES - 1)]
        generator.shuffle(among)
        bodies = [" ".join(stories[s][0]) for s in among]
        first = sum(len(body) + 2 for body in bodies[: among.index(own)])
        first += sum(len(sentence) + 1 for sentence in stories[own][0][:answer])
        span = first, first + len(stories[own][0][answer])
        made.append(Question("mctest in stories", *_asked(query, ("\n\n".join(bodies), span))))
    return made


def _asked(query: str, found: tuple[str, Span]) -> tuple[str, str, Span]:
    return found[0], query, found[1]


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
    mean = sum(map(len, sentences)) / len(sentences)
    scores = []
    for sentence in sentences:
        counts, score = Counter(sentence), 0.0
        for word in set(split(query)[0]) & counts.keys():
            rare = log(1 + (len(sentences) - holding[word] + 0.5) / (holding[word] + 0.5))
            longer = 1.2 * (0.25 + 0.75 * len(sentence) / mean)
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


def book_seconds(docs: Path, repeats: int) -> dict[str, list[float]]:
    """Seconds to skim 50,000 tokens, and LexRank's on the same, once."""
    whole = (docs / "books" / f"{BOOK}.txt").read_text("utf-8", errors="replace")
    text = whole[: split(whole)[1][BOOK_TOKENS - 1][1]]
    query = "Who killed the tiger Shere Khan?"
    plain, asked = paired(lambda: skim(text), lambda: skim(text, query=query), repeats)
    words, _ = paired(lambda: skim(text, unit="token"), lambda: None, repeats)
    started = time.perf_counter()
    lexrank_order(Cut(text))
    lexrank = [time.perf_counter() - started]
    return {
        "skim": plain,
        "skim, query": asked,
        "skim, unit=token": words,
        "LexRank (sumy)": lexrank,
    }


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
    times = book_seconds(args.docs, args.repeats)
    if args.json:
        rates = {
            method: {kind: {"kept": p, "se": e, "n": n} for kind, (p, e, n) in shares(sets).items()}
            for method, sets in found.items()
        }
        facts = {"part": args.part, "rate": args.rate, "keep_rates": rates, "book_seconds": times}
        print(json.dumps(facts, indent=2))
        return
    header()
    print(f"\nanswer sentence kept at rate {args.rate:g}, % (standard error); {args.part} files")
    kinds = list(next(iter(found.values())))
    kinds.sort(key="all".__eq__)
    print(" | ".join([f"{'':24}", *(f"{k} n={len(found['uniform'][k])}" for k in kinds)]))
    for method, sets in found.items():
        cells = [
            f"{f'{100 * p:.1f} ({100 * e:.1f})':>{len(k) + len(str(n)) + 3}}"
            for k, (p, e, n) in ((k, shares(sets)[k]) for k in kinds)
        ]
        print(" | ".join([f"{method:24}", *cells]))
    print(f"\nseconds on {BOOK_TOKENS:,} tokens of {BOOK}.txt, after load")
    for method, seconds in times.items():
        print(f"{method:24}   {spread(seconds)}")
    print()
    verdict("answers kept, all sets", shares(found["skim, query"])["all"][0], 0.85, at_most=False)
    verdict(
        "seconds, slowest of a book",
        max(max(times[m]) for m in times if "skim" in m),
        1.0,
        at_most=True,
    )


def shares(sets: dict[str, list[bool]]) -> dict[str, tuple[float, float, int]]:
    """Set → share, its standard error, and n."""
    out = {}
    for kind, kept in sets.items():
        share, n = sum(kept) / len(kept), len(kept)
        out[kind] = share, sqrt(share * (1 - share) / n), n
    return out


if __name__ == "__main__":
    main()
