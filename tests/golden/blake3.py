"""BLAKE3, as its paper describes it: whole messages only, plain hashes and key derivation.

Numbers are slow here, large ones not much slower: so all chunks of a message but the last are compressed side by side,
each word of each of them in a lane of 64 bits of one large number. One message alone is one lane."""

import struct

IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
CHUNK_START, CHUNK_END, PARENT, ROOT, CONTEXT, MATERIAL = 1, 2, 4, 8, 32, 64
MASK = 0xFFFFFFFF


def rounds():
    """For each of the seven rounds the order in which it takes the words of the message."""
    order = tuple(range(16))
    for _ in range(7):
        yield order
        order = tuple(order[i] for i in PERMUTATION)


ROUNDS = tuple(rounds())
QUARTERS = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)  # fmt: skip


def compress(chaining, words, counter, length, flags, ones=1):
    """`ones` has a 1 in each lane. Counters are below 2**32 here: 4 TiB."""
    mask = MASK * ones
    v = [*chaining, *(word * ones for word in IV[:4]), counter, 0, length * ones, flags * ones]
    for order in ROUNDS:
        for number, (a, b, c, d) in enumerate(QUARTERS):
            x, y = words[order[2 * number]], words[order[2 * number + 1]]
            va, vb, vc, vd = v[a], v[b], v[c], v[d]
            va = (va + vb + x) & mask
            vd ^= va
            vd = (vd >> 16 | vd << 16) & mask
            vc = (vc + vd) & mask
            vb ^= vc
            vb = (vb >> 12 | vb << 20) & mask
            va = (va + vb + y) & mask
            vd ^= va
            vd = (vd >> 8 | vd << 24) & mask
            vc = (vc + vd) & mask
            vb ^= vc
            v[a], v[b], v[c], v[d] = va, (vb >> 7 | vb << 25) & mask, vc, vd
    return [v[i] ^ v[i + 8] for i in range(8)]


def words_of(block):
    return struct.unpack("<16I", block.ljust(64, b"\0"))


def lanes(numbers):
    return int.from_bytes(struct.pack(f"<{len(numbers)}Q", *numbers), "little")


def all_but_the_last(key, data, flags):
    """The chaining values of the chunks before the last one: each has 16 whole blocks."""
    count = max(len(data) - 1, 0) // 1024
    if count == 0:
        return []
    words, ones = struct.unpack(f"<{count * 256}I", data[: count * 1024]), lanes([1] * count)
    chaining, counters = [word * ones for word in key], lanes(range(count))
    for number in range(16):
        block = [lanes(words[number * 16 + word :: 256]) for word in range(16)]
        ends = {0: CHUNK_START, 15: CHUNK_END}.get(number, 0)
        chaining = compress(chaining, block, counters, 64, flags | ends, ones)
    apart = [struct.unpack(f"<{count}Q", word.to_bytes(count * 8, "little")) for word in chaining]
    return list(zip(*apart))


def last(key, data, counter, flags):
    """What is left to compress of the last chunk, so that it can be made the root."""
    blocks = [data[at : at + 64] for at in range(0, len(data), 64)] or [b""]
    chaining = list(key)
    for number, block in enumerate(blocks[:-1]):
        start = CHUNK_START if number == 0 else 0
        chaining = compress(chaining, words_of(block), counter, 64, flags | start)
    start = CHUNK_START if len(blocks) == 1 else 0
    return chaining, words_of(blocks[-1]), counter, len(blocks[-1]), flags | start | CHUNK_END


def parent(key, chunks, flags):
    """What is left to compress of a tree over at least two chunks."""
    left = 1
    while left * 2 < len(chunks):
        left *= 2
    words = [*chaining_of(key, chunks[:left], flags), *chaining_of(key, chunks[left:], flags)]
    return list(key), words, 0, 64, flags | PARENT


def chaining_of(key, chunks, flags):
    return chunks[0] if len(chunks) == 1 else compress(*parent(key, chunks, flags))


def digest(key, data, flags):
    chunks = all_but_the_last(key, data, flags)
    left = last(key, data[len(chunks) * 1024 :], len(chunks), flags)
    if chunks:
        left = parent(key, [*chunks, compress(*left)], flags)
    chaining, words, counter, length, flags = left
    return struct.pack("<8I", *compress(chaining, words, counter, length, flags | ROOT))


def blake3(data):
    return digest(IV, data, 0)


def derive_key(context, material):
    key = struct.unpack("<8I", digest(IV, context.encode(), CONTEXT))
    return digest(key, material, MATERIAL)


assert blake3(b"").hex() == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
