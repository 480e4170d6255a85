//! A private bridge inside a network namespace of the run's own, and a namespace per pod on it. Nothing of the host's network is touched.
//!
//! Namespaces are entered by threads made for it, never by the main thread: `unshare` and `setns` are per thread, so this
//! needs neither unsafe code nor iproute2. Everything lives as long as a file descriptor or a process holds it, and no longer.

use std::{
    fs::File,
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd, RawFd},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use rustix::thread::UnshareFlags;
use tokio::sync::{mpsc, oneshot};

pub use crate::{bridge::REFUSING, netlink::NetworkError};
use crate::{
    bridge::{self, Attach, Shape},
    netlink::{netlink, on_this_thread, system},
    nets::{Net, RunNets},
};

/// First and last host number given to pods.
const POD_HOSTS: std::ops::RangeInclusive<u8> = 10..=249;

/// The bridge, and the way to put pods on it. Dropping it takes the bridge down once no pod is left.
pub struct Network {
    /// The run's own /24; its other ranges follow from it.
    pub subnet: Net,
    shape: Shape,
    attach: mpsc::Sender<Attach>,
    next: Mutex<u8>,
}

/// A pod's network namespace with its one interface up; lives while this or a process in it does.
#[derive(Clone, Debug)]
pub struct PodNetwork {
    /// The pod's address on the bridge.
    pub address: Ipv4Addr,
    /// Its address in the run's IPv6 network; `None` where the kernel has no IPv6.
    pub address6: Option<Ipv6Addr>,
    namespace: Arc<File>,
}

impl PodNetwork {
    /// A path that opens the namespace from any process that may look into this one.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.raw())
    }

    fn raw(&self) -> RawFd {
        self.namespace.as_raw_fd()
    }
}

impl Network {
    /// Makes the namespace and the bridge in it, with the ranges that refuse, are silent and are forbidden.
    ///
    /// # Errors
    /// When `subnet` is not a run's /24, without privilege, or where the kernel has no bridges.
    pub async fn create(subnet: Net) -> Result<Self, NetworkError> {
        let nets = RunNets::of(subnet).ok_or(NetworkError::NotARange(subnet))?;
        // One pod is attached at a time; callers wait.
        let (attach, requests) = mpsc::channel(1);
        let (up, is_up) = oneshot::channel();
        on_a_thread("bridge", move || match new_namespace() {
            Ok(_held) => bridge::hold(nets, requests, up),
            Err(error) => drop(up.send(Err(error))),
        })?;
        let shape = is_up.await.map_err(|_| NetworkError::Gone)??;
        Ok(Self { subnet, shape, attach, next: Mutex::new(*POD_HOSTS.start()) })
    }

    /// Makes a namespace with `lo` and `eth0` up and on the bridge.
    ///
    /// # Errors
    /// When addresses run out or the kernel refuses.
    pub async fn pod(&self) -> Result<PodNetwork, NetworkError> {
        let host = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let host = *next;
            if !POD_HOSTS.contains(&host) {
                return Err(NetworkError::Exhausted(self.subnet));
            }
            // Addresses are not reused within a run: a late packet must not land at another pod.
            *next = host + 1;
            host
        };
        let (address, shape) = (self.subnet.host(host), self.shape);
        let (made, is_made) = oneshot::channel();
        let (attached, is_attached) = oneshot::channel::<()>();
        let (ready, is_ready) = oneshot::channel();
        on_a_thread("pod-net", move || {
            let outcome = new_namespace().and_then(|namespace| {
                on_this_thread(async move {
                    let handle = netlink()?;
                    let _ = made.send(namespace);
                    is_attached.await.map_err(|_| NetworkError::Gone)?;
                    bridge::configure_pod(&handle, shape, address).await
                })
            });
            let _ = ready.send(outcome);
        })?;
        let Ok(namespace) = is_made.await else {
            return is_ready.await.map_err(|_| NetworkError::Gone)?.and(Err(NetworkError::Gone));
        };
        let (done, is_done) = oneshot::channel();
        let request = Attach { namespace: Arc::clone(&namespace), link: format!("pod{host}"), address, done };
        self.attach.send(request).await.map_err(|_| NetworkError::Gone)?;
        is_done.await.map_err(|_| NetworkError::Gone)??;
        let _ = attached.send(());
        is_ready.await.map_err(|_| NetworkError::Gone)??;
        Ok(PodNetwork { address, address6: shape.ipv6.then(|| shape.nets.address6(address)), namespace })
    }
}

/// Moves this thread into a network namespace of its own, and gives it as an open file.
fn new_namespace() -> Result<Arc<File>, NetworkError> {
    // The deprecation is about FILES, which is not asked for.
    #[expect(deprecated)]
    let unshared = rustix::thread::unshare(UnshareFlags::NEWNET);
    unshared.map_err(|errno| system("make a network namespace (root is needed)", errno.into()))?;
    File::open("/proc/thread-self/ns/net").map(Arc::new).map_err(|source| system("open the new network namespace", source))
}

fn on_a_thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), NetworkError> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map(drop).map_err(|source| system("start a thread", source))
}
