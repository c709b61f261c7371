#!/usr/bin/env python3
"""Fuzzes a relay by its own OpenAPI description: fuzz.py CAIRN REQUESTS [SEED].

Three roles ask: nobody, the operator, and members (sessions of a log, with an account). schemathesis makes requests as the
description has them and as it does not; most are then steered to a log, chunks and a user that are there, so that deep code is
reached. Found is: an answer of 500 and above but a declared 507, a panic, no answer, an answer that the description does not
have, and an operation that never succeeded. Ends with 0 (nothing), 1 (found) or 2 (called wrongly). Talks to loopback only.
"""
# Needs: schemathesis==4.32.5 (brings requests and hypothesis), blake3==1.0.11, PyNaCl==1.6.2.
# About 100 requests a second; 6,000 are one turn over all operations, with fewer some "never succeeded".
import collections, contextlib, copy, itertools, json, os, pathlib, random, re, signal, subprocess, sys
import tempfile, unittest, hypothesis, requests, schemathesis
from blake3 import blake3
from hypothesis import HealthCheck, Phase, strategies as st
from nacl.signing import SigningKey
from schemathesis.specs.openapi import checks

FRAMES, NAMES, OCTETS = MEDIA = "application/vnd.cairn.frames", "application/vnd.cairn.names", "application/octet-stream"
CHECKS = [getattr(checks, f"{what}_conformance") for what in ("status_code", "content_type", "response_headers", "response_schema")]
RIGHTS = ["knock", "access", "admin"]
# Each request is asked by all of these; what members ask is steered anew each time.
ROLES = ["nobody", "operator", "members", "members"]
RANGES = ["bytes=0-0", "bytes=5-2", "bytes=abc", "bytes=-5", "bytes=9-", f"bytes={2**64 - 1}-", f"bytes=0-{2**64 - 1}", "lines=1-2",
          "bytes=0-1,3-4", "bytes=400000-", "bytes=307200-", "bytes=0-99999999999999999999999"]
# After these, if they succeed, the log or the account may be gone, closed, or under other keys.
SPOILERS = re.compile("(PATCH|PUT|DELETE) /v1/(operator/|account/(session|password))|PUT .*/keys|POST .*/trim")
for media in MEDIA:
    schemathesis.openapi.media_type(media, st.binary(max_size=300))


def frame(chunk):
    return len(chunk).to_bytes(4, "little") + chunk


def chunk(kind, text, size):
    return (b"cairn\1" + bytes([kind]) + text.encode()).ljust(size, b".")


