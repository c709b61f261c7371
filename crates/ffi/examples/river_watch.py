"""Two devices in one program: record, list, let in, sync. What a phone app does, without the surface.

Make the bindings and run it:  cargo test -p cairn-ffi --features bindings"""

import json
import tempfile

import cairn_ffi
from cairn_ffi import CairnError, Device, NewObservation, Progress


def observation(**said):
    empty = dict(category=None, lat=None, lon=None, uncertainty=None, time=None, note=None, fields={})
    return NewObservation(**{**empty, **said})


class Bar(Progress):
    def __init__(self):
        self.last = (0, 0)

    def on_progress(self, done, planned, bytes):
        assert planned >= self.last[1], "what is planned only grows"
        self.last = (done, planned)


def main():
    with tempfile.TemporaryDirectory() as folder:
        ana = Device.open(f"{folder}/ana", None, "America/Lima")
        bo = Device.open(f"{folder}/bo", b"a passphrase", None)
        begun = json.loads(ana.new_project("River watch", "Ana's phone").data)
        assert len(begun["recovery"].split()) == 24

        otter = ana.add(None, observation(category="animal", lat=-3.46, lon=-62.21, note="by the bank", fields={"species": "giant otter", "count": "3"}))
        seen = ana.list(None, 10, False)
        assert [s.id for s in seen] == [otter] and seen[0].fields["count"] == "3" and seen[0].lat == -3.46

        ticket = json.loads(ana.ask(None, json.dumps({"verb": "invite", "uses": 1}), None).data)["ticket"]
        assert json.loads(bo.join(ticket, "Bo's phone", None).data)["state"] == "active"
        bo.add(None, observation(category="animal", lat=-3.5, lon=-62.3))

        service = ana.serve(None, "127.0.0.1:0", False)
        bar = Bar()
        done = bo.sync(None, [service.address()], bar)
        assert done.code == 0, done
        assert bar.last[1] > 0
        # While it serves, everything else works.
        assert len(ana.list(None, 0, False)) == 2
        service.stop()

        digests = {json.loads(device.ask(None, '{"verb": "status"}', None).data)["digest"] for device in (ana, bo)}
        assert len(digests) == 1, digests

        try:
            ana.add(None, observation(category="animal", lat=200.0, lon=0.0))
            raise AssertionError("a latitude of 200")
        except CairnError.Failed as e:
            assert e.kind == "input" and "latitude" in e.message.lower(), e
        try:
            bo.ask(None, '{"verb": "show", "id": "ffff"}', None)
            raise AssertionError("there is no such observation")
        except CairnError.Failed as e:
            assert e.kind == "not-found"
        print(f"cairn {cairn_ffi.version()}: both hold {len(bo.list(None, 0, False))} observations")


if __name__ == "__main__":
    main()
