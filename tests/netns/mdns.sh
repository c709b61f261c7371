#!/usr/bin/env bash
# Two hosts in network namespaces of their own find each other by multicast DNS and sync. Needs root and iproute2;
# says why it is skipped where namespaces are not allowed. Touches no interface of the machine.
source "$(dirname "$0")/two_hosts.sh"
a() { ip netns exec "$one" "$cairn" --home "$root/a" "$@"; }
b() { ip netns exec "$two" "$cairn" --home "$root/b" "$@"; }
a new Netns --name Ana --quiet >/dev/null
ticket=$(a invite --json | field ticket)
b join "$ticket" --name Bo --quiet >/dev/null
a add --at 1,1 --note "from one" --quiet >/dev/null
b add --at 2,2 --note "from two" --quiet >/dev/null
ip netns exec "$one" "$cairn" --home "$root/a" --json serve --listen 0.0.0.0:0 >"$root/ready" 2>"$root/log" &
pids+=($!)
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