class World:
    """A log and an account that are there, made again when they are not."""

    def __init__(self, base, token, seed):
        self.base, self.http, self.operator = base, requests.Session(), {"authorization": f"Bearer {token}"}
        self.keys = {right: SigningKey(blake3(f"{seed} {right}".encode()).digest()) for right in RIGHTS}
        self.public = {right: key.verify_key.encode().hex() for right, key in self.keys.items()}
        self.log, self.user, self.auth = blake3(f"{seed} log".encode()).hexdigest()[:32], "fuzz@example", "ab" * 32
        # All kinds; above 256 KiB a chunk is a file.
        self.committed = [chunk(kind, f"committed {kind}", 120 + kind) for kind in range(1, 9)] + [chunk(2, "large", 300 << 10)]
        self.staged, self.trimmed = chunk(2, "staged", 200), chunk(2, "trimmed", 200)
        self.names = [blake3(c).digest() for c in [*self.committed, self.staged, self.trimmed]]
        self.make()

    def ask(self, method, path, headers=None, **more):
        return self.http.request(method, self.base + path, headers=headers, timeout=20, **more)

    def proof(self, right):
        audience, nonce = self.base.removeprefix("http://"), self.ask("GET", f"/v1/logs/{self.log}/challenge").json()["nonce"]
        parts = audience.encode(), bytes.fromhex(self.log), bytes([RIGHTS.index(right) + 1]), nonce.encode()
        signed = b"".join(len(part).to_bytes(8, "little") + part for part in parts)
        signature = self.keys[right].sign(blake3(signed, derive_key_context="cairn relay session v1").digest()).signature
        return {"right": right, "audience": audience, "nonce": nonce, "signature": signature.hex()}

    def make(self):
        log, new, login = f"/v1/logs/{self.log}", self.public | {"record": "00"}, {"user": self.user, "auth": self.auth}
        self.ask("PATCH", f"/v1/operator/logs/{self.log}", self.operator, json={"blocked": False})
        self.ask("PATCH", f"/v1/operator/accounts/{self.user}", self.operator, json={"blocked": False, "quota_bytes": 1 << 40})
        answer = self.ask("POST", "/v1/account/session", json=login)
        if not answer.ok:
            self.ask("DELETE", f"/v1/operator/accounts/{self.user}", self.operator)
            login |= {"wrapped": "00", "recovery_auth": "cd" * 32, "recovery_wrapped": "00"}
            answer = self.ask("POST", "/v1/accounts", json=login)
        self.account = {"authorization": f"Bearer {answer.json()['token']}"}
        if not self.ask("PUT", log, self.account, json=new).ok:
            self.ask("DELETE", f"/v1/operator/logs/{self.log}", self.operator)
            self.ask("PUT", log, self.account, json=new).raise_for_status()
        self.sessions = {r: {"cairn-session": self.ask("POST", f"{log}/session", json=self.proof(r)).json()["token"]} for r in RIGHTS}
        self.version = self.ask("GET", f"{log}/challenge").json()["version"]
        for path, media, body in (("chunks?commit=true", FRAMES, b"".join(map(frame, [*self.committed, self.trimmed]))),
                                  ("chunks", FRAMES, frame(self.staged)), ("trim", NAMES, self.names[-1])):
            self.ask("POST", f"{log}/{path}", self.sessions["admin"] | {"content-type": media}, data=body).raise_for_status()

    def steer(self, case, role, rng):
        """Gives a made-up request its role, and turns most of them to what is there."""
        path, real, headers = case.operation.path, lambda share: rng.random() < share, dict(case.headers or {})
        for key, value in (("log", self.log), ("name", rng.choice(self.names + 3 * self.names[8:9]).hex()), ("user", self.user)):
            if key in (case.path_parameters or {}) and real(0.8):
                case.path_parameters[key] = value
        if path.endswith("/wait") and str((case.query or {}).get("seconds", 9)).isdigit():
            case.query = dict(case.query or {}) | {"seconds": 0}
        if path.endswith("/chunks/{name}") and real(0.6):
            headers["range"] = rng.choice(RANGES)
        if isinstance(case.body, dict) and real(0.7):
            known = {"user": self.user, "auth": self.auth, "old": self.auth, "version": self.version, "blocked": False} | self.public
            if path == "/v1/accounts" and real(0.8):
                known |= {"user": f"ü.{rng.random()}", "wrapped": "00", "recovery_wrapped": "00"}
            if "nonce" in case.body:
                known |= self.proof(rng.choice(RIGHTS))
            case.body |= {key: value for key, value in known.items() if key in case.body}
        elif case.media_type in MEDIA and role == "members" and real(0.7):
            case.body = self.bytes_for(path, case, headers, rng)
        session = self.sessions[rng.choices(RIGHTS, [1, 2, 7] if path.endswith(("/trim", "/untrim", "/keys")) else [2, 6, 2])[0]]
        case.headers = headers | {"nobody": {}, "operator": self.operator, "members": self.account | session}[role]

    def bytes_for(self, path, case, headers, rng):
        """A body that is taken, and now and then one that nearly is."""
        fresh = chunk(rng.randrange(12), str(rng.random()), rng.choice([120, 5_000, 290_000]))
        known = self.names[:-1] if path.endswith("/commit") else self.names
        body = b"".join(map(frame, rng.choices([*self.committed[:8], self.staged, self.trimmed, fresh], k=rng.randrange(4))))
        if case.media_type == NAMES:
            body = b"".join(name[:16 if path.endswith("/has") else 32] for name in rng.choices(known, k=rng.randrange(5)))
        elif path.endswith("/inbox"):
            body = frame(chunk(rng.choice([7, 7, 2]), str(rng.random()), 120))
        elif case.media_type == OCTETS:
            case.path_parameters["name"], body = blake3(fresh).hexdigest(), fresh
            headers |= {"upload-offset": rng.choice(["0", "0", "0", "7"]), "upload-complete": rng.choice(["true", "false"])}
        at = rng.randrange(len(body) + 1)
        return rng.choice([body] * 12 + [body[:at], body[:at] + bytes([rng.randrange(256)]) + body[at + 1:], body + body])


