"""Feeds a log of its own to a witness: feed_witness.py URL WITNESS_VKEY. Prints a line for each size that was cosigned.

The log's key is 32 bytes of 5 and its origin is other.example/log.
"""

import sys

from aics_tlog import Checkpoint, MerkleTree, sign_checkpoint
from aics_witness.feeder import WitnessClient, WitnessRejected, merge_cosignatures
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ORIGIN = "other.example/log"
KEY = Ed25519PrivateKey.from_private_bytes(bytes([5]) * 32)


def signed(tree, size):
    checkpoint = Checkpoint(ORIGIN, size, tree.root(size))
    return sign_checkpoint(checkpoint, KEY, ORIGIN).to_bytes()


def main():
    url, vkey = sys.argv[1:]
    tree = MerkleTree(b"record %d" % n for n in range(300))
    forged = MerkleTree(b"forged %d" % n for n in range(400))
    for size in (1, 7, 7, 256, 300):
        note = signed(tree, size)
        # A client that begins anew each time has to be told where the witness stands.
        client = WitnessClient(url, vkey)
        merge_cosignatures(note, client.submit(note, tree.consistency_proof))
        print("cosigned", size, flush=True)
    for size in (300, 400):
        try:
            WitnessClient(url, vkey).submit(signed(forged, size), forged.consistency_proof)
        except WitnessRejected as refused:
            print("refused", size, refused.status)


main()
