#!/usr/bin/env bash
# Two projects on one network: neither learns of the other, and a capture of all that passes shows no identifier of either, nor
# anything the two share beyond the name of the service. Needs root, iproute2 and python3; says why it is skipped where these are missing.
# Touches no interface of the machine.
source "$(dirname "$0")/two_hosts.sh"
command -v python3 >/dev/null || skip "python3 is not installed"
on() { local ns=$1 home=$2; shift 2; ip netns exec "$ns" "$cairn" --home "$root/$home" "$@"; }
# Project Rio: a here, b there. Project Selva: c here, d there.
on "$one" a new Rio --name Anastasia --quiet >/dev/null
on "$two" b join "$(on "$one" a invite --json | field ticket)" --name Bonifacio --quiet >/dev/null
on "$one" c new Selva --name Catalina --quiet >/dev/null
on "$two" d join "$(on "$one" c invite --json | field ticket)" --name Domingo --quiet >/dev/null
ip netns exec "$one" python3 - "$root/capture" <<'PY' &
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
s.bind(("eth0", 0))
with open(sys.argv[1], "ab", buffering=0) as out:
    while True:
        packet = s.recv(65536)
        out.write(len(packet).to_bytes(4, "little") + packet)
PY
pids+=($!)
for home in a c; do
  ip netns exec "$one" "$cairn" --home "$root/$home" --json serve --listen 0.0.0.0:0 >"$root/ready-$home" 2>/dev/null &
  pids+=($!)
done
for _ in $(seq 100); do [ -s "$root/ready-a" ] && [ -s "$root/ready-c" ] && break; sleep 0.05; done
port=$(grep -oE '0\.0\.0\.0:[0-9]+' "$root/ready-c" | head -1 | cut -d: -f2)
# b finds a and nobody else; d finds c and nobody else; b at c's very address is as if nobody answered.
near=$(on "$two" b sync --json --timeout 4) || { echo "b did not sync: $near"; exit 1; }
echo "$near" | grep -q Anastasia || { echo "b did not meet a: $near"; exit 1; }
echo "$near" | grep -qE 'Catalina|Selva' && { echo "b learned of the other project: $near"; exit 1; }
[ "$(echo "$near" | grep -o '"target"' | wc -l)" = 1 ] || { echo "b met more than one device: $near"; exit 1; }
near=$(on "$two" d sync --json --timeout 4) || { echo "d did not sync: $near"; exit 1; }
echo "$near" | grep -q Catalina || { echo "d did not meet c: $near"; exit 1; }
code=0; on "$two" b sync "10.79.0.1:$port" --json >"$root/stranger" || code=$?
[ "$code" = 4 ] || { echo "a stranger's address gave $code: $(cat "$root/stranger")"; exit 1; }
ids=()
for home in a b c d; do
  ns=$([ $home = a ] || [ $home = c ] && echo "$one" || echo "$two")
  me=$(on "$ns" $home status --json)
  ids+=("$(echo "$me" | field project)" "$(echo "$me" | field device)")
done
sleep 0.2
python3 - "$root/capture" "${ids[@]}" <<'PY'
import sys
data = open(sys.argv[1], "rb").read()
packets, at = [], 0
while at + 4 <= len(data):
    n = int.from_bytes(data[at:at + 4], "little"); packets.append(data[at + 4:at + 4 + n]); at += 4 + n
blob = b"\0\0".join(packets)
secrets = [w.encode() for w in ("Rio", "Selva", "Anastasia", "Bonifacio", "Catalina", "Domingo")]
for text in sys.argv[2:]:
    raw = bytes.fromhex(text)
    secrets += [raw[:8], text[:16].encode(), text[:16].upper().encode()]
for s in secrets:
    # Three letters may come up by chance in what is sealed; names are looked for in announcements, which are not.
    where = b"\0\0".join(p for p in packets if b"_cairn" in p) if len(s) < 6 else blob
    if s in where:
        sys.exit(f"{s!r} passed over the network")
announced = [p for p in packets if b"_cairn" in p]
tags = {p[i:i + 14] for p in announced for i in range(len(p) - 14) if p[i:i + 2] == b"t="}
nonces = {p[i:i + 18] for p in announced for i in range(len(p) - 18) if p[i:i + 2] == b"n="}
if len(tags) < 2 or len(nonces) < 2:
    sys.exit(f"expected announcements of two projects, saw {tags} {nonces}")
print(f"1 passed, 0 failed: {len(packets)} packets, {len(announced)} announcements, no identifier, {len(tags)} unrelated tags")
PY