def fuzz(world, requested, seed, alive):
    """What was found, requests by role, and operations that never succeeded."""
    schema = schemathesis.openapi.from_url(world.base + "/openapi.json").exclude(path_regex="/events$")  # They never end.
    operations = [found.ok() for found in schema.get_all_operations()]
    strategies = {(o.label, mode): o.as_strategy(generation_mode=mode) for o in operations for mode in schemathesis.GenerationMode}
    found, counts, reached = {}, collections.Counter(), set()

    def note(what, case, status, more):
        found.setdefault(f"{what}: {case.operation.label} {status}", [0, f"{case.as_curl_command()}\n{more}"])[0] += 1

    def ask(case):
        try:
            return case.call(session=world.http, timeout=20)
        except requests.ConnectionError:  # A refusal before the whole body was sent may close the connection.
            return case.call(timeout=20)

    def one(case, role):
        world.steer(case, role, random.Random(f"{seed} {counts.total()}"))
        counts[role] += 1
        try:
            answer = ask(case)
        except requests.RequestException as e:
            return note("no answer", case, "", e)
        if answer.status_code >= 500 and answer.status_code != 507:
            note("server error", case, answer.status_code, answer.content[:500])
        try:
            case.validate_response(answer, checks=CHECKS)
        except schemathesis.core.failures.FailureGroup as group:
            for failure in group.exceptions:
                note(type(failure).__name__, case, answer.status_code, f"{answer.content[:300]}\n{failure.message[:300]}")
        if answer.status_code < 300:
            reached.add(case.operation.label)
            if SPOILERS.match(case.operation.label):
                world.make()

    def everyone(case):
        made = {part: getattr(case, part) for part in ("path_parameters", "headers", "query", "body")}
        for role in ROLES:
            for part, value in made.items():
                setattr(case, part, copy.copy(value))
            one(case, role)

    settings = hypothesis.settings(max_examples=20, database=None, deadline=None, phases=[Phase.generate],
                                   suppress_health_check=list(HealthCheck))
    for turn, (label, mode) in enumerate(itertools.cycle(strategies)):
        if counts.total() >= requested or not alive():
            return found, counts, {o.label for o in operations} - reached
        with contextlib.suppress(hypothesis.errors.Unsatisfiable, unittest.SkipTest):  # Of some, nothing can be wrong.
            run = settings(hypothesis.given(strategies[label, mode])(lambda case: everyone(case)))
            hypothesis.seed(f"{seed} {turn}")(run)()


def main():
    if len(sys.argv) not in (3, 4):
        return print(__doc__, file=sys.stderr) or 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory() as folder:
        home, alive = pathlib.Path(folder), lambda: server.poll() is None
        command = [sys.argv[1], "relay", "serve", "--data", home / "relay", "--listen", "127.0.0.1:0", "--plain", "--open-metrics",
                   "--rate", "1000000", "--logins", "1000000", "--json"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=open(home / "stderr", "w"), env=os.environ | {"HOME": folder})
        try:
            base, seed = json.loads(server.stdout.readline())["data"]["url"], (sys.argv[3:] or ["1"])[0]
            world = World(base, (home / "relay/operator-token").read_text().strip(), seed)
            found, counts, missed = fuzz(world, int(sys.argv[2]), seed, alive)
            said = (home / "stderr").read_text()
            if "panicked" in said or not alive():
                found["the server panicked or ended"] = 1, said[-4000:]
        finally:
            server.terminate()
            server.wait(30)
    found |= {f"never succeeded: {label}": (0, "") for label in missed}
    print("requests:", dict(counts))
    for what, (times, how) in sorted(found.items()):
        print(f"\n{what} ({times} times)\n{how}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
