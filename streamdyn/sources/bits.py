"""Reading numbers from a coded header, bit by bit."""

from __future__ import annotations


class Bits:
    """Reads the bits of some bytes, most significant first."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def read(self, count: int) -> int:
        """The next `count` bits as a number.

        Raises:
            ValueError: There are not so many left.
        """
        if count > self._left:
            raise ValueError("a coded header ends too early")
        self._left -= count
        return self._value >> self._left & ((1 << count) - 1)

    def flag(self) -> bool:
        """The next bit."""
        return bool(self.read(1))

    def golomb(self) -> int:
        """The next Exp-Golomb number, `ue(v)` (ITU-T H.264, 9.1)."""
        zeros = 0
        while not self.read(1):
            zeros += 1
        return (1 << zeros) - 1 + self.read(zeros)

    def signed_golomb(self) -> int:
        """The next signed Exp-Golomb number, `se(v)`."""
        code = self.golomb()
        return (code + 1) // 2 if code % 2 else -(code // 2)
