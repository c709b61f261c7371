#!/usr/bin/env python3
"""A relay on several nodes, and everything that may go: run.py [--patroni] [--rounds N] [--cairn FILE]

Starts PostgreSQL with a synchronous standby (with --patroni: Patroni over etcd), two relay nodes over it, and a balancer before them.
Three devices record and sync all the time. Meanwhile one node is killed with -9, then the database's leader; without Patroni the
standby is promoted by hand. At the end every observation whose sync had ended well must be on a device that enters afterwards, and
all digests must be equal. Ends with 0, or 1 and what was wrong. Everything is on loopback, in a temporary folder, and ends with it.
Needs root (PostgreSQL runs as its own user) and Debian's postgresql; with --patroni also patroni and etcd-server.
"""
import argparse, json, os, pathlib, shutil, socket, subprocess, sys, tempfile, threading, time, urllib.request

BIN = max(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), default=None)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def run(*command, **more):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, cwd="/", **more)
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stdout}{done.stderr}")
    return done.stdout


def as_postgres(*command):
    return ["runuser", "-u", "postgres", "--", *map(str, command)]


def until(what, holds, seconds=90):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if holds():
                return
        except (OSError, RuntimeError, subprocess.SubprocessError):
            pass
        time.sleep(0.2)
    raise RuntimeError(f"never: {what}")


class Plain:
    """A primary and a synchronous standby; promoted by hand."""

    def __init__(self, folder):
        self.folder, self.ports = folder, [free_port(), free_port()]
        self.data = [folder / "pg0", folder / "pg1"]
        run(*as_postgres(BIN / "initdb", "-A", "trust", "-U", "cairn", "-D", self.data[0]))
        with open(self.data[0] / "pg_hba.conf", "a") as hba:
            hba.write("host replication all 127.0.0.1/32 trust\n")
        self.start(0)
        run(*as_postgres(BIN / "pg_basebackup", "-h", "127.0.0.1", "-p", self.ports[0], "-U", "cairn", "-R", "-X", "stream", "-D", self.data[1]))
        self.start(1)
        self.sql(0, "alter system set synchronous_standby_names = '*'")
        self.sql(0, "select pg_reload_conf()")
        until("the standby is synchronous", lambda: "sync" in self.sql(0, "select sync_state from pg_stat_replication"))
        self.sql(0, "create database relay")

    def start(self, n):
        options = f"-p {self.ports[n]} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c wal_level=replica -c max_connections=200"
        log = self.folder / f"pg{n}.log"
        command = as_postgres(BIN / "pg_ctl", "-w", "-o", options, "-l", log, "-D", self.data[n], "start")
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")

    def sql(self, n, text):
        return run(BIN / "psql", "-h", "127.0.0.1", "-p", self.ports[n], "-U", "cairn", "-d", "postgres", "-Atc", text)

    def connection(self):
        return f"host=127.0.0.1,127.0.0.1 port={self.ports[0]},{self.ports[1]} user=cairn dbname=relay sslmode=disable"

    def kill_leader(self):
        os.kill(int((self.data[0] / "postmaster.pid").read_text().splitlines()[0]), 9)
        run(*as_postgres(BIN / "pg_ctl", "-w", "-D", self.data[1], "promote"))
        self.sql(1, "alter system set synchronous_standby_names = ''")
        self.sql(1, "select pg_reload_conf()")

    def stop(self):
        for data in self.data:
            subprocess.run(as_postgres(BIN / "pg_ctl", "-m", "immediate", "-D", data, "stop"), capture_output=True, cwd="/")


