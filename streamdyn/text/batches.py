"""Several texts read together: a transformer's ragged rows, or padded batches on a GPU."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from streamdyn.nn import kernels
from streamdyn.nn.gates import Sampling
from streamdyn.plan import Action
from streamdyn.text.answer import Taken
from streamdyn.text.network import Actions, Floats, Ids, ReaderNetwork


class BatchReader(Protocol):
    """Reads texts of at least one token each."""

    def read(self, rows: Sequence[Ids], *, knob: float, caps: Sequence[int]) -> list[Taken]:
        """What was taken from each text.

        Args:
            rows: `(T,)` ids of each text.
            knob: Larger reads less.
            caps: Reads allowed in each text, at least 1.
        """


@runtime_checkable
class RaggedExecutor(Protocol):
    """An executor that knows a text as a whole, and reads many, each at its own length."""

    batch_size: int

    def read(self, documents: Sequence[Ids], knob: float, *, max_reads: int) -> list[Any]:
        """`logits`, `actions` and `flops` of each document."""


class RaggedReader:
    """Texts for a `RaggedExecutor`.

    Args:
        executor: Reads.
        options: Further keyword arguments of its `read`.
    """

    def __init__(self, executor: RaggedExecutor, options: Mapping[str, Any]) -> None:
        self._executor, self._options = executor, options

    def read(self, rows: Sequence[Ids], *, knob: float, caps: Sequence[int]) -> list[Taken]:
        """See `BatchReader.read`."""
        took: dict[int, Taken] = {}
        for cap in dict.fromkeys(caps):
            chosen = [i for i, other in enumerate(caps) if other == cap]
            documents = [rows[i] for i in chosen]
            answers = self._executor.read(documents, knob, max_reads=cap, **self._options)
            for i, answer in zip(chosen, answers, strict=True):
                reads = int((answer.actions == Action.PROCESS).sum())
                took[i] = Taken(answer.actions, answer.logits, reads, None, answer.flops)
        return [took[i] for i in range(len(rows))]


class PaddedReader:
    """Takes the decisions of the executed reader, but computes every step and throws away.

    Args:
        network: Copied; the original stays where it is.
        device: Where the copy runs.
    """

    def __init__(self, network: ReaderNetwork, device: torch.device) -> None:
        self._network = copy.deepcopy(network).to(device).eval()
        self._device = device
        # Where the tokens alone decide, the best are known beforehand.
        self._scores = getattr(self._network, "scores", None)
        self._executor = network.executor() if isinstance(network, ReaderNetwork) else None

    def read(self, rows: Sequence[Ids], *, knob: float, caps: Sequence[int]) -> list[Taken]:
        """See `BatchReader.read`; stops are not known, nor are tokens that were read twice."""
        with torch.inference_mode():
            if self._scores is None:
                return self._read(rows, knob, caps)
            best = [self._best(row, cap, self._scores) for row, cap in zip(rows, caps, strict=True)]
            took = self._read(
                [row[places] for row, places in zip(rows, best, strict=True)], knob, caps
            )
        # What was left out beforehand is as if it were not there.
        for i, places in enumerate(best):
            actions = np.full(len(rows[i]), Action.SKIP, np.uint8)
            actions[places] = took[i].actions
            took[i] = replace(took[i], actions=actions)
        return took

    def _best(self, row: Ids, cap: int, score: Callable[[Tensor], Tensor]) -> npt.NDArray[np.int64]:
        """Places of the `cap` tokens with the best scores, ascending."""
        scores = score(torch.from_numpy(row).long().to(self._device)).float().cpu().numpy()
        return np.sort(np.argsort(-scores, kind="stable")[:cap])

    def _read(self, rows: Sequence[Ids], knob: float, caps: Sequence[int]) -> list[Taken]:
        ends, passes, over = [len(row) for row in rows], 0, True
        ids = torch.zeros(len(rows), max(ends), dtype=torch.int64)
        for row, values in enumerate(rows):
            ids[row, : len(values)] = torch.from_numpy(values)
        ids = ids.to(self._device)
        while over:
            lengths = torch.tensor(ends, device=self._device)
            masked = self._network.masked(ids, lengths, Sampling(knob=knob))
            actions, passes, over = masked.actions.cpu().numpy(), passes + 1, False
            for row, cap in enumerate(caps):
                reads = np.flatnonzero(actions[row] == Action.PROCESS)
                if len(reads) >= cap and reads[cap - 1] + 1 < ends[row]:
                    # A reader that goes forward does the same up to here, and nothing after.
                    ends[row], over = int(reads[cap - 1]) + 1, True
        logits = masked.logits.float().cpu().numpy()
        return [
            self._taken(actions[i, : len(row)], logits[i], passes) for i, row in enumerate(rows)
        ]

    def _taken(self, actions: Actions, logits: Floats, passes: int) -> Taken:
        reads, flops = int((actions == Action.PROCESS).sum()), math.nan
        if self._executor is not None:
            everything = self._executor.start()
            everything.counts[[kernels.FULL, kernels.LOOKS]] = passes * len(actions)
            flops = self._executor.flops(everything)
        return Taken(actions, logits, reads, None, flops)
