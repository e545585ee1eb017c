"""A second decoder of frame bodies, written from docs/contract.md section 2.1 alone.

It is plain rather than fast, shares nothing with the gateway's, and exists to disagree with it.
`decode(body)` gives (accept, error_class, guest).
"""

FIELDS = {
    b"content_version": 1 << 16,
    b"guest_pid": 1 << 32,
    b"guest_monotonic_ns": 1 << 64,
    b"probe_source": None,
    b"guest_comm": None,
}
DEPTH_MAX = 255
KEY_MAX = 4096


class Refused(Exception):
    pass


UNSIGNED, NEGATIVE, BYTES, TEXT, ARRAY, MAP, TAG, OTHER = range(8)
INDEFINITE = object()
BREAK = (OTHER, INDEFINITE)


class Reader:
    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, count):
        if count > len(self.data) - self.at:
            raise Refused("cut")
        self.at += count
        return self.data[self.at - count : self.at]

    def head(self):
        """(major type, argument); rule 1."""
        initial = self.take(1)[0]
        major, info = initial >> 5, initial & 31
        if info < 24:
            return major, info
        if info < 28:
            argument = int.from_bytes(self.take(1 << (info - 24)), "big")
            # The width of a float is all there is to know of it.
            return major, ("float" if major == OTHER and info > 24 else argument)
        if info == 31 and major in (BYTES, TEXT, ARRAY, MAP, OTHER):
            return major, INDEFINITE
        raise Refused("reserved")

    def peek(self):
        at = self.at
        head = self.head()
        self.at = at
        return head

    def past_tags(self):
        head = self.head()
        while head[0] == TAG:
            head = self.head()
        return head

    def string(self, major, argument):
        """The bytes of a byte or text string whose head has been read."""
        if argument is not INDEFINITE:
            chunk = self.take(argument)
            if major == TEXT:
                utf8(chunk)
            return chunk
        chunks, open_strings = [], 1
        while open_strings:
            kind, length = self.head()
            if (kind, length) == BREAK:
                open_strings -= 1
            elif kind != major:
                raise Refused("chunk of another type")
            elif length is INDEFINITE:
                open_strings += 1
            else:
                chunk = self.take(length)
                if major == TEXT:
                    utf8(chunk)
                chunks.append(chunk)
        return b"".join(chunks)


def utf8(chunk):
    try:
        return chunk.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused("not UTF-8") from error


def read_key(reader, head):
    """Rule 4."""
    while head[0] == TAG:
        head = reader.head()
    major, length = head
    if major not in (BYTES, TEXT) or length is INDEFINITE or length > KEY_MAX:
        raise Refused("key")
    key = reader.take(length)
    if major == TEXT:
        utf8(key)
    return key


def read_integer(reader, limit):
    """Rule 6."""
    major, argument = reader.head()
    while major == TAG and argument not in (2, 3):
        major, argument = reader.head()
    if (major, argument) == (TAG, 2):
        major, argument = reader.head()
        if major != BYTES:
            raise Refused("bignum")
        argument = int.from_bytes(reader.string(major, argument), "big")
    elif major != UNSIGNED:
        raise Refused("integer")
    if argument >= limit:
        raise Refused("range")
    return argument


def read_text(reader):
    """Rule 7."""
    major, argument = reader.past_tags()
    if major != TEXT:
        raise Refused("text")
    return utf8(reader.string(major, argument))


def skip(reader, depth):
    """Rules 8 and 9; `depth` levels are open around the value."""
    major, argument = reader.head()
    if major in (UNSIGNED, NEGATIVE):
        return
    if major in (BYTES, TEXT):
        reader.string(major, argument)
        return
    if major == OTHER:
        if argument not in (20, 21, 22, 23, "float"):
            raise Refused("simple")
        return
    if major == TAG and argument in (2, 3):
        kind, length = reader.peek()
        if kind == BYTES and length is not INDEFINITE and length <= 16:
            reader.head()
            number = int.from_bytes(reader.take(length), "big")
            if argument == 3 and number >= 1 << 127:
                raise Refused("negative bignum")
            return
    depth += 1
    if depth > DEPTH_MAX:
        raise Refused("depth")
    if major == TAG:
        skip(reader, depth)
        return
    each = 2 if major == MAP else 1
    if argument is INDEFINITE:
        while reader.peek() != BREAK:
            for _ in range(each):
                skip(reader, depth)
        reader.head()
        return
    if argument * each > len(reader.data) - reader.at:
        raise Refused("count")
    for _ in range(argument * each):
        skip(reader, depth)


def read_body(reader):
    major, pairs = reader.past_tags()
    if major != MAP:
        raise Refused("not a map")
    guest = {}
    while pairs is INDEFINITE or pairs > 0:
        head = reader.head()
        if pairs is INDEFINITE:
            if head == BREAK:
                break
        else:
            pairs -= 1
        key = read_key(reader, head)
        if key not in FIELDS:
            skip(reader, 0)
            continue
        name, limit = key.decode("ascii"), FIELDS[key]
        if name in guest:
            raise Refused("repeated")
        guest[name] = read_text(reader) if limit is None else read_integer(reader, limit)
    if len(guest) != len(FIELDS):
        raise Refused("missing")
    return guest


def decode(body):
    try:
        guest = read_body(Reader(body))
    except Refused:
        return False, "wire", None
    if guest["content_version"] >= 256:
        return False, "unsupported_version", None
    return True, None, guest
