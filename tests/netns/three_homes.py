#!/usr/bin/env python3
"""Three homes serve while their network changes: cables are pulled, addresses change, a host moves to another network, a machine
sleeps, a service is killed, packets are lost, a stick comes and goes. People write all the time. At the end all must be equal, and every
word that a service said must be one that such changes explain.

    three_homes.py [SECONDS [SEED]]      60 seconds if absent; an hour for the record

Needs root and iproute2; says why it is skipped where namespaces are not allowed. Touches no interface of the machine: everything is in
namespaces of its own, which end with it."""

import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

CAIRN = os.path.realpath(os.environ.get("CAIRN", pathlib.Path(__file__).parent / "../../target/debug/cairn"))
SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 60
SEED = int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())
HOSTS = ["ana", "bo", "cy"]
# What a service may say of a world like this.
EXPLAINED = {"synced", "unreached", "interrupted"}
CALM = 180


def skip(why):
    print(f"skipped: {why}")
    sys.exit(0)


def run(*words, check=True):
    done = subprocess.run(words, capture_output=True, text=True)
    if check and done.returncode:
        raise RuntimeError(f"{words}: {done.stderr}{done.stdout}")
    return done


class Host:
    def __init__(self, world, number, name):
        self.world, self.number, self.name = world, number, name
        self.ns, self.port = f"cw{os.getpid()}{number}", f"h{number}"
        self.home, self.service = world.root / name, None
        self.log = open(world.root / f"{name}.log", "w+")
        self.stopped = False
        run("ip", "netns", "add", self.ns)
        run("ip", "-n", world.switch, "link", "add", self.port, "type", "veth", "peer", "name", "eth0", "netns", self.ns)
        run("ip", "-n", world.switch, "link", "set", self.port, "master", "lan", "up")
        run("ip", "-n", self.ns, "link", "set", "lo", "up")
        self.address(f"10.79.0.{number + 10}")

    def address(self, ip):
        run("ip", "-n", self.ns, "addr", "flush", "dev", "eth0", check=False)
        run("ip", "-n", self.ns, "addr", "add", f"{ip}/24", "dev", "eth0")
        run("ip", "-n", self.ns, "link", "set", "eth0", "up", "multicast", "on")
        run("ip", "-n", self.ns, "route", "replace", "224.0.0.0/4", "dev", "eth0", check=False)

    def cairn(self, *words, check=True):
        words = ("ip", "netns", "exec", self.ns, CAIRN, "--home", str(self.home), "--json", *words)
        done = run(*words, check=False)
        try:
            reply = json.loads(done.stdout)
        except ValueError:
            raise RuntimeError(f"{self.name} {words[6:]}: {done.stdout}{done.stderr}") from None
        if check and not reply["ok"]:
            raise RuntimeError(f"{self.name} {words[6:]}: {reply}")
        return reply.get("data")

    def start(self):
        if self.service is None:
            words = ["ip", "netns", "exec", self.ns, CAIRN, "--home", str(self.home), "--json", "serve", "--listen", "0.0.0.0:4711"]
            self.service = subprocess.Popen(words, stdout=self.log, stderr=self.log)

    def stop(self, how):
        if self.service is not None:
            if self.stopped:
                self.wake()
            self.service.send_signal(how)
            self.service.wait(timeout=30)
            self.service = None

    def sleep(self):
        if self.service is not None:
            self.service.send_signal(signal.SIGSTOP)
            self.stopped = True

    def wake(self):
        if self.service is not None:
            self.service.send_signal(signal.SIGCONT)
        self.stopped = False


