# The range's own short plan in the cgroup v2 virtual machine, watched by the agent: what the injector knows, against what
# the agent delivers (tests/tests/vm.rs).
mkdir -p /run/sink /run/agent
vedette-vm-sink /run/sink 127.0.0.1:7700 >/run/sink/log 2>&1 &
until [ -s /run/sink/ca.pem ]; do sleep 0.1; done
vedette-agent --config /etc/agent.toml >/run/agent/log 2>&1 &
agent=$!
for _ in $(seq 100); do grep -q '"is":"row"' /run/sink/received.jsonl && break; sleep 0.2; done

vedette-range run --plan smoke --seed 7 --root-cgroup vedette-range --schedule-out /run/schedule.json >/run/range.log 2>&1 &&
    echo "VM PASS range" || echo "VM FAIL range"
# The slowest tier once more, then a stop that is meant.
sleep 6
kill -TERM $agent
for _ in $(seq 50); do kill -0 $agent 2>/dev/null || break; sleep 0.2; done
grep -q '"is":"goodbye"' /run/sink/received.jsonl && echo "VM PASS goodbye" || echo "VM FAIL goodbye"
sed 's/^/VM RANGE /' /run/range.log | tail -n 40
sed 's/^/VM AGENT /' /run/agent/log | tail -n 40
echo "VM SCHEDULE $(tr -d '\n' </run/schedule.json)"
sed 's/^/VM GOT /' /run/sink/received.jsonl
