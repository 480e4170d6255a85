# One session of the range in the cgroup v2 virtual machine, for `vedette record --backend vm` (cli/src/record/vm.rs): the agent
# delivers to the aggregator outside, by the one address that the network card leads to; the range's labels go the same way.
# /etc/session holds what this session needs. Serial lines: 1 identities, 2 events, 3 the schedule.
outside=https://10.0.2.100:7443
echo "VM COMMIT $(cat /etc/commit)"
ip addr add 10.0.2.15/24 dev eth0 && ip link set eth0 up || echo "VM FAIL network"
for line in 1 2 3; do stty -F /dev/ttyS$line raw clocal -echo; done
# Open throughout: a line that nobody holds forgets how it was set.
exec 4>/dev/ttyS1 5>/dev/ttyS2 6>/dev/ttyS3

# Disks of pods are files on a real disk: in memory they would look like memory.
mkdir -p /var/lib/vedette-range
mkfs.ext4 -q -F /dev/vda && mount -t ext4 /dev/vda /var/lib/vedette-range || echo "VM FAIL disk"

# The agent as everywhere else: a user of its own without capabilities.
echo "agent:x:65532:65532::/:/bin/sh" >/etc/passwd
mkdir -p /run/agent/spool
cp /etc/session/agent.toml /etc/session/ca.pem /etc/session/agent.token /run/agent/
chown -R 65532:65532 /run/agent
su agent -c "exec vedette-agent --config /run/agent/agent.toml" >/run/agent.log 2>&1 &
agent=$!
for _ in $(seq 300); do wget -q -O /dev/null http://127.0.0.1:9464/readyz 2>/dev/null && ready=yes && break; sleep 0.2; done
[ -n "$ready" ] || { echo "VM FAIL agent"; sed 's/^/VM AGENT /' /run/agent.log; exit 1; }

vedette-range $(cat /etc/session/arguments) --root-cgroup vedette-record --identity-file /dev/ttyS1 --schedule-out /run/schedule.json \
    --labels-endpoint $outside --server-name localhost --ca /etc/session/ca.pem --token-file /etc/session/admin.token \
    >&5 2>/run/range.log && echo "VM PASS range" || echo "VM FAIL range"

# Until everything is delivered and no container is left to observe.
metric() { wget -q -O - http://127.0.0.1:9464/metrics 2>/dev/null | awk -v name=$1 '{ split($1, parts, "{"); if (parts[1] == name) sum += $2 } END { print sum + 0 }'; }
for _ in $(seq 120); do
    made=$(metric vedette_agent_observations_total)
    acknowledged=$(metric vedette_agent_acknowledged_observations_total)
    [ "$made" = "$acknowledged" ] && [ "$(metric vedette_agent_containers)" = 0 ] && break
    sleep 0.5
done
echo "VM OBSERVATIONS $made"
echo "VM ACKNOWLEDGED $acknowledged"
for loss in late_ticks missed_ticks dropped_observations limited; do echo "VM LOSS $(metric vedette_agent_${loss}_total) $loss"; done
tr -d '\n' </run/schedule.json >&6
kill -TERM $agent
for _ in $(seq 100); do kill -0 $agent 2>/dev/null || break; sleep 0.2; done
tail -n 20 /run/range.log | sed 's/^/VM RANGE /'
tail -n 20 /run/agent.log | sed 's/^/VM AGENT /'
# A serial line that was closed may still have bytes to say.
sleep 2
