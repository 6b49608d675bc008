"""LSTM-Shuttle: LSTM-Jump that may also go back, to what it has passed over or to read again.

Paper: Fu and Ma 2018, Speed Reading: Learning to Read ForBackward via Shuttle, EMNLP 2018,
D18-1474; how far a jump goes is taken from the authors' notebook.
Differs: a jump back that would land before the first token, or more than K + R tokens before the
end of the furthest run, lands there, where the notebook stops; the document's end within a run of R
tokens ends the reading.

```
# read_size R = 2; ahead is counted from the last token of a run, back from its first.
#   token   0 1 2 3 4 5 6 7
#   read    P P - - P P - -      jump 3
#           P P P P P P - -      jump -2, from 4 to 2
```
"""

from __future__ import annotations

from streamdyn.registry import reader

from .lstm_jump import LstmJump


@reader("lstm_shuttle")
class LstmShuttle(LstmJump):
    """LSTM-Jump with jumps of -`max_jump` to `max_jump`.

    What it jumps over may not be left out of a stream, since it may go back to it; a token is
    decided on once no jump back can reach it. The `max_jumps` bound how much is read again.
    """

    name = "lstm_shuttle"

    def hops(self) -> list[int]:
        """See `LstmJump.hops`."""
        return [*range(self.max_jump + 1), *range(-1, -self.max_jump - 1, -1)]
