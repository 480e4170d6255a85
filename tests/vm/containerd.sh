# The range's short plan with a real containerd in the cgroup v2 virtual machine, watched by the agent (tests/tests/vm.rs).
# runc gives containers roots of their own, which the very first file system does not allow: so everything runs in a view of it.
mkdir -p /view
mount -o bind / /view
for dir in dev proc sys run tmp; do mount -o rbind /$dir /view/$dir; done
mkdir -p /var/lib
echo "127.0.0.1 localhost" >/etc/hosts
exec chroot /view env PLAN="--speed 0.25 --backend containerd" sh /etc/range.sh
