"""Kill processes in the middle of cache writes, and damage files: what must hold, counted.

``python tests/soak/kill_cache.py --kills 200 --damages 300`` prints the figures and exits with 1
if an acknowledged entry was lost or a wrong one came back.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path

from lmgateway._store import inventory
from lmgateway._store.serialization import Key
from lmgateway._store.sqlite import Store

WRITERS = 4
BASE = b"base"


def key(name: str) -> Key:
    return Key(sha256(name.encode()).digest(), BASE)


def value(name: str) -> bytes:
    """Its size, 50 bytes to 30 KB, and its content follow from the name."""
    digest = sha256(b"value of " + name.encode()).digest()
    return digest * (2 + digest[0] * (digest[1] % 8))


def write(file: Path, writer: str) -> None:
    """Write until killed; print each name once it is acknowledged."""
    store = Store(file)
    number = 0
    while True:
        name = f"{writer}-{number}"
        if store.put(key(name), value(name)):
            os.write(1, f"{name}\n".encode())  # one write: it is whole, or it is not there
        number += 1


def kill_rounds(folder: Path, kills: int, chance: random.Random) -> tuple[int, int, int]:
    """Kill ``kills`` writers, four at work at any time; acknowledged, lost, wrong."""
    file = folder / "killed.sqlite3"
    acknowledged: list[str] = []
    for round_ in range(-(-kills // WRITERS)):
        writers = [
            subprocess.Popen(
                [sys.executable, __file__, "--write", str(file), f"{round_}-{number}"],
                stdout=subprocess.PIPE,
            )
            for number in range(WRITERS)
        ]
        for writer in writers:
            assert writer.stdout is not None
            acknowledged.append(writer.stdout.readline().decode().strip())
        for writer in chance.sample(writers, WRITERS):
            time.sleep(chance.uniform(0, 0.04))
            writer.send_signal(signal.SIGKILL)
        for writer in writers:
            output, _ = writer.communicate()
            acknowledged += output.decode().split()
    store = Store(file)
    got = [(name, store.get(key(name))) for name in acknowledged]
    store.close()
    lost = sum(found is None for _, found in got)
    wrong = sum(found is not None and found != value(name) for name, found in got)
    verdict = inventory.verify(file)
    print(f"  {verdict.entries} entries in the file, {verdict.damaged} damaged", end=", ")
    print(f"integrity: {'; '.join(verdict.problems) or 'ok'}")
    return len(acknowledged), lost, wrong + verdict.damaged


def damage_rounds(folder: Path, damages: int, chance: random.Random) -> tuple[int, int, int]:
    """Overwrite 32 bytes anywhere, ``damages`` times; look-ups, wrong answers, misses."""
    names = [f"d{number}" for number in range(300)]
    sound = folder / "sound.sqlite3"
    store = Store(sound)
    for name in names:
        store.put(key(name), value(name))
    store.close()
    data = sound.read_bytes()
    asked = wrong = missed = 0
    for number in range(damages):
        file = folder / f"damaged-{number}.sqlite3"
        start = chance.randrange(len(data) - 32)
        file.write_bytes(data[:start] + chance.randbytes(32) + data[start + 32 :])
        store = Store(file)
        for name in names:
            found = store.get(key(name))
            asked += 1
            missed += found is None
            wrong += found is not None and found != value(name)
        for name in names[:5]:  # and writing to it makes nothing worse
            store.put(key(name), value(name))
            wrong += store.get(key(name)) not in (None, value(name))
        store.close()
        for part in folder.glob(f"damaged-{number}.*"):
            part.unlink()
    return asked, wrong, missed


def main() -> int:
    """Run what the command line asks for; 0 if nothing was lost or wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--damages", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        write(Path(options.write[0]), options.write[1])
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        acknowledged, lost, wrong = kill_rounds(Path(folder), options.kills, chance)
        print(f"{options.kills} kills: {acknowledged} acknowledged, {lost} lost, {wrong} wrong")
        asked, mistaken, missed = damage_rounds(Path(folder), options.damages, chance)
        print(f"{options.damages} damaged files: {asked} asked, {mistaken} wrong, {missed} missed")
    return int(bool(lost or wrong or mistaken))


if __name__ == "__main__":
    sys.exit(main())
