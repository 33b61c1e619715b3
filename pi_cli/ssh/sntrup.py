"""The key exchange `sntrup761x25519-sha512`, the only one that some servers allow.

asyncssh has it only with liboqs, which is not on PyPI as a binary. This is the client's half of Streamlined NTRU Prime
761 (https://ntruprime.cr.yp.to), checked against OpenSSH. Unlike other implementations it does not run in constant
time, which matters for keys that are used again: this one is used once. X25519 protects the connection too.
"""

import secrets
from array import array
from collections.abc import Sequence
from hashlib import sha512

from pi_cli.ssh.quick_asyncssh import asyncssh

NAMES = ("sntrup761x25519-sha512", "sntrup761x25519-sha512@openssh.com")
P, Q, WEIGHT = 761, 4591, 286  # polynomials modulo x**P - x - 1, with coefficients modulo Q; a short one's weight
HALF = Q // 2
ROUNDED = Q // 3 + 1  # the number of values of a coefficient that is a multiple of 3
ROUNDED_LENGTH = 1007  # bytes of an encoded rounded polynomial
CONFIRMATION_LENGTH = 32  # bytes
BYTE, LIMIT = 256, 16384  # `LIMIT` is part of the encoding

Polynomial = list[int]


def register() -> None:
    """Make asyncssh offer this key exchange, after all others: a key takes 150 ms to make."""
    offered = asyncssh.kex.get_kex_algs()
    for name in NAMES:
        if name.encode() not in offered:
            hybrid, curve = asyncssh.kex_dh._KexHybridECDH, asyncssh.crypto.Curve25519DH
            asyncssh.kex.register_kex_alg(name.encode(), hybrid, sha512, (Sntrup, b"sntrup761", curve), True)


class Sntrup:
    """A key for one exchange, as asyncssh needs it."""

    pubkey_bytes, privkey_bytes, secret_bytes = 1158, 1763, 32
    ciphertext_bytes = ROUNDED_LENGTH + CONFIRMATION_LENGTH

    def __init__(self, name: bytes = b"sntrup761") -> None:
        del name
        inverse: Polynomial | None = None
        while inverse is None:  # one in about 3000 has none
            small = [secrets.choice((-1, 0, 1)) for _ in range(P)]
            inverse = _inverse(small, 3)
        self._inverse, self._short = inverse, _short()
        third = _inverse([3 * value for value in self._short], Q)
        assert third is not None  # modulo Q, every polynomial but 0 has an inverse
        self._public = _product(small, third, Q)

    def get_public(self) -> bytes:
        return _encode([_centred(value, Q) + HALF for value in self._public], [Q] * P)

    def encaps(self, peer_public: bytes) -> tuple[bytes, bytes]:
        """Return a new secret and its ciphertext for the holder of a key. Only a server needs it: the tests."""
        return encapsulate(peer_public, _short())

    def decaps(self, ciphertext: bytes) -> bytes:
        """Return the secret. Raises `ValueError` if the ciphertext was not made for this key."""
        if len(ciphertext) != self.ciphertext_bytes:
            raise ValueError("a ciphertext of another length")
        values = _decode(ciphertext[:ROUNDED_LENGTH], [ROUNDED] * P)
        product = _product([3 * value - HALF for value in values], [3 * value for value in self._short], Q)
        message = _product([_centred(value, Q) for value in product], self._inverse, 3)
        message = [_centred(value, 3) for value in message]
        if sum(map(abs, message)) != WEIGHT:
            raise ValueError("a ciphertext for another key")
        secret, expected = encapsulate(self.get_public(), message)
        if expected != ciphertext:
            raise ValueError("a ciphertext that was changed")
        return secret


