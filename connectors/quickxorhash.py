"""The only digest that SharePoint states for a file.

Every byte is rotated eleven bits further than the one before it, all are joined by exclusive or, and the
length at last. https://learn.microsoft.com/en-us/onedrive/developer/code-snippets/quickxorhash
"""

from __future__ import annotations

from base64 import b64encode

BITS = 160
SHIFT = 11
PERIOD = 160
"""Bytes so far apart are rotated equally."""


class QuickXorHash:
    """A digest in the manner of hashlib. It finds accidents and no forgeries."""

    def __init__(self, data: bytes = b"") -> None:
        self._length = 0
        self._folded = 0
        self.update(data)

    def update(self, data: bytes) -> None:
        number = int.from_bytes(data, "little") << 8 * (self._length % PERIOD)
        # What is a period apart lands on the same place: halving adds all periods up in few steps.
        periods = 1 << (number.bit_length() // (8 * PERIOD)).bit_length()
        while periods > 1:
            periods //= 2
            half = 8 * PERIOD * periods
            number = (number >> half) ^ (number & ((1 << half) - 1))
        self._folded ^= number
        self._length += len(data)

    def digest(self) -> bytes:
        found = self._length << (BITS - 64)
        for place, byte in enumerate(self._folded.to_bytes(PERIOD, "little")):
            wide = byte << SHIFT * place % BITS
            found ^= (wide >> BITS) ^ (wide & ((1 << BITS) - 1))
        return (found & ((1 << BITS) - 1)).to_bytes(BITS // 8, "little")

    def base64(self) -> str:
        """The digest as Microsoft Graph writes it."""
        return b64encode(self.digest()).decode()
