#!/usr/bin/env bash
# What the doctor says of a network that works, of one on which another device announces itself and does not answer, and of none. Needs
# root and iproute2 (and iptables for the second); says why it is skipped where namespaces are not allowed.
source "$(dirname "$0")/two_hosts.sh"
a() { ip netns exec "$one" "$cairn" --home "$root/a" "$@"; }
b() { ip netns exec "$two" "$cairn" --home "$root/b" "$@"; }
expect() { echo "$said" | grep -qF "$1" || { echo "the doctor does not say \`$1\`: $said"; exit 1; }; }
a new Netns --name Ana --quiet >/dev/null
b join "$(a invite --json | field ticket)" --name Bo --quiet >/dev/null
for host in a b; do
  ns=$([ $host = a ] && echo "$one" || echo "$two")
  ip netns exec "$ns" "$cairn" --home "$root/$host" --json serve --listen 0.0.0.0:4711 >"$root/ready-$host" 2>"$root/log-$host" &
  pids+=($!)
done
for _ in $(seq 200); do [ "$(a status --json | field digest)" = "$(b status --json | field digest)" ] && break; sleep 0.05; done
said=$(a doctor --quick) || { echo "findings where all is well: $said"; exit 1; }
expect "1 found and reached"
expect "passes eth0"
passed=2
if ip netns exec "$two" iptables -A INPUT -p udp --dport 4711 -j DROP 2>/dev/null; then
  said=$(a doctor --quick) && { echo "no finding behind a firewall: $said"; exit 1; }
  expect "announces itself at 10.79.0.2:4711 and does not answer"
  passed=3
else
  echo "skipped: no iptables for the firewall"
fi
ip -n "$one" link set eth0 down
code=0; said=$(a doctor --quick) || code=$?
[ $code = 7 ] || { echo "exit $code without a network: $said"; exit 1; }
expect "this device is on no network"
echo "$passed passed, 0 failed: the doctor tells a network that works, one that does not answer, and none"
