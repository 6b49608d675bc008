"""A spaCy component that reads each document: `nlp.add_pipe("streamdyn_skim")`, `doc._.skim`.

```python
nlp = spacy.blank("en")
nlp.add_pipe("streamdyn_skim", config={"model": "movie-sentiment", "rate": 0.2})
doc = nlp("Two hours that felt like four.")
[doc.char_span(start, stop, alignment_mode="expand") for start, stop in doc._.skim.kept]
```

spaCy finds the factory by the entry point group `spacy_factories` and imports this module for every
pipeline that is made; the reader, and torch with it, is imported when the component is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from streamdyn.errors import ConfigError, MissingExtra
from streamdyn.text.reading import Reading
from streamdyn.text.words import Tokens

try:
    from spacy.language import Language
    from spacy.tokens import Doc
except ImportError as exc:
    raise MissingExtra("spacy", "the spaCy component", "spacy") from exc

NAME = "streamdyn_skim"
_ARRAYS = ("ids", "starts", "stops")
_LENGTH = "length"
"""Characters of the text that was read: a document that was cut since has other offsets."""
_FIELDS = ("actions", "label", "scores", "reads", "stop_index", "flops", "seconds")


class SkimComponent:
    """Reads `doc.text` with its own words; offsets are characters of it.

    Args:
        reader: A `SkimReader`.
        budget: Its keyword arguments for each text.
    """

    def __init__(self, reader: Any, budget: dict[str, Any]) -> None:
        self._reader, self._budget = reader, budget

    def __call__(self, doc: Doc) -> Doc:
        """Read one document."""
        return _marked(doc, self._reader(doc.text, **self._budget))

    def pipe(self, docs: Iterable[Doc], *, batch_size: int = 32) -> Iterator[Doc]:
        """Read documents as they come, a transformer up to 32 together."""
        pairs = ((doc.text, doc) for doc in docs)
        size = min(batch_size, 32)
        for reading, doc in self._reader.pipe(
            pairs, as_tuples=True, batch_size=size, **self._budget
        ):
            yield _marked(doc, reading)


@Language.factory(
    NAME,
    assigns=["doc._.skim"],
    default_config={
        "model": "movie-sentiment",
        "policy": None,
        "device": "cpu",
        "rate": None,
        "threshold": None,
        "target_tokens": None,
    },
)
def make_component(
    nlp: Language,
    name: str,
    model: str,
    policy: str | None,
    device: str,
    rate: float | None,
    threshold: float | None,
    target_tokens: int | None,
) -> SkimComponent:
    """A reader as a component.

    Args:
        nlp: The pipeline.
        name: Of the component in it.
        model: Name of a shipped model, or a folder.
        policy: See `SkimReader`.
        device: See `SkimReader`.
        rate: Share of the tokens to read in full, in (0, 1].
        threshold: The reader's own knob.
        target_tokens: Tokens to read in full.

    Raises:
        ConfigError: A wrong budget, or the pipeline has such a component.
    """
    from streamdyn.text.budget_knob import ReadBudget
    from streamdyn.text.reader import SkimReader

    # A wrong budget is told here, not at the first document.
    ReadBudget(rate, threshold, target_tokens)
    others = [other for other in nlp.component_names if nlp.get_pipe_meta(other).factory == NAME]
    if others:
        raise ConfigError(
            f"{others[0]} keeps its reading in doc._.skim, and so would {name}; a pipeline has one "
            f"{NAME}, and another reader is called on doc.text"
        )
    # Refused by spaCy where somebody else's attribute has the name.
    if not (Doc.has_extension("skim") and reading_of in Doc.get_extension("skim")):
        Doc.set_extension("skim", getter=reading_of)
    reader = SkimReader(model, policy=policy, device=device)
    budget = {"rate": rate, "threshold": threshold, "target_tokens": target_tokens}
    return SkimComponent(reader, budget)


def reading_of(doc: Doc) -> Reading | None:
    """The reading of a document; `None`: the component has not seen it, or not all of this text."""
    held = doc.user_data.get(NAME)
    if held is None or held[_LENGTH] != len(doc.text):
        return None
    tokens = Tokens(*(held[name] for name in _ARRAYS))
    return Reading(doc.text, tokens, **{name: held[name] for name in _FIELDS})


def _marked(doc: Doc, reading: Reading) -> Doc:
    # Plain data, so that a document can still be stored and sent to another process.
    held = {name: getattr(reading.tokens, name) for name in _ARRAYS}
    doc.user_data[NAME] = (
        held | {_LENGTH: len(doc.text)} | {name: getattr(reading, name) for name in _FIELDS}
    )
    return doc