class Patroni:
    """Two servers that Patroni keeps, over one etcd."""

    def __init__(self, folder):
        self.folder, self.ports, self.api = folder, [free_port(), free_port()], [free_port(), free_port()]
        self.processes, client, peer = [], free_port(), free_port()
        url = f"http://127.0.0.1:{client}"
        self.spawn(["etcd", "--data-dir", str(folder / "etcd"), "--listen-client-urls", url, "--advertise-client-urls", url,
                    "--listen-peer-urls", f"http://127.0.0.1:{peer}", "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}",
                    "--initial-cluster", f"default=http://127.0.0.1:{peer}"], "etcd")
        until("etcd answers", lambda: urllib.request.urlopen(url + "/health", timeout=2).status == 200)
        self.members = []
        for n in (0, 1):
            config = folder / f"patroni{n}.json"
            config.write_text(json.dumps(self.config(n, client)))
            self.members.append(self.spawn(as_postgres("patroni", config), f"patroni{n}"))
            if n == 0:
                until("there is a leader", lambda: self.leader() is not None)
        until("the standby is synchronous", lambda: any(m.get("role") == "sync_standby" for m in self.cluster()))
        run(BIN / "psql", "-h", "127.0.0.1", "-p", self.ports[self.leader()], "-U", "cairn", "-d", "postgres", "-c", "create database relay")

    def config(self, n, etcd):
        login = {"username": "cairn", "password": "none"}
        return {
            "scope": "relay", "name": f"pg{n}", "etcd3": {"host": f"127.0.0.1:{etcd}"},
            "restapi": {"listen": f"127.0.0.1:{self.api[n]}", "connect_address": f"127.0.0.1:{self.api[n]}"},
            "bootstrap": {"dcs": {"ttl": 20, "loop_wait": 3, "retry_timeout": 5, "synchronous_mode": True},
                          "initdb": [{"auth": "trust"}, {"username": "cairn"}, {"encoding": "UTF8"}]},
            "postgresql": {
                "listen": f"127.0.0.1:{self.ports[n]}", "connect_address": f"127.0.0.1:{self.ports[n]}", "data_dir": str(self.folder / f"pg{n}"),
                "bin_dir": str(BIN), "authentication": {"superuser": login, "replication": login},
                "parameters": {"unix_socket_directories": "", "max_connections": 200},
                "pg_hba": ["host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust"],
            },
        }

    def spawn(self, command, name):
        log = open(self.folder / f"{name}.log", "w")
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", start_new_session=True)
        self.processes.append(process)
        return process

    def cluster(self):
        for api in self.api:
            try:
                return json.load(urllib.request.urlopen(f"http://127.0.0.1:{api}/cluster", timeout=2))["members"]
            except OSError:
                continue
        return []

    def leader(self):
        names = [m["name"] for m in self.cluster() if m.get("role") in ("leader", "master") and m.get("state") == "running"]
        return int(names[0][-1]) if names else None

    def connection(self):
        return f"host=127.0.0.1,127.0.0.1 port={self.ports[0]},{self.ports[1]} user=cairn dbname=relay sslmode=disable"

    def kill_leader(self):
        n = self.leader()
        pid = int((self.folder / f"pg{n}/postmaster.pid").read_text().splitlines()[0])
        os.killpg(self.members[n].pid, 9)
        os.kill(pid, 9)
        until("the other leads", lambda: self.leader() == 1 - n)

    def stop(self):
        for n in (0, 1):
            subprocess.run(as_postgres(BIN / "pg_ctl", "-m", "immediate", "-D", self.folder / f"pg{n}", "stop"), capture_output=True, cwd="/")
        for process in self.processes:
            try:
                os.killpg(process.pid, 9)
            except ProcessLookupError:
                pass


