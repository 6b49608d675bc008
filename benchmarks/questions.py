"""Questions in long texts, each with the one sentence that answers it, from `docs/` of the data.

A story is put between the paragraphs of other texts, and asked about.

| set | story | answer |
|---|---|---|
| babi, one fact | bAbI 1, 4, 5, 6, 9, 10, 12, 20, up to the question | the supporting sentence |
| babi, several facts | bAbI 2, 3, 11, 13 to 16 | the last supporting one that holds the answer |
| mctest in books | an MCTest story | the only one with all content words of the right option |
| mctest in stories | the same, among seven other MCTest stories | the same |

Around the others is one run of paragraphs with at least 100 ends of sentences, the place in it
drawn. In bAbI 7, 8, 17, 18 and 19 no single sentence answers. MCTest questions count where they are
of the kind `one` and the sentence is unique; some of these are found by chance and answer nothing.
The `train` part is of the `train` and `dev` files and has other books and speeches than `test`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from streamdyn.text.salience import COMMON

Span = tuple[int, int]
ONE_FACT, SEVERAL_FACTS = (1, 4, 5, 6, 9, 10, 12, 20), (2, 3, 11, 13, 14, 15, 16)
BOOKS = {
    "train": ("pg11", "pg16", "pg174", "pg345", "pg98"),
    "test": ("pg1342", "pg1661", "pg236", "pg2701", "pg5200"),
}
SENTENCE_END = re.compile(r"(?<=[.!?])[\"'\u201d\u2019)]*\s+")
NUM_STORIES = 8


@dataclass(frozen=True, slots=True)
class Question:
    """A text, what is asked of it, and where the answer stands."""

    kind: str
    text: str
    query: str
    answer: Span
    """Characters of the sentence that answers."""
    story: str
    """The part of the text that the question is about."""


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
            text, span = planted(generator, texts, story, answer)
            made.append(Question(kind, text, query, span, " ".join(story)))
    stories = list(mctest(docs, part))
    asked = [(s, q, a) for s, (_, questions) in enumerate(stories) for q, a in questions]
    for own, query, answer in generator.sample(asked, min(number, len(asked))):
        story = stories[own][0]
        text, span = planted(generator, texts, story, answer)
        made.append(Question("mctest in books", text, query, span, " ".join(story)))
    for own, query, answer in generator.sample(asked, min(number, len(asked))):
        others = [s for s in range(len(stories)) if s != own]
        among = [own, *generator.sample(others, NUM_STORIES - 1)]
        generator.shuffle(among)
        bodies = [" ".join(stories[s][0]) for s in among]
        first = sum(len(body) + 2 for body in bodies[: among.index(own)])
        first += sum(len(sentence) + 1 for sentence in stories[own][0][:answer])
        span = first, first + len(stories[own][0][answer])
        text, body = "\n\n".join(bodies), bodies[among.index(own)]
        made.append(Question("mctest in stories", text, query, span, body))
    return made
