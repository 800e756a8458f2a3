#!/usr/bin/env python3
"""Restores a backup from a repository of format 2, by FORMAT.md alone: it shares nothing with Seawall.

    reader.py REPOSITORY KEYSPACE/SHARD BACKUP TARGET [--identity FILE | --unlock NAME] [--writer KEY]

Writes each root to TARGET/<root>. --unlock opens identities/NAME.age with the passphrase in SEAWALL_PASSPHRASE.
Needs the package `cryptography` and the library libzstd. It is slow: it is here to be read.
"""

import argparse
import base64
import ctypes
import ctypes.util
import hashlib
import hmac
import json
import os
import struct
import sys
import uuid

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

from blake3 import blake3, derive_key

VERSION, CHUNK = 2, 1 << 20
PACK, LIST, PACK_LIST, MANIFEST = 1, 2, 3, 4


class Damaged(Exception):
    """What was read is not what the format allows."""


def demand(condition, what):
    if not condition:
        raise Damaged(what)


# --- age ---------------------------------------------------------------------------------------


def hkdf(key, salt, info):
    inner = hmac.new(salt or bytes(32), key, hashlib.sha256).digest()
    return hmac.new(inner, info + b"\x01", hashlib.sha256).digest()


def unpadded(text):
    return base64.b64decode(text + b"=" * (-len(text) % 4))


def age_decrypt(data, unwraps):
    """Each `unwrap(kind, arguments, body)` gives the file key, or None for somebody else's stanza."""
    lines, at = [], 0
    while True:
        end = data.index(b"\n", at)
        line, at = data[at:end], end + 1
        lines.append(line)
        if line.startswith(b"---"):
            break
    demand(lines[0] == b"age-encryption.org/v1", "not an age file")
    file_key, number = None, 1
    while number < len(lines) - 1:
        arguments = lines[number].split(b" ")
        demand(arguments[0] == b"->", "an age header")
        number += 1
        body = b""
        while True:
            line = lines[number]
            number += 1
            body += line
            if len(line) < 64:
                break
        for unwrap in unwraps:
            file_key = file_key or unwrap(arguments[1], arguments[2:], unpadded(body))
    demand(file_key, "no identity opens it")
    signed = data[: data.index(b"\n---") + 4]
    mac = hmac.new(hkdf(file_key, b"", b"header"), signed, hashlib.sha256).digest()
    demand(hmac.compare_digest(mac, unpadded(lines[-1][4:])), "an altered age header")
    nonce, payload = data[at : at + 16], data[at + 16 :]
    cipher, plain, counter = ChaCha20Poly1305(hkdf(file_key, nonce, b"payload")), b"", 0
    while True:
        piece, payload = payload[: (64 << 10) + 16], payload[(64 << 10) + 16 :]
        last = b"\x00" if payload else b"\x01"
        plain += cipher.decrypt(counter.to_bytes(11, "big") + last, piece, None)
        counter += 1
        if not payload:
            return plain


def bech32(text):
    """The bytes in `AGE-SECRET-KEY-1...`; the checksum is not looked at: a wrong key opens nothing."""
    digits = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
    values = [digits.index(c) for c in text.lower().rsplit("1", 1)[1]][:-6]
    number = 0
    for value in values:
        number = number << 5 | value
    return (number >> (len(values) * 5 % 8)).to_bytes(len(values) * 5 // 8, "big")


def secret_keys(data):
    """What opens stanzas: of an SSH private key, or of the X25519 keys in the lines of an age identity file."""
    if data.startswith(b"-----BEGIN OPENSSH PRIVATE KEY-----"):
        private = load_ssh_private_key(data, None)
        of_kind = ssh_ed25519 if isinstance(private, Ed25519PrivateKey) else ssh_rsa
        return [of_kind(private)]
    lines = [line.strip() for line in data.decode().splitlines()]
    return [x25519(bech32(line)) for line in lines if line and not line.startswith("#")]


def open_body(key, body):
    try:
        return ChaCha20Poly1305(key).decrypt(bytes(12), body, None)
    except InvalidTag:
        return None


def x25519(secret):
    private = X25519PrivateKey.from_private_bytes(secret)
    public = private.public_key().public_bytes_raw()

    def unwrap(kind, arguments, body):
        if kind != b"X25519":
            return None
        ephemeral = unpadded(arguments[0])
        shared = private.exchange(X25519PublicKey.from_public_bytes(ephemeral))
        return open_body(hkdf(shared, ephemeral + public, b"age-encryption.org/v1/X25519"), body)

    return unwrap


def ssh_public(private):
    """The key as it stands in a public key file, and the tag that stanzas for it bear."""
    text = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    wire = base64.b64decode(text.split(b" ")[1])
    return wire, hashlib.sha256(wire).digest()[:4]


def ssh_ed25519(private):
    wire, tag = ssh_public(private)
    label = b"age-encryption.org/v1/ssh-ed25519"
    scalar = X25519PrivateKey.from_private_bytes(hashlib.sha512(private.private_bytes_raw()).digest()[:32])
    public = scalar.public_key().public_bytes_raw()
    tweak = X25519PrivateKey.from_private_bytes(hkdf(b"", wire, label))

    def unwrap(kind, arguments, body):
        if kind != b"ssh-ed25519" or unpadded(arguments[0]) != tag:
            return None
        ephemeral = unpadded(arguments[1])
        shared = scalar.exchange(X25519PublicKey.from_public_bytes(ephemeral))
        shared = tweak.exchange(X25519PublicKey.from_public_bytes(shared))
        return open_body(hkdf(shared, ephemeral + public, label), body)

    return unwrap


def ssh_rsa(private):
    _, tag = ssh_public(private)
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), b"age-encryption.org/v1/ssh-rsa")

    def unwrap(kind, arguments, body):
        if kind != b"ssh-rsa" or unpadded(arguments[0]) != tag:
            return None
        return private.decrypt(body, oaep)

    return unwrap