class Balancer:
    """Gives each connection to the next node that answers."""

    def __init__(self, targets):
        self.targets, self.next = targets, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            near, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(near,), daemon=True).start()

    def serve(self, near):
        for _ in self.targets:
            self.next += 1
            try:
                far = socket.create_connection(("127.0.0.1", self.targets[self.next % len(self.targets)]), timeout=2)
                break
            except OSError:
                continue
        else:
            return near.close()
        far.settimeout(None)
        threading.Thread(target=self.copy, args=(near, far), daemon=True).start()
        self.copy(far, near)

    @staticmethod
    def copy(source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class Device:
    def __init__(self, cairn, home, name):
        self.cairn, self.home, self.name, self.acknowledged, self.failed = cairn, home, name, [], 0

    def ask(self, *command):
        env = {"CAIRN_HOME": str(self.home), "CAIRN_KEY_STORE": "file", "PATH": os.environ["PATH"]}
        done = subprocess.run([self.cairn, *command, "--json"], capture_output=True, text=True, env=env)
        return done.returncode, json.loads(done.stdout)

    def ok(self, *command):
        code, reply = self.ask(*command)
        if code:
            raise RuntimeError(f"{self.name}: {command}: {reply}")
        return reply["data"]

    def load(self, url, stop):
        """Records and syncs; what was recorded before a sync that ended well is acknowledged."""
        waiting = []
        while not stop.is_set():
            waiting.append(self.ok("add", "--at", "1,1", f"by={self.name}")["observation"]["id"])
            code, _ = self.ask("sync", url)
            if code == 0:
                self.acknowledged += waiting
                waiting = []
            else:
                self.failed += 1


def node(cairn, folder, name, port, database, parts):
    data = folder / name
    data.mkdir(exist_ok=True)
    if not (data / "parts").exists():
        (data / "parts").symlink_to(parts)
    first = folder / "node0"
    for file in ("relay-cert.pem", "relay-key.pem"):
        if first != data and not (data / file).exists():
            shutil.copy(first / file, data / file)
    command = [cairn, "relay", "serve", "--data", data, "--listen", f"127.0.0.1:{port}", "--rate", "100000", "--json"]
    log = open(folder / f"{name}.log", "a")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=os.environ | {"CAIRN_RELAY_DATABASE": database})
    ready = json.loads(process.stdout.readline())["data"]
    return process, int(ready["listen"][0].rsplit(":", 1)[1]), ready["pin"]


def digests(devices, url):
    """After everybody has synced with everybody's last words."""
    for _ in range(3):
        for device in devices:
            device.ok("sync", url)
    return {device.ok("status")["digest"] for device in devices}


def history(cairn, folder, database, rounds):
    parts = folder / "parts"
    parts.mkdir()
    nodes, ports = [], []
    for n in (0, 1):
        process, port, pin = node(cairn, folder, f"node{n}", 0, database.connection(), parts)
        nodes.append(process)
        ports.append(port)
    url = f"https://127.0.0.1:{Balancer(ports).port}#{pin}"
    devices = [Device(cairn, folder / name, name) for name in ("ana", "bo", "cy")]
    devices[0].ok("new", "Cluster", "--name", "ana")
    devices[0].ok("sync", url)
    for device in devices[1:]:
        device.ok("join", devices[0].ok("invite")["ticket"], "--name", device.name)
        device.ok("sync", url)
    stop = threading.Event()
    threads = [threading.Thread(target=d.load, args=(url, stop)) for d in devices]
    [t.start() for t in threads]
    count = lambda: sum(len(d.acknowledged) for d in devices)
    try:
        for n in range(rounds):
            before = count()
            until("the load goes on", lambda: count() > before + 10)
            nodes[n % 2].kill()
            nodes[n % 2].wait()
            print(f"node {n % 2} killed after {count()} acknowledged observations", flush=True)
            before = count()
            until("the other node serves all", lambda: count() > before + 10)
            if n == 0:
                database.kill_leader()
                print(f"the database's leader killed after {count()}", flush=True)
                before = count()
                until("the standby serves all", lambda: count() > before + 10)
            nodes[n % 2], _, _ = node(cairn, folder, f"node{n % 2}", ports[n % 2], database.connection(), parts)
    finally:
        stop.set()
        [t.join() for t in threads]
    late = Device(cairn, folder / "di", "di")
    late.ok("join", devices[0].ok("invite")["ticket"], "--name", "di")
    same = digests([*devices, late], url)
    there = {o["id"] for o in late.ok("list", "--limit", "0")["observations"]}
    lost = [i for d in devices for i in d.acknowledged if i not in there]
    [process.kill() for process in nodes]
    print(f"{count()} acknowledged observations, {sum(d.failed for d in devices)} syncs failed and were made up for, {len(lost)} lost")
    return not lost and len(same) == 1


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--patroni", action="store_true")
    args.add_argument("--rounds", type=int, default=4)
    args.add_argument("--cairn", default="target/debug/cairn")
    args = args.parse_args()
    if BIN is None:
        print("there is no PostgreSQL here: bash tests/postgres/install.sh", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="cairn-cluster") as folder:
        folder = pathlib.Path(folder)
        os.chmod(folder, 0o777)
        database = (Patroni if args.patroni else Plain)(folder)
        try:
            well = history(os.path.abspath(args.cairn), folder, database, args.rounds)
        finally:
            database.stop()
    print("all devices hold the same" if well else "SOMETHING IS WRONG")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
