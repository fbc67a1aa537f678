"""A key program for ``primum vault --master-key "command:PROGRAM ARGUMENTS KEY"``: a model for one of yours.

It stands in for a device: where the file named like the key is read, a program of yours asks a PKCS#11 module
or a key service, so that the master key never leaves it. Primum runs it without a shell, as

    vault_hook.py FOLDER wrap KEY       or       vault_hook.py FOLDER unwrap KEY

gives it base64 and a line end on stdin, and takes base64 from stdout. Any exit status but 0 is a refusal.

    mkdir -m 700 device && (umask 077; openssl rand -out device/primum-2026 32)
    primum vault create --master-key "command:python examples/vault_hook.py device primum-2026" …
"""

import base64
import os
import sys
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE = 12


def main(folder: str, verb: str, key: str) -> int:
    """Encrypt or decrypt what stdin brings with the key of this name."""
    given = base64.b64decode(sys.stdin.buffer.readline().strip(), validate=True)
    device = AESGCM((Path(folder) / Path(key).name).read_bytes())
    if verb == "wrap":
        nonce = os.urandom(NONCE)
        answer = nonce + device.encrypt(nonce, given, key.encode())
    elif verb == "unwrap":
        try:
            answer = device.decrypt(given[:NONCE], given[NONCE:], key.encode())
        except InvalidTag:
            return 3
    else:
        return 2
    print(base64.b64encode(answer).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