def with_passphrase(passphrase):
    def unwrap(kind, arguments, body):
        demand(kind == b"scrypt" and int(arguments[1]) <= 20, "not locked with a passphrase")
        salt = b"age-encryption.org/v1/scrypt" + unpadded(arguments[0])
        work = 1 << int(arguments[1])
        key = hashlib.scrypt(passphrase, salt=salt, n=work, r=8, p=1, maxmem=(2 << 30) - 1, dklen=32)
        return open_body(key, body)

    return unwrap


# --- objects -----------------------------------------------------------------------------------


class Prefix:
    def __init__(self, raw, kind, repository):
        demand(len(raw) >= 64, "an object that is cut short")
        self.raw = raw[:64]
        demand(raw[:8] == b"SEAWALL1" and raw[8] == VERSION, "not an object of this version")
        demand(raw[9] == kind and raw[10] <= 1 and not any(raw[11:16]), "an object of another kind")
        demand(raw[16:32] == repository, "an object of another repository")
        self.encrypted, self.session, self.id = raw[10] == 1, raw[32:48], raw[48:64]

    def open(self, place, sealed, keys, also=b""):
        """The plain piece in `sealed`, which ends with its tag."""
        covered = self.raw + struct.pack("<Q", place) + also
        if not self.encrypted:
            demand(blake3(covered + sealed[:-16])[:16] == sealed[-16:], "a seal that does not fit")
            return sealed[:-16]
        context = "seawall repository format 2: key of one object"
        key = derive_key(context, keys[self.session] + self.raw)
        try:
            return AESGCM(key).decrypt(struct.pack("<Q", place) + bytes(4), sealed, covered)
        except InvalidTag:
            raise Damaged("a seal that does not fit") from None


def zstd_decompress(data, length):
    library = ctypes.CDLL(ctypes.util.find_library("zstd") or "libzstd.so.1")
    library.ZSTD_decompress.restype = ctypes.c_size_t
    library.ZSTD_decompress.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
    plain = ctypes.create_string_buffer(length)
    demand(library.ZSTD_decompress(plain, length, data, len(data)) == length, "a chunk that cannot be unpacked")
    return plain.raw


class Cursor:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        demand(self.at + count <= len(self.data), "a list that is cut short")
        self.at += count
        return self.data[self.at - count : self.at]

    def numbers(self, form):
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))


class Repository:
    def __init__(self, path, secrets):
        self.path, self.secrets, self.keys = path, secrets, {}
        header = json.loads(self.get("seawall.json"))
        demand(header["format"] == "seawall repository" and header["version"] == VERSION, "another format")
        demand(header["chunk_bytes"] == CHUNK, "another chunk size")
        self.id = uuid.UUID(header["repository_id"]).bytes

    def get(self, key):
        with open(os.path.join(self.path, key), "rb") as file:
            return file.read()

    def load_key(self, shard, name, session):
        if session in self.keys:
            return
        folder = f"keyspaces/{shard}/packs/{name}/keys"
        for file in sorted(os.listdir(os.path.join(self.path, folder))):
            if not file.startswith(session.hex() + "."):
                continue
            try:
                plain = age_decrypt(self.get(f"{folder}/{file}"), self.secrets)
            except Damaged:
                continue
            demand(len(plain) == 72 and plain[:8] == b"SWLLKEY1", "not a data key")
            demand(plain[8:24] == self.id and plain[24:40] == session, "a key of another session")
            self.keys[session] = plain[40:]
            return
        raise Damaged(f"no identity opens {name}")


