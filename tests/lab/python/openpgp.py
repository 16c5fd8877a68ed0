"""Mail that no client would write, by an OpenPGP of another family than Delta Chat's: signed with somebody's own key, and
encrypted as it is told.

Reads JSON. With `words` these are signed by `secret`, an armoured key, and encrypted to `public`, one as base64, in the way
that `how` says, and the armoured message is written. Without, that is done to `secret` itself, and its public part is
written, as base64.
"""

import base64
import json
import os
import sys
import warnings
from datetime import timedelta

warnings.simplefilter("ignore")

import pgpy
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from pgpy.constants import (
    CompressionAlgorithm,
    EllipticCurveOID,
    HashAlgorithm,
    KeyFlags,
    PubKeyAlgorithm,
    SymmetricKeyAlgorithm,
)

HASHES = {"md5": HashAlgorithm.MD5, "sha1": HashAlgorithm.SHA1}
CIPHERS = {"3des": SymmetricKeyAlgorithm.TripleDES, "cast5": SymmetricKeyAlgorithm.CAST5}


def without_mdc(session, key, plain):
    """A symmetrically encrypted data packet (RFC 4880, section 5.7), which nothing protects from being changed."""
    start = os.urandom(16)
    start += start[-2:]
    first = Cipher(algorithms.AES(key), modes.CFB(bytes(16))).encryptor().update(start)
    rest = Cipher(algorithms.AES(key), modes.CFB(first[2:18])).encryptor().update(plain)
    body = first + rest
    return session + bytes([0xC0 | 9, 0xFF]) + len(body).to_bytes(4, "big") + body


def changed(secret, how):
    """The key as it is handed out after that was done to it."""
    user = secret.userids[0]
    if how == "revoked":
        secret |= secret.revoke(secret)
    elif how == "expired":
        user |= secret.certify(user, key_expiration=timedelta(seconds=1))
    elif how == "flooded":
        stranger = pgpy.PGPKey.new(PubKeyAlgorithm.EdDSA, EllipticCurveOID.Ed25519)
        stranger.add_uid(pgpy.PGPUID.new("somebody"), usage={KeyFlags.Certify}, hashes=[HashAlgorithm.SHA256])
        whole = bytes(secret.pubkey)
        own = bytes(user.selfsig)
        end = whole.index(own) + len(own)
        flood = b"".join(bytes(stranger.certify(user)) for _ in range(2000))
        return base64.b64encode(whole[:end] + flood + whole[end:]).decode()
    elif how == "weak":
        usage = {KeyFlags.Certify, KeyFlags.Sign, KeyFlags.EncryptCommunications}
        secret = pgpy.PGPKey.new(PubKeyAlgorithm.RSAEncryptOrSign, 1024)
        secret.add_uid(pgpy.PGPUID.new("", email=user.email), usage=usage, hashes=[HashAlgorithm.SHA1])
    else:
        sys.exit(f"A key can't be {how}")
    return base64.b64encode(bytes(secret.pubkey)).decode()


def sealed(secret, public, words, how):
    message = pgpy.PGPMessage.new(words.encode(), compression=CompressionAlgorithm.Uncompressed)
    if how != "unsigned":
        message |= secret.sign(message, hash=HASHES.get(how, HashAlgorithm.SHA256))
    cipher = CIPHERS.get(how, SymmetricKeyAlgorithm.AES256)
    key = cipher.gen_key()
    whole = public.encrypt(message, sessionkey=key, cipher=cipher)
    if how == "without-mdc":
        session = b"".join(bytes(one) for one in whole._sessionkeys)
        whole = pgpy.PGPMessage.from_blob(without_mdc(session, key, bytes(message)))
    return str(whole)


def main():
    asked = json.load(sys.stdin)
    secret, _ = pgpy.PGPKey.from_blob(asked["secret"])
    if "words" not in asked:
        print(changed(secret, asked["how"]))
        return
    public, _ = pgpy.PGPKey.from_blob(base64.b64decode(asked["public"]))
    print(sealed(secret, public, asked["words"], asked["how"]))


main()
