//! A private bridge inside a network namespace of the run's own, and a namespace per pod on it. Nothing of the host's network is touched.
//!
//! Namespaces are entered by threads made for it, never by the main thread: `unshare` and `setns` are per thread, so this
//! needs neither unsafe code nor iproute2. Everything lives as long as a file descriptor or a process holds it, and no longer.

use std::{
    fs::File,
    net::Ipv4Addr,
    os::fd::{AsRawFd, RawFd},
    sync::Arc,
    thread,
};

use futures::TryStreamExt;
use rtnetlink::{
    Handle, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth, new_connection,
    packet_route::{
        link::{InfoData, InfoVeth},
        neighbour::{NeighbourFlags, NeighbourState},
    },
};
use rustix::thread::UnshareFlags;
use tokio::sync::{mpsc, oneshot};

use crate::guard::Net;

/// Addresses of the bridge itself: the first is the gateway, all of them refuse connections. Nothing listens there.
pub const REFUSING: [u8; 3] = [1, 2, 3];
/// First host number given to pods.
const FIRST_POD: u8 = 10;

/// Why the network could not be made.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A system call.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// The kernel refused a netlink request.
    #[error("cannot {action}: {source}")]
    Netlink {
        /// What was tried.
        action: String,
        /// Why not.
        source: rtnetlink::Error,
    },
    /// A link that was just made is not there.
    #[error("link {0} is missing from its namespace")]
    NoLink(String),
    /// More pods than addresses.
    #[error("no address left in {0}")]
    Exhausted(Net),
    /// The thread that holds the bridge ended.
    #[error("the thread that holds the bridge is gone")]
    Gone,
}

struct Attach {
    namespace: Arc<File>,
    link: String,
    address: Ipv4Addr,
    done: oneshot::Sender<Result<(), NetworkError>>,
}

/// The bridge, and the way to put pods on it. Dropping it takes the bridge down once no pod is left.
pub struct Network {
    /// The run's own /24.
    pub subnet: Net,
    attach: mpsc::Sender<Attach>,
    next: std::sync::Mutex<u8>,
}

/// A pod's network namespace with its one interface up; lives while this or a process in it does.
#[derive(Clone, Debug)]
pub struct PodNetwork {
    /// The pod's address on the bridge.
    pub address: Ipv4Addr,
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
    /// Makes the namespace and the bridge in it.
    ///
    /// # Errors
    /// Without privilege, or where the kernel has no bridges.
    pub async fn create(subnet: Net) -> Result<Self, NetworkError> {
        // One pod is attached at a time; callers wait.
        let (attach, requests) = mpsc::channel(1);
        let (up, is_up) = oneshot::channel();
        thread::Builder::new()
            .name("bridge".to_owned())
            .spawn(move || in_new_namespace(|_| hold_bridge(subnet, requests, up)))
            .map_err(|source| system("start a thread", source))?;
        is_up.await.map_err(|_| NetworkError::Gone)??;
        Ok(Self { subnet, attach, next: std::sync::Mutex::new(FIRST_POD) })
    }

    /// Makes a namespace with `lo` and `eth0` up and on the bridge.
    ///
    /// # Errors
    /// When addresses run out or the kernel refuses.
    pub async fn pod(&self) -> Result<PodNetwork, NetworkError> {
        let host = {
            let mut next = self.next.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let host = *next;
            // Addresses are not reused within a run: a late packet must not land at another pod.
            *next = host.checked_add(1).filter(|&next| next < 250).ok_or(NetworkError::Exhausted(self.subnet))?;
            host
        };
        let address = self.subnet.host(host);
        let subnet = self.subnet;
        let (made, is_made) = oneshot::channel();
        let (attached, is_attached) = oneshot::channel();
        let (ready, is_ready) = oneshot::channel();
        thread::Builder::new()
            .name("pod-net".to_owned())
            .spawn(move || {
                in_new_namespace(|namespace| {
                    let outcome = configure_pod(namespace, made, is_attached, address, subnet);
                    let _ = ready.send(outcome);
                });
            })
            .map_err(|source| system("start a thread", source))?;
        let Ok(namespace) = is_made.await else {
            return is_ready.await.map_err(|_| NetworkError::Gone)?.and(Err(NetworkError::Gone));
        };
        let (done, is_done) = oneshot::channel();
        let request = Attach { namespace: Arc::clone(&namespace), link: format!("pod{host}"), address, done };
        self.attach.send(request).await.map_err(|_| NetworkError::Gone)?;
        is_done.await.map_err(|_| NetworkError::Gone)??;
        let _ = attached.send(());
        is_ready.await.map_err(|_| NetworkError::Gone)??;
        Ok(PodNetwork { address, namespace })
    }
}

/// Runs `f` with this thread in a network namespace of its own, given as an open file.
fn in_new_namespace(f: impl FnOnce(Result<Arc<File>, NetworkError>)) {
    // The deprecation is about FILES, which is not asked for.
    #[expect(deprecated)]
    let unshared = rustix::thread::unshare(UnshareFlags::NEWNET);
    let namespace = unshared
        .map_err(|errno| system("make a network namespace (root is needed)", errno.into()))
        .and_then(|()| File::open("/proc/thread-self/ns/net").map_err(|source| system("open the new network namespace", source)));
    f(namespace.map(Arc::new));
}