class Backup:
    def __init__(self, repository, shard, name, writer):
        self.repository, self.shard, self.name = repository, shard, name
        self.folder = f"keyspaces/{shard}/backups/{name}"
        raw = repository.get(f"{self.folder}/manifest")
        demand(not os.path.exists(os.path.join(repository.path, self.folder, "removed")), "it was removed")
        self.prefix = Prefix(raw, MANIFEST, repository.id)
        cursor = Cursor(raw)
        cursor.take(64)
        header = cursor.take(*cursor.numbers("I"))
        header_hash = cursor.take(32)
        demand(blake3(header) == header_hash, "an altered header")
        body = cursor.take(*cursor.numbers("I"))
        demand(len(raw) - cursor.at == 100, "a manifest that does not end where it says")
        self.header = json.loads(header)
        demand(self.header["version"] == VERSION and self.header["name"] == name, "another backup's manifest")
        demand(self.header["shard"] == shard, "another shard's manifest")
        demand(self.header["encrypted"] == self.prefix.encrypted, "a header that contradicts itself")
        self.check_signature(raw, writer)
        if self.prefix.encrypted:
            repository.load_key(shard, name, self.prefix.session)
        self.body = json.loads(self.prefix.open(0, body, repository.keys, header_hash))
        self.packs = self.read_packs()

    def check_signature(self, raw, writer):
        kind, key, signature = struct.unpack("<I32s64s", raw[-100:])
        demand(kind in (0, 1), "an unknown kind of signature")
        demand((key.hex() if kind else "") == self.header.get("writer_key", ""), "another signer than the header says")
        if kind == 0:
            demand(not any(raw[-96:]), "a signature of no kind")
            demand(writer is None, "not signed")
            return
        demand(writer in (None, key.hex()), "signed by somebody else")
        try:
            message = b"seawall manifest signature 2" + raw[:-100]
            Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
        except InvalidSignature:
            raise Damaged("a signature that does not fit") from None

    def part(self, record, kind):
        raw = self.repository.get(f"{self.folder}/parts/{record['number']:06}")
        demand(len(raw) == record["bytes"] and blake3(raw).hex() == record["hash"], "an altered part")
        prefix = Prefix(raw, kind, self.repository.id)
        demand(prefix.session == self.prefix.session, "a part of another session")
        return prefix.open(record["number"], raw[64:], self.repository.keys)

    def read_packs(self):
        packs = []
        for record in self.header["pack_lists"]:
            cursor, origins = Cursor(self.part(record, PACK_LIST)), []
            for _ in range(*cursor.numbers("H")):
                name = cursor.take(*cursor.numbers("B")).decode()
                demand(name == self.name or name in self.header["refers_to"], "packs of another backup")
                session = cursor.take(16)
                origins.append((name, session, cursor.numbers("B")[0]))
            while cursor.at < len(cursor.data):
                origin, pack, size, digest = cursor.numbers("H16sI32s")
                packs.append(Pack(self, origins[origin], pack, size, digest))
        return packs

    def records(self):
        for record in self.header["lists"]:
            cursor = Cursor(self.part(record, LIST))
            while cursor.at < len(cursor.data):
                yield cursor.numbers("B")[0], cursor


class Pack:
    def __init__(self, backup, origin, pack, size, digest):
        name, session, encrypted = origin
        self.backup, self.size, self.digest, self.raw = backup, size, digest, None
        self.key = f"keyspaces/{backup.shard}/packs/{name}/{pack.hex()}"
        if encrypted:
            backup.repository.load_key(backup.shard, name, session)

    def chunk(self, identity, place, offset, stored, encoding, length):
        if self.raw is None:
            self.raw = self.backup.repository.get(self.key)
            self.check()
        prefix = Prefix(self.raw, PACK, self.backup.repository.id)
        plain = prefix.open(place, self.raw[offset : offset + stored + 16], self.backup.repository.keys)
        demand(encoding in (0, 1), "an unknown encoding")
        if encoding == 1:
            plain = zstd_decompress(plain, length)
        demand(len(plain) == length and blake3(plain) == identity, f"a damaged chunk in {self.key}")
        return plain

    def check(self):
        """Size, hash and index, which a restore could do without."""
        demand(len(self.raw) == self.size, f"{self.key} has another size")
        index, length, count, zero, magic = struct.unpack("<IIII8s", self.raw[-24:])
        demand(magic == b"SWALLEND" and zero == 0, f"{self.key} does not end as a pack does")
        body_hash = blake3(self.raw[:index])
        demand(blake3(body_hash + self.raw[index:]) == self.digest, f"{self.key} has another hash")
        prefix = Prefix(self.raw, PACK, self.backup.repository.id)
        plain = prefix.open(count, self.raw[index : index + length], self.backup.repository.keys)
        demand(plain[:32] == body_hash and len(plain) == 32 + 45 * count, "an index that does not fit")


