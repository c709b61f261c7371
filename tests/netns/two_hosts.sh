# Two hosts in network namespaces of their own, joined by a cable: `$one` is 10.79.0.1, `$two` 10.79.0.2. Sourced; needs root and
# iproute2, and says why it skips where namespaces are not allowed. Touches no interface of the machine. `$pids` end with the script.
set -euo pipefail
cairn=$(realpath "${CAIRN:-$(dirname "$0")/../../target/debug/cairn}")
export CAIRN_KEY_STORE=file
one=cn$$a two=cn$$b
skip() { echo "skipped: $*"; exit 0; }
command -v ip >/dev/null || skip "iproute2 is not installed"
ip netns add "$one" 2>/dev/null || skip "network namespaces are not allowed here"
root=$(mktemp -d)
pids=()
cleanup() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
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
field() { sed -E "s/.*\"$1\":\"?([^\",}]*).*/\1/"; }
