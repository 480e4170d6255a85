# The scenario of the cgroup v2 virtual machine: pods as a kubelet with the systemd driver would make them, an agent that
# watches, a sink that writes down what it sends. Truth comes from the kernel's own files, printed as "VM TRUTH name value".
# Each pod is made of processes of busybox; the names of pods and containers are what the test (tests/vm.rs) looks for.

kube=/sys/fs/cgroup/kubepods.slice/kubepods-burstable.slice
mkdir -p $kube
for parent in /sys/fs/cgroup/kubepods.slice $kube; do
    echo "+cpu +memory +io +pids" >$parent/cgroup.subtree_control
done

# pod NAME-LETTER: makes the pod's slice and leaves its path in $pod.
pod() {
    pod=$kube/kubepods-burstable-pod${1}${1}${1}${1}${1}${1}${1}${1}_0000_4000_8000_000000000000.slice
    mkdir -p $pod && echo "+cpu +memory +io +pids" >$pod/cgroup.subtree_control
}

# container DIGIT: makes a container of the current pod and leaves its path in $container.
container() {
    id=$(printf "%064d" 0 | tr 0 $1)
    container=$pod/cri-containerd-$id.scope
    mkdir -p $container
}

# run COMMAND...: starts it in the current container with a network namespace of its own, made before it joins the cgroup,
# as a runtime does; its process id is in $!. Programs by their path: by name, this shell runs itself as "exe" for a moment.
run() {
    unshare -n /bin/sh -c 'echo 0 >'$container'/cgroup.procs; exec "$@"' run "$@" &
}

truth() { echo "VM TRUTH $1 $2"; }
field() { awk -v name=$2 '$1 == name { print $2 }' $1; }

mkdir -p /run/sink /run/agent
vedette-vm-sink /run/sink 127.0.0.1:7700 >/run/sink/log 2>&1 &
until [ -s /run/sink/ca.pem ]; do sleep 0.1; done

# Alive before the agent: a pod that does next to nothing.
pod a; container a
run /bin/sleep 1000

vedette-agent --config /etc/agent.toml >/run/agent/log 2>&1 &
agent=$!
for _ in $(seq 100); do grep -q '"is":"row"' /run/sink/received.jsonl && break; sleep 0.2; done
truth agent_started_ms $(date +%s)000

# b: a CPU hog under a limit of 200 millicores.
pod b; container b
echo "20000 100000" >$container/cpu.max
run /bin/sh -c 'while :; do :; done'
hog=$container

# c: 40 MiB of anonymous memory under a limit of 64 MiB.
pod c; container c
echo 67108864 >$container/memory.max
run /bin/sh -c '(head -c 41943040 /dev/zero; sleep 1000) | tail -c 41943040'
memory=$container

# d: eleven processes at most twenty.
pod d; container d
echo 20 >$container/pids.max
run /bin/sh -c 'for n in 1 2 3 4 5 6 7 8 9 10; do sleep 1000 & done; wait'
pids=$container

# e: a web server that a client outside asks for 20 files of 256 KiB.
pod e; container e
mkdir -p /tmp/www && head -c 262144 /dev/zero >/tmp/www/file
run /bin/httpd -f -p 80 -h /tmp/www
until server=$(head -n 1 $container/cgroup.procs) && [ -n "$server" ]; do sleep 0.1; done
# This ip chooses the other end's name itself.
ip link add pod-e type veth
ip link set veth0 netns $server
ip addr add 10.99.0.1/24 dev pod-e && ip link set pod-e up
nsenter -t $server -n sh -c 'ip link set veth0 name eth0; ip addr add 10.99.0.2/24 dev eth0; ip link set eth0 up; ip link set lo up'
sleep 12
for n in $(seq 20); do wget -q -O /dev/null http://10.99.0.2/file || echo "VM FAIL wget $n"; done

# f: two containers of one place, the first failing after a second, and its successor.
pod f; container 1
run /bin/sh -c 'sleep 3; exit 1'
wait $!
rmdir $container
sleep 1
container 2
run /bin/sh -c 'sleep 1000; exit 1'

# g: lives for some 50 ms.
pod 0; container 5
run /bin/sh -c 'exit 0'
wait $!
usleep 50000
rmdir $container

# h: killed for lack of memory; the pod outlives the container.
pod 9; container 9
echo 16777216 >$container/memory.max
run /bin/sh -c 'head -c 83886080 /dev/zero | tail -c 83886080 >/dev/null'
wait $!
sleep 2
rmdir $container
oom=$pod

sleep 12
truth hog_usage_us $(field $hog/cpu.stat usage_usec)
truth hog_throttled_us $(field $hog/cpu.stat throttled_usec)
truth memory_anon_bytes $(field $memory/memory.stat anon)
truth pids_current $(cat $pids/pids.current)
truth server_tx_bytes $(awk -F'[: ]+' '$2 == "eth0" { print $11 }' /proc/$server/net/dev)
truth oom_kills $(field $oom/memory.events oom_kill)
truth hog_psi_cpu_us $(awk '$1 == "some" { sub("total=", "", $5); print $5 }' $hog/cpu.pressure)
# Twice what the slowest tier needs, then a stop that is meant.
kill -TERM $agent
for _ in $(seq 50); do kill -0 $agent 2>/dev/null || break; sleep 0.2; done
grep -q '"is":"goodbye"' /run/sink/received.jsonl && echo "VM PASS goodbye" || echo "VM FAIL goodbye"
sed 's/^/VM AGENT /' /run/agent/log | tail -n 40
sed 's/^/VM SINK /' /run/sink/log | tail -n 10
sed 's/^/VM GOT /' /run/sink/received.jsonl
