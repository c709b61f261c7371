#!/usr/bin/env bash
# Two hosts in network namespaces of their own find each other by multicast DNS and sync. Needs root and iproute2;
# says why it is skipped where namespaces are not allowed. Touches no interface of the machine.
set -euo pipefail
cairn=${CAIRN:-$(dirname "$0")/../../target/debug/cairn}
cairn=$(realpath "$cairn")
export CAIRN_KEY_STORE=file
id=cn$$
one=${id}a two=${id}b
skip() { echo "skipped: $*"; exit 0; }
command -v ip >/dev/null || skip "iproute2 is not installed"
ip netns add "$one" 2>/dev/null || skip "network namespaces are not allowed here"
root=$(mktemp -d)
served=""
cleanup() {
  [ -n "$served" ] && kill "$served" 2>/dev/null || true
  ip netns del "$one" 2>/dev/null || true
  ip netns del "$two" 2>/dev/null || true
  rm -rf "$root"
}
trap cleanup EXIT
ip netns add "$two"
ip -n "$one" link add eth0 type veth peer name eth0 netns "$two" 2>/dev/null || skip "veth pairs are not allowed here"
for host in 1 2; do
  name=$([ $host = 1 ] && echo "$one" || echo "$two")
  ip -n "$name" link set lo up
  ip -n "$name" addr add 10.79.0.$host/24 dev eth0
  ip -n "$name" addr add fd79::$host/64 dev eth0 nodad
  ip -n "$name" link set eth0 up multicast on
  ip -n "$name" route add 224.0.0.0/4 dev eth0
done
a() { ip netns exec "$one" "$cairn" --home "$root/a" "$@"; }
b() { ip netns exec "$two" "$cairn" --home "$root/b" "$@"; }
field() { sed -E "s/.*\"$1\":\"?([^\",}]*).*/\1/"; }
a new Netns --name Ana --quiet >/dev/null
ticket=$(a invite --json | field ticket)
b join "$ticket" --name Bo --quiet >/dev/null
a add --at 1,1 --note "from one" --quiet >/dev/null
b add --at 2,2 --note "from two" --quiet >/dev/null
ip netns exec "$one" "$cairn" --home "$root/a" --json serve --listen 0.0.0.0:0 >"$root/ready" 2>"$root/log" &
served=$!
for _ in $(seq 100); do [ -s "$root/ready" ] && break; sleep 0.05; done
near=$(b peers --near --json)
echo "$near" | grep -q '"would_receive"' || { echo "peers --near found nobody: $near"; exit 1; }
b sync --json --timeout 4 >"$root/sync" || { echo "sync failed: $(cat "$root/sync")"; exit 1; }
[ "$(a status --json | field digest)" = "$(b status --json | field digest)" ] || { echo "the digests differ"; exit 1; }
[ "$(b list --json | field count)" = 2 ] || { echo "an observation is missing"; exit 1; }
# A code is read out, and the other device finds the one that shows it by itself.
code=$(a invite --code --json | field code)
ip netns exec "$two" "$cairn" --home "$root/c" join "$code" --name Cy --timeout 10 --json >"$root/join" || { echo "join by code failed: $(cat "$root/join")"; exit 1; }
grep -q '"state":"active"' "$root/join" || { echo "not active: $(cat "$root/join")"; exit 1; }
echo "1 passed, 0 failed: two namespaces found each other by mDNS and hold the same; a third device came in by a code"
