#!/usr/bin/env python3
"""Cuts the power in the middle of a sync with a bundle file or a shared folder, on a real ext4 in a loop mount (root).

    cargo build && python3 tests/power/cut.py file 100 && python3 tests/power/cut.py folder 60

The shutdown ioctl of ext4 (0x8004587d, flag 2: the journal is not flushed) loses everything the kernel had not written, as a pulled stick
does. Afterwards the file is the old one or a sound new one, and is not the old one if the sync had said that it wrote; a folder converges.
"""
import fcntl
import hashlib
import json
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time

CAIRN = os.path.abspath(os.path.join(os.path.dirname(__file__), "../../target/debug/cairn"))
SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2


class Bench:
    def __init__(self, root):
        self.root, self.mount_point, self.image = root, f"{root}/mnt", f"{root}/img"
        os.mkdir(self.mount_point)
        subprocess.run(["truncate", "-s", "64M", self.image], check=True)
        subprocess.run(["mkfs.ext4", "-q", "-F", self.image], check=True)

    def environment(self, device):
        return {"CAIRN_HOME": f"{self.root}/{device}", "CAIRN_KEY_STORE": "file", "PATH": os.environ["PATH"]}

    def run(self, device, *args):
        out = subprocess.run([CAIRN, *args, "--json"], env=self.environment(device), capture_output=True, text=True)
        return json.loads(out.stdout)

    def mount(self):
        subprocess.run(["mount", "-o", "loop", self.image, self.mount_point], check=True)

    def umount(self):
        subprocess.run(["umount", self.mount_point], check=True)

    def two_devices(self):
        rows = f"{self.root}/rows.csv"
        with open(rows, "w") as f:
            f.write("lat,lon,text\n")
            for n in range(3000):
                f.write(f"1,1,{hashlib.sha256(str(n).encode()).hexdigest() * 4}\n")
        self.run("a", "new", "Power", "--name", "Ana")
        self.run("a", "import", rows)
        old = f"{self.root}/old.cairn"
        self.run("a", "bundle", "create", old)
        ticket = self.run("a", "invite")["data"]["ticket"]
        self.run("b", "join", ticket, "--name", "Bo", "--via", old)
        self.run("b", "import", rows)
        with open(old, "rb") as f:
            return f.read()

    def sync_and_cut(self, path):
        """What the command had said before the lights went out, if anything."""
        sync = subprocess.Popen([CAIRN, "sync", path, "--json"], env=self.environment("b"), stdout=subprocess.PIPE, text=True)
        time.sleep(random.uniform(0, 0.08))
        if sync.poll() is None:
            os.kill(sync.pid, signal.SIGSTOP)
            while open(f"/proc/{sync.pid}/stat").read().rsplit(")", 1)[1].split()[0] not in "TZ":
                pass
        at = os.open(self.mount_point, os.O_RDONLY)
        fcntl.ioctl(at, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        os.close(at)
        sync.kill()
        said = sync.stdout.read()
        sync.wait()
        self.umount()
        return json.loads(said) if said else None


def cut_file(bench, old, rounds):
    path, olds = f"{bench.mount_point}/trip.cairn", 0
    for n in range(rounds):
        bench.mount()
        with open(path, "wb") as f:
            f.write(old)
        os.sync()
        bench.run("b", "add", "--at", "1,1", f"round={n}")
        said = bench.sync_and_cut(path)
        bench.mount()
        assert bench.run("nobody", "bundle", "verify", path)["data"]["sound"], f"round {n}: neither the old file nor a new one"
        with open(path, "rb") as f:
            is_old = f.read() == old
        wrote = said is not None and said["data"]["targets"][0].get("wrote", False)
        assert not (wrote and is_old), f"round {n}: it said that it wrote, and the old file is there"
        olds += is_old
        bench.umount()
    print(f"{rounds} cuts: {olds} times the old file, {rounds - olds} times a new one")


def cut_folder(bench, rounds):
    path = f"{bench.mount_point}/share"
    bench.mount()
    os.mkdir(path)
    os.sync()
    bench.umount()
    for n in range(rounds):
        bench.mount()
        bench.run("b", "add", "--at", "1,1", f"round={n}")
        bench.sync_and_cut(path)
    bench.mount()
    for device in "bababa":
        last = bench.run(device, "sync", path)
    digests = {bench.run(device, "status")["data"]["digest"] for device in "ab"}
    bench.umount()
    assert last["code"] == 0 and len(digests) == 1, f"after {rounds} cuts: {last}"
    print(f"{rounds} cuts, then both devices hold the same")


def main():
    what, rounds = sys.argv[1], int(sys.argv[2])
    random.seed(os.environ.get("CAIRN_SEED", "1"))
    with tempfile.TemporaryDirectory() as root:
        bench = Bench(root)
        try:
            old = bench.two_devices()
            cut_file(bench, old, rounds) if what == "file" else cut_folder(bench, rounds)
        finally:
            subprocess.run(["umount", "-q", bench.mount_point], check=False)


main()
