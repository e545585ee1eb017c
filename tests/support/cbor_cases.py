"""Frame bodies to quarrel about: mutations of known ones, and generated ones that go to the edges
of docs/contract.md section 2.1. Everything follows from the seed."""

import random

NAMES = [b"content_version", b"probe_source", b"guest_pid", b"guest_comm", b"guest_monotonic_ns"]
INTEGERS = {b"content_version": 16, b"guest_pid": 32, b"guest_monotonic_ns": 64}

ODD_TEXTS = [
    b"", b"curl", b"\x00", b"\x1f\x7f", b"\xef\xbb\xbf", "é€😀".encode(), b"\xed\xa0\x80",
    b"\xc0\x80", b"\xe0\x9f\xbf", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xff", b"\xe2\x82",
    b"x" * 23, b"x" * 24, b"x" * 255, b"x" * 256, b"\xf0\x9f\x98\x80" * 20, b"\"\\/\b\t\n\f\r",
]  # fmt: skip
# Heads that are refused, or that stand where nothing of the kind may.
BAD_ITEMS = [
    bytes([i]) for i in (0x1C, 0x1F, 0x3E, 0x3F, 0x5D, 0x7C, 0x9E, 0xBD, 0xDC, 0xDF, 0xFC, 0xFE, 0xFF)
] + [bytes([i]) for i in range(0xE0, 0xF4)]  # fmt: skip


def head(major, argument, rng=None):
    """A head, in the shortest form, or now and then in a longer one."""
    widths = [w for w in range(5) if argument < (24, 1 << 8, 1 << 16, 1 << 32, 1 << 64)[w]]
    width = widths[0] if rng is None or rng.random() < 0.8 else rng.choice(widths)
    if width == 0:
        return bytes([major << 5 | argument])
    return bytes([major << 5 | 23 + width]) + argument.to_bytes(1 << (width - 1), "big")