class World:
    def __init__(self, root):
        self.root, self.random = root, random.Random(SEED)
        self.switch = f"cw{os.getpid()}s"
        self.stick = root / "stick"
        self.counts = {}
        self.hosts = []

    def build(self):
        if run("ip", "netns", "add", self.switch, check=False).returncode:
            skip("network namespaces are not allowed here")
        if run("ip", "-n", self.switch, "link", "add", "lan", "type", "bridge", "mcast_snooping", "0", check=False).returncode:
            skip("bridges are not allowed here")
        run("ip", "-n", self.switch, "link", "set", "lan", "up")
        self.hosts = [Host(self, n, name) for n, name in enumerate(HOSTS)]
        first, *others = self.hosts
        first.cairn("new", "Hour", "--name", first.name)
        for host in others:
            host.cairn("join", first.cairn("invite")["ticket"], "--name", host.name)
        self.stick.mkdir()
        for host in self.hosts:
            host.cairn("remote", "add", "stick", str(self.stick))
            host.start()

    def end(self):
        for host in self.hosts:
            if host.service is not None:
                host.stop(signal.SIGKILL)
            run("ip", "netns", "del", host.ns, check=False)
        run("ip", "netns", "del", self.switch, check=False)

    def tell(self, what, host=None):
        self.counts[what] = self.counts.get(what, 0) + 1
        if os.environ.get("CAIRN_TELL"):
            print(f"{time.time() - self.began:7.1f} {what} {host.name if host else ''}", flush=True)

    # Each change gives what undoes it.
    def cable(self, host):
        run("ip", "-n", self.switch, "link", "set", host.port, "down")
        return lambda: run("ip", "-n", self.switch, "link", "set", host.port, "up")

    def renew(self, host):
        host.address(f"10.79.0.{host.number * 40 + self.random.randrange(10, 40)}")
        return None

    def move(self, host):
        host.address(f"10.{80 + host.number}.0.5")
        return lambda: self.renew(host)

    def suspend(self, host):
        host.sleep()
        return host.wake

    def kill(self, host):
        host.stop(signal.SIGKILL)
        return host.start

    def restart(self, host):
        host.stop(signal.SIGTERM)
        return host.start

    def lose(self, host):
        words = ("ip", "netns", "exec", host.ns, "tc", "qdisc")
        if run(*words, "add", "dev", "eth0", "root", "netem", "loss", "30%", "delay", "200ms", "100ms", check=False).returncode:
            return None
        return lambda: run(*words, "del", "dev", "eth0", "root", check=False)

    def pull_stick(self, _):
        away = self.root / "stick-away"
        if not self.stick.exists():
            return None
        self.stick.rename(away)

        def plug_in():
            if self.stick.exists():
                sys.exit(f"seed {SEED}: somebody made the stick's folder anew while it was away")
            away.rename(self.stick)

        return plug_in

    def write(self):
        host = self.random.choice([h for h in self.hosts if not h.stopped])
        what = self.random.random()
        rows = host.cairn("list", "--limit", "20")["observations"]
        if what < 0.6 or not rows:
            lat, lon = self.random.uniform(-10, 10), self.random.uniform(-70, -50)
            host.cairn("add", "--at", f"{lat:.5f},{lon:.5f}", "--note", f"by {host.name}", f"n={self.random.random()}")
        elif what < 0.9:
            host.cairn("edit", self.random.choice(rows)["id"], "--note", f"again by {host.name} {self.random.random()}")
        else:
            host.cairn("rm", self.random.choice(rows)["id"])

    def live(self):
        self.began = time.time()
        changes = [self.cable, self.renew, self.move, self.suspend, self.kill, self.restart, self.lose, self.pull_stick]
        pending = []
        while time.time() - self.began < SECONDS:
            now = time.time()
            for due in [p for p in pending if p[0] <= now]:
                pending.remove(due)
                due[1]()
            busy = {p[2] for p in pending}
            if self.random.random() < 0.25:
                host, change = self.random.choice(self.hosts), self.random.choice(changes)
                key = "stick" if change == self.pull_stick else host
                if key not in busy:
                    undo = change(host)
                    self.tell(change.__name__, host)
                    if undo:
                        pending.append((now + self.random.uniform(1, 40), undo, key))
            if any(not h.stopped for h in self.hosts):
                self.write()
                self.tell("write")
            time.sleep(self.random.uniform(0.1, 1.5))
        for _, undo, _ in pending:
            undo()

    def settle(self):
        began = time.time()
        for host in self.hosts:
            host.start()
        while True:
            states = [host.cairn("status") for host in self.hosts]
            if len({s["digest"] for s in states}) == 1:
                return time.time() - began, states[0]["observations"]
            if time.time() - began > CALM:
                sys.exit(f"seed {SEED}: not equal after {CALM} s: {[(s['digest'][:8], s['observations'], s['states']) for s in states]}")
            time.sleep(0.5)

    def judge(self):
        shown = [json.dumps(host.cairn("list", "--limit", "0", "--deleted")["observations"], sort_keys=True) for host in self.hosts]
        if len(set(shown)) != 1:
            sys.exit(f"seed {SEED}: equal digests, and what is shown differs")
        for host in self.hosts:
            if host.cairn("check")["findings"]:
                sys.exit(f"seed {SEED}: {host.name}: {host.cairn('check')}")
        said, strange = {}, []
        for host in self.hosts:
            host.log.flush()
            host.log.seek(0)
            for line in host.log:
                try:
                    data = json.loads(line)["data"]
                except (ValueError, KeyError):
                    strange.append(f"{host.name}: {line.strip()}")
                    continue
                word = data.get("state") or data.get("event") or "ready"
                said[word] = said.get(word, 0) + 1
                if "state" in data and data["state"] not in EXPLAINED:
                    strange.append(f"{host.name}: {line.strip()}")
        if strange:
            sys.exit(f"seed {SEED}: unexplained: " + "\n".join(strange[:20]))
        return said


def main():
    if os.geteuid():
        skip("network namespaces need root")
    if not shutil.which("ip"):
        skip("iproute2 is not installed")
    os.environ["CAIRN_KEY_STORE"] = "file"
    with tempfile.TemporaryDirectory() as root:
        world = World(pathlib.Path(root))
        try:
            world.build()
            world.live()
            seconds, observations = world.settle()
            said = world.judge()
            told = ", ".join(f"{n} {what}" for what, n in sorted(world.counts.items()))
            print(f"1 passed, 0 failed: seed {SEED}, {SECONDS:.0f} s, {told}; equal {seconds:.1f} s after the last change, "
                  f"{observations} observations; services said {said}")
        finally:
            world.end()


if __name__ == "__main__":
    main()