fn on_this_thread<T>(work: impl Future<Output = Result<T, NetworkError>>) -> Result<T, NetworkError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|source| system("start a runtime", source))?.block_on(work)
}

fn netlink() -> Result<Handle, NetworkError> {
    let (connection, handle, _) = new_connection().map_err(|source| system("open a netlink socket", source))?;
    tokio::spawn(connection);
    Ok(handle)
}

fn hold_bridge(subnet: Net, mut requests: mpsc::Receiver<Attach>, up: oneshot::Sender<Result<(), NetworkError>>) {
    let _ = on_this_thread(async {
        let bridge = async {
            let handle = netlink()?;
            // Of its own, else it would change with the ports, and every change forgets the neighbours.
            let hardware = hardware(subnet.host(REFUSING[0]));
            refused(handle.link().add(LinkBridge::new("bridge0").address(hardware).build()).execute().await, "add the bridge")?;
            let bridge = index(&handle, "bridge0").await?;
            for host in REFUSING {
                refused(handle.address().add(bridge, subnet.host(host).into(), 24).execute().await, "give the bridge an address")?;
            }
            set_up(&handle, "lo").await?;
            set_up(&handle, "bridge0").await?;
            Ok((handle, bridge))
        };
        let (handle, bridge) = match bridge.await {
            Ok(bridge) => {
                let _ = up.send(Ok(()));
                bridge
            }
            Err(error) => {
                let _ = up.send(Err(error));
                return Ok(());
            }
        };
        while let Some(request) = requests.recv().await {
            let outcome = add_pair(&handle, bridge, &request).await;
            let _ = request.done.send(outcome);
        }
        Ok(())
    });
}

/// Adds the pair, and lets the bridge answer for the pod's address itself: on the networks of real clusters a pod does not hear
/// its neighbours' address resolution, and a sweep over absent addresses would otherwise be a surge of broadcasts in every pod.
async fn add_pair(handle: &Handle, bridge: u32, request: &Attach) -> Result<(), NetworkError> {
    let hardware = hardware(request.address);
    let peer = LinkMessageBuilder::<LinkUnspec>::new().name("eth0").address(hardware.clone());
    let peer = InfoVeth::Peer(peer.setns_by_fd(request.namespace.as_raw_fd()).build());
    let pair = LinkVeth::new(&request.link, "eth0").set_info_data(InfoData::Veth(peer)).controller(bridge).up().build();
    refused(handle.link().add(pair).execute().await, "add a veth pair")?;
    let neighbour = handle.neighbours().add(bridge, request.address.into()).link_layer_address(&hardware);
    refused(neighbour.execute().await, "name a pod to the bridge")?;
    let port = index(handle, &request.link).await?;
    // Learnt entries age after five minutes, and a pod that only listens would then not be found.
    let forward = handle.neighbours().add_bridge(port, &hardware).state(NeighbourState::Noarp).flags(NeighbourFlags::Controller);
    refused(forward.replace().execute().await, "tell the bridge where a pod is")?;
    let port = LinkBridgePort::new(port).proxy_arp(true).build();
    refused(handle.link().set_port(port).execute().await, "set the flags of a bridge port")
}

/// A locally administered hardware address, one per address.
fn hardware(address: Ipv4Addr) -> Vec<u8> {
    [0x02, 0x00].into_iter().chain(address.octets()).collect()
}

fn configure_pod(
    namespace: Result<Arc<File>, NetworkError>,
    made: oneshot::Sender<Arc<File>>,
    attached: oneshot::Receiver<()>,
    address: Ipv4Addr,
    subnet: Net,
) -> Result<(), NetworkError> {
    let namespace = namespace?;
    on_this_thread(async move {
        let handle = netlink()?;
        let _ = made.send(namespace);
        attached.await.map_err(|_| NetworkError::Gone)?;
        let eth0 = index(&handle, "eth0").await?;
        refused(handle.address().add(eth0, address.into(), subnet.prefix()).execute().await, "give a pod its address")?;
        set_up(&handle, "lo").await?;
        set_up(&handle, "eth0").await
    })
}

async fn set_up(handle: &Handle, name: &str) -> Result<(), NetworkError> {
    let link = LinkUnspec::new_with_index(index(handle, name).await?).up().build();
    refused(handle.link().set(link).execute().await, &format!("set {name} up"))
}

async fn index(handle: &Handle, name: &str) -> Result<u32, NetworkError> {
    let mut links = handle.link().get().match_name(name.to_owned()).execute();
    let link = refused(links.try_next().await, &format!("look {name} up"))?;
    link.map(|link| link.header.index).ok_or_else(|| NetworkError::NoLink(name.to_owned()))
}

fn refused<T>(outcome: Result<T, rtnetlink::Error>, action: &str) -> Result<T, NetworkError> {
    outcome.map_err(|source| NetworkError::Netlink { action: action.to_owned(), source })
}

fn system(action: &'static str, source: std::io::Error) -> NetworkError {
    NetworkError::System { action, source }
}