def encapsulate(public: bytes, message: Polynomial) -> tuple[bytes, bytes]:
    """Return the secret and the ciphertext that a short polynomial makes with a public key."""
    key = [value - HALF for value in _decode(public, [Q] * P)]
    product = [_centred(value, Q) for value in _product(key, message, Q)]
    rounded = [(value - _centred(value, 3) + HALF) // 3 for value in product]
    packed = bytes(
        sum((value + 1) << (2 * at) for at, value in enumerate(message[start : start + 4])) for start in range(0, P, 4)
    )
    confirmation = _hash(2, _hash(3, packed) + _hash(4, public))
    ciphertext = _encode(rounded, [ROUNDED] * P) + confirmation
    return _hash(1, _hash(3, packed) + ciphertext), ciphertext


def _hash(prefix: int, data: bytes) -> bytes:
    return sha512(bytes([prefix]) + data).digest()[:32]


def _centred(value: int, modulus: int) -> int:
    """Return the representative that is nearest to 0."""
    return (value + modulus // 2) % modulus - modulus // 2


def _short() -> Polynomial:
    places = set(secrets.SystemRandom().sample(range(P), WEIGHT))
    return [secrets.choice((-1, 1)) if place in places else 0 for place in range(P)]


def _product(left: Polynomial, right: Polynomial, modulus: int) -> Polynomial:
    """Multiply modulo x**P - x - 1, as two large integers with one coefficient in each eight bytes."""
    first, second = (
        int.from_bytes(array("Q", [value % modulus for value in factor]).tobytes(), "little")
        for factor in (left, right)
    )
    terms = array("Q", (first * second).to_bytes(16 * P, "little")).tolist()
    for degree in range(2 * P - 1, P - 1, -1):
        terms[degree - P] += terms[degree]
        terms[degree - P + 1] += terms[degree]
    return [value % modulus for value in terms[:P]]


def _inverse(polynomial: Polynomial, modulus: int) -> Polynomial | None:
    """Invert modulo x**P - x - 1 and a prime by Euclid's algorithm; None if there is no inverse."""
    before, rest = [-1 % modulus, -1 % modulus, *[0] * (P - 2), 1], _trimmed([value % modulus for value in polynomial])
    factor_before: Polynomial = []
    factor: Polynomial = [1]
    while len(rest) > 1:
        lead = pow(rest[-1], -1, modulus)
        while len(before) >= len(rest):
            scale, shift = before[-1] * lead % modulus, len(before) - len(rest)
            before = _trimmed(_less(before, rest, scale, shift, modulus))
            factor_before = _less(factor_before, factor, scale, shift, modulus)
        before, rest = rest, before
        factor_before, factor = factor, factor_before
    if not rest:
        return None
    scale = pow(rest[0], -1, modulus)
    return [value * scale % modulus for value in factor] + [0] * (P - len(factor))


def _less(whole: Polynomial, part: Polynomial, scale: int, shift: int, modulus: int) -> Polynomial:
    """Return `whole - scale * x**shift * part`."""
    whole = whole + [0] * (len(part) + shift - len(whole))
    end = shift + len(part)
    changed = [(a - scale * b) % modulus for a, b in zip(whole[shift:end], part, strict=True)]
    return whole[:shift] + changed + whole[end:]


def _trimmed(polynomial: Polynomial) -> Polynomial:
    while polynomial and not polynomial[-1]:
        polynomial.pop()
    return polynomial


def _encode(values: Sequence[int], moduli: Sequence[int]) -> bytes:
    """Encode numbers below the moduli in little more than the bytes that are needed, as NTRU Prime defines it."""
    out = bytearray()
    if len(moduli) == 1:
        value, modulus = values[0], moduli[0]
        while modulus > 1:
            out.append(value % BYTE)
            value, modulus = value // BYTE, -(-modulus // BYTE)
        return bytes(out)
    next_values: list[int] = []
    next_moduli: list[int] = []
    for at in range(0, len(moduli) - 1, 2):
        value, modulus = values[at] + moduli[at] * values[at + 1], moduli[at] * moduli[at + 1]
        while modulus >= LIMIT:
            out.append(value % BYTE)
            value, modulus = value // BYTE, -(-modulus // BYTE)
        next_values.append(value)
        next_moduli.append(modulus)
    if len(moduli) % 2:
        next_values.append(values[-1])
        next_moduli.append(moduli[-1])
    return bytes(out) + _encode(next_values, next_moduli)


def _decode(data: bytes, moduli: Sequence[int]) -> list[int]:
    if len(moduli) == 1:
        return [int.from_bytes(data, "little") % moduli[0]]
    low: list[tuple[int, int]] = []
    next_moduli: list[int] = []
    read = 0
    for at in range(0, len(moduli) - 1, 2):
        value, unit, modulus = 0, 1, moduli[at] * moduli[at + 1]
        while modulus >= LIMIT:
            value, unit, read, modulus = value + data[read] * unit, unit * BYTE, read + 1, -(-modulus // BYTE)
        low.append((value, unit))
        next_moduli.append(modulus)
    if len(moduli) % 2:
        next_moduli.append(moduli[-1])
    high = _decode(data[read:], next_moduli)
    values: list[int] = []
    for at, (value, unit) in enumerate(low):
        both = value + unit * high[at]
        values += [both % moduli[2 * at], both // moduli[2 * at] % moduli[2 * at + 1]]
    return values + high[len(low) :]