class Generator:
    def __init__(self, rng):
        self.rng = rng

    def chance(self, probability):
        return self.rng.random() < probability

    def tags(self):
        tags = b""
        while self.chance(0.15):
            tags += head(6, self.rng.choice([0, 1, 2, 3, 4, 6, 20, 21, 24, 32, 55799, 1 << 63]), self.rng)
        return tags

    def chunked(self, major, chunks):
        """An indefinite string of these chunks, which may nest, and may hold a stranger."""
        out = bytes([major << 5 | 31])
        for chunk in chunks:
            if self.chance(0.2):
                out += self.chunked(major, [chunk])
            elif self.chance(0.02):
                out += self.item(3)
            else:
                out += head(major, len(chunk), self.rng) + chunk
        return out + b"\xff"

    def string(self, major, content):
        if self.chance(0.75):
            return head(major, len(content), self.rng) + content
        cuts = sorted(self.rng.randrange(len(content) + 1) for _ in range(self.rng.randrange(4)))
        bounds = list(zip([0] + cuts, cuts + [len(content)]))
        return self.chunked(major, [content[a:b] for a, b in bounds])

    def bignum(self, tag):
        length = self.rng.choice([0, 1, 2, 4, 5, 8, 9, 15, 16, 17, 18, 40])
        digits = bytes(self.rng.choice([0, 0x7F, 0x80, 0xFF]) for _ in range(length))
        if self.chance(0.4):
            digits = bytes(self.rng.randrange(24)) + digits[-self.rng.randrange(1, 18) :]
        return head(6, tag, self.rng) + (self.tags() if self.chance(0.1) else b"") + self.string(2, digits)

    def simple(self):
        kind = self.rng.randrange(6)
        if kind == 0:
            return bytes([self.rng.randrange(0xF4, 0xF8)])
        if kind == 1:
            return bytes([0xF8, self.rng.choice([0, 19, 20, 21, 22, 23, 24, 32, 255, 0xF4])])
        if kind == 2:
            return self.rng.choice(BAD_ITEMS)
        width = (2, 4, 8)[kind - 3]
        return bytes([0xF9 + kind - 3]) + self.rng.randbytes(width)

    def count(self, real):
        """What a container says it holds: now and then more or less than is true."""
        if self.chance(0.04):
            return self.rng.choice([real + 1, max(0, real - 1), 1 << 31, 1 << 32, 1 << 63, (1 << 64) - 1])
        return real

    def container(self, depth):
        major = self.rng.choice([4, 5])
        items = self.rng.choice([0, 0, 1, 1, 2, 3]) if depth < 6 else 0
        parts = [self.item(depth + 1) for _ in range(items * (2 if major == 5 else 1))]
        if self.chance(0.5):
            if major == 5 and parts and self.chance(0.05):
                parts.pop()
            return bytes([major << 5 | 31]) + b"".join(parts) + b"\xff"
        return head(major, self.count(items), self.rng) + b"".join(parts)

    def item(self, depth=0):
        """Any value."""
        kind = self.rng.randrange(9)
        if kind < 2:
            return head(kind, self.rng.choice([0, 23, 24, 255, 256, 65535, 65536, 1 << 32, (1 << 64) - 1]), self.rng)
        if kind == 2:
            return self.string(2, self.rng.randbytes(self.rng.choice([0, 1, 15, 16, 17, 300])))
        if kind == 3:
            return self.string(3, self.rng.choice(ODD_TEXTS[:6] if self.chance(0.9) else ODD_TEXTS))
        if kind == 4:
            return self.bignum(self.rng.choice([2, 3]))
        if kind == 5:
            return self.simple() if self.chance(0.3) else b"\xf6"
        if kind == 6:
            return self.tags() + self.item(depth + 1) if depth < 6 else b"\x00"
        return self.container(depth)

    def nest(self):
        """Levels of all kinds around something, at and around the limit."""
        levels = self.rng.choice([1, 2, 10, 126, 127, 128, 253, 254, 255, 256, 257, 300])
        before, after = b"", b""
        only = self.rng.randrange(7) if self.chance(0.5) else None
        for _ in range(levels):
            kind = self.rng.randrange(6) if only is None or only == 6 else only
            opening, closing = (
                (b"\x81", b""), (b"\x9f", b"\xff"), (b"\xa1\x00", b""), (b"\xbf", b"\x00\xff"),
                (b"\xc6", b""), (b"\xa1", b"\x00"),
            )[kind]  # fmt: skip
            before, after = before + opening, closing + after
        inner = self.rng.choice([
            b"\x00", b"\x80", b"\xa0", b"\x9f\xff", b"\xbf\xff", b"\xc2\x41\x01", b"\xc3\x50" + b"\x7f" * 16,
            b"\xc2\x51" + b"\x01" * 17, b"\xc2\x5f\x41\x01\xff", b"\x7f\x61a\xff", b"\xc1\x00", b"\xc2\x00", b"",
        ])  # fmt: skip
        return before + inner + after

    def integer(self, bits):
        kind = self.rng.randrange(12)
        edge = self.rng.choice([0, 1, 23, 24, 255, (1 << bits) - 1, 1 << bits, self.rng.getrandbits(bits)])
        if kind < 8 and self.chance(0.9):
            edge = min(edge, (1 << bits) - 1)
        if bits == 16 and self.chance(0.9):
            edge = self.rng.choice([0, 1, 255])
        if kind < 7:
            return head(0, min(edge, (1 << 64) - 1), self.rng)
        if kind < 10:
            digits = edge.to_bytes((edge.bit_length() + 7) // 8, "big")
            digits = bytes(self.rng.choice([0, 0, 1, 9, 30])) + digits
            return head(6, 2, self.rng) + self.string(2, digits)
        return self.bignum(self.rng.choice([2, 2, 3])) if kind == 10 else self.item()

    def field(self, name):
        key = self.string(2, name) if self.chance(0.05) else head(3, len(name), self.rng) + name
        if self.chance(0.02):
            key = self.string(3, name)
        if name in INTEGERS:
            value = self.integer(INTEGERS[name])
        elif self.chance(0.02):
            value = self.item()
        else:
            value = self.string(3, self.rng.choice(ODD_TEXTS[:6] if self.chance(0.93) else ODD_TEXTS))
        maybe = self.tags if self.chance(0.15) else bytes
        return maybe() + key + maybe() + value

    def unknown(self):
        key = self.rng.choice([
            b"\x61a", b"\x60", b"\x67cell_id", b"\x66run_id", b"\x41a", b"\x40", b"\x42\xff\xfe",
            b"\x6fcontent-version", b"\x69Guest_pid", b"\x69guest_pie",
        ])  # fmt: skip
        if self.chance(0.05):
            key = self.rng.choice([
                b"\x00", b"\xf6", b"\x80", b"\x62\xc0\x80", b"\x7f\x61a\xff", b"\x5f\x41a\xff",
                head(3, 4096) + b"k" * 4096, head(3, 4097) + b"k" * 4097, head(2, 4097) + b"k" * 4097,
            ])  # fmt: skip
        if self.chance(0.1):
            key = self.tags() + key
        return key + (self.nest() if self.chance(0.15) else self.item())

    def body(self):
        pairs = [self.field(name) for name in NAMES]
        if self.chance(0.5):
            self.rng.shuffle(pairs)
        if self.chance(0.04):
            pairs.pop(self.rng.randrange(len(pairs)))
        if self.chance(0.04):
            pairs.append(self.field(self.rng.choice(NAMES)))
        for _ in range(self.rng.choice([0, 1, 1, 2])):
            pairs.insert(self.rng.randrange(len(pairs) + 1), self.unknown())
        top = self.tags() if self.chance(0.1) else b""
        tail = self.rng.randbytes(self.rng.randrange(1, 6)) if self.chance(0.1) else b""
        if self.chance(0.3):
            return top + b"\xbf" + b"".join(pairs) + b"\xff" + tail
        return top + head(5, self.count(len(pairs)), self.rng) + b"".join(pairs) + tail


def mutate(rng, body, other):
    """A few blows to a body: bits, bytes, cuts, doubled pieces, pieces of another."""
    data = bytearray(body)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 6])):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(8)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(data):
            data[at] = rng.choice([0x00, 0x1B, 0x5F, 0x7F, 0x9F, 0xBF, 0xC2, 0xC3, 0xC6, 0xF8, 0xFF, rng.randrange(256)])
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            del data[at : at + rng.randrange(1, 5)]
        elif kind == 4:
            data[at:at] = rng.randbytes(rng.randrange(1, 5))
        elif kind == 5:
            data[at:at] = data[at : at + rng.randrange(1, 40)]
        elif kind == 6:
            start = rng.randrange(len(other) + 1)
            data[at : at + rng.randrange(20)] = other[start : start + rng.randrange(1, 40)]
        else:
            data[at:at] = Generator(rng).item(2)
    return bytes(data[:65536])


def cases(seed, count, known):
    """`count` bodies: half generated, half mutated from `known` and from generated ones."""
    rng = random.Random(seed)
    generator = Generator(rng)
    for _ in range(count):
        body = generator.body()
        if rng.random() < 0.5:
            base = rng.choice(known) if rng.random() < 0.6 else body
            body = mutate(rng, base, body)
        yield body[:65536]