class FileHash:
    def __init__(self):
        self.data, self.zeros = b"", 0

    def end_zeros(self):
        if self.zeros:
            self.data += bytes(32) + struct.pack("<Q", self.zeros)
            self.zeros = 0

    def add(self, identity):
        self.end_zeros()
        self.data += identity

    def digest(self):
        self.end_zeros()
        return blake3(self.data)


def restore(backup, target):
    """Attributes of directories are put on last: what is in them changes their times."""
    roots = backup.body["roots"]
    directories, file, files, size = [], None, 0, 0
    for root in roots:
        demand(root["name"] not in ("", ".", "..") and "/" not in root["name"], "a root whose name is a path")
        path = os.path.join(target.encode(), root["name"].encode())
        os.makedirs(path)
        attributes = root["attributes"]
        time = (attributes["mtime_seconds"], attributes["mtime_nanos"])
        directories.append((path, attributes["mode"], time))

    def entry(cursor):
        root, length = cursor.numbers("HH")
        path = cursor.take(length)
        names = path.split(b"/")
        demand(all(n not in (b"", b".", b"..") and len(n) <= 255 for n in names) and b"\0" not in path, "a bad path")
        _, _, mode, seconds, nanos = cursor.numbers("IIIqI")
        full = os.path.join(target.encode(), roots[root]["name"].encode(), path)
        return full, mode, (seconds, nanos)

    for kind, cursor in backup.records():
        if kind == 1:
            path, mode, time = entry(cursor)
            os.mkdir(path)
            directories.append((path, mode, time))
        elif kind == 2:
            path, mode, time = entry(cursor)
            (length,) = cursor.numbers("Q")
            file = [open(path, "xb"), path, mode, time, length, 0, FileHash()]
            file[0].truncate(length)
            files, size = files + 1, size + length
        elif kind == 3:
            path, _, _ = entry(cursor)
            os.symlink(cursor.take(*cursor.numbers("H")), path)
        elif kind == 4:
            (count,) = cursor.numbers("I")
            file[5] += count
            file[6].zeros += count
        elif kind == 5:
            for _ in range(*cursor.numbers("I")):
                identity, pack, place, offset, stored, encoding = cursor.numbers("32sIIIIB")
                at = file[5] * CHUNK
                plain = backup.packs[pack].chunk(identity, place, offset, stored, encoding, min(CHUNK, file[4] - at))
                file[0].seek(at)
                file[0].write(plain)
                file[5] += 1
                file[6].add(identity)
        elif kind == 6:
            out, path, mode, time, length, chunks, hasher = file
            demand(chunks == -(-length // CHUNK) and hasher.digest() == cursor.take(32), "another chunk list")
            out.close()
            finish(path, mode & 0o1777, time)
        else:
            raise Damaged("an unknown record")
    demand((files, size) == (backup.header["files"], backup.header["logical_bytes"]), "lists that do not add up")
    for path, mode, time in reversed(directories):
        finish(path, mode & 0o3777, time)


def finish(path, mode, time):
    os.chmod(path, mode)
    nanos = time[0] * 1_000_000_000 + time[1]
    os.utime(path, ns=(nanos, nanos))


def main():
    arguments = argparse.ArgumentParser()
    for name in ("repository", "shard", "backup", "target"):
        arguments.add_argument(name)
    arguments.add_argument("--identity")
    arguments.add_argument("--unlock")
    arguments.add_argument("--writer")
    given = arguments.parse_args()
    secrets = []
    if given.identity:
        with open(given.identity, "rb") as file:
            secrets = secret_keys(file.read())
    if given.unlock:
        passphrase = os.environ["SEAWALL_PASSPHRASE"].encode()
        with open(os.path.join(given.repository, "identities", given.unlock + ".age"), "rb") as file:
            secrets = secret_keys(age_decrypt(file.read(), [with_passphrase(passphrase)]))
    repository = Repository(given.repository, secrets)
    restore(Backup(repository, given.shard, given.backup, given.writer), given.target)


if __name__ == "__main__":
    try:
        main()
    except (Damaged, OSError) as error:
        sys.exit(f"reader: {error}")
