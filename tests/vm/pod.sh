# The agent's pod as install.yaml says it, in a real containerd on cgroup v2, beside pods of the range (tests/tests/vm.rs).
# vedette-vm-pod arranges all of it, and has the sink.
mkdir -p /run/pod /var/lib
# What a node has, and containerd gives to each pod.
echo "127.0.0.1 localhost" >/etc/hosts
echo vm >/etc/hostname && hostname vm
: >/etc/resolv.conf
vedette-vm-pod /run/pod /etc/install.yaml /etc/agent-image.tar >/run/pod/out 2>/run/pod/log && echo "VM PASS pod" || echo "VM FAIL pod"
sed 's/^/VM /' /run/pod/out
sed 's/^/VM AGENT /' /run/pod/log | tail -n 60
[ -e /var/lib/vedette-range/vedette-vm/containerd/log ] && grep -v level=info /var/lib/vedette-range/vedette-vm/containerd/log | tail -n 20 | sed 's/^/VM CONTAINERD /'
[ -e /run/pod/received.jsonl ] && sed 's/^/VM GOT /' /run/pod/received.jsonl
