# Placeholder until agent and sink are wired in: proves the machine is a cgroup v2 node.
for file in cgroup.controllers cpu.stat; do
    [ -r /sys/fs/cgroup/$file ] && echo "VM PASS $file" || echo "VM FAIL $file"
done
ip link add test0 type bridge && echo "VM PASS bridge" || echo "VM FAIL bridge"
ip link add test1 type veth peer name test2 && echo "VM PASS veth" || echo "VM FAIL veth"
