//! The run's bridge and what lies behind it: ranges that refuse, are silent or are forbidden. It is a namespace without a way out:
//! what it does not answer itself, or hand to a pod, ends there.

use std::{
    fs::File,
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::AsRawFd,
    sync::Arc,
};

use rtnetlink::{
    Handle, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
    packet_route::{
        link::{InfoData, InfoVeth},
        neighbour::{NeighbourFlags, NeighbourState},
        route::{RouteScope, RouteType},
    },
};
use tokio::sync::{mpsc, oneshot};

use crate::{
    netlink::{NetworkError, add_address, add_route, hardware, has_ipv6, index, netlink, on_this_thread, refused, set_parameter, set_up},
    nets::{Range, RunNets},
};

/// Addresses of the bridge itself: the first is the gateway, all of them refuse connections. Nothing listens there.
pub const REFUSING: [u8; 3] = [1, 2, 3];
/// The bridge's name in its namespace.
const BRIDGE: &str = "bridge0";
/// The kernel's table of what is local.
const LOCAL_TABLE: u32 = 255;

/// What a run's bridge is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// The run's networks.
    pub nets: RunNets,
    /// Whether pods have IPv6 addresses.
    pub ipv6: bool,
}

/// A pod to be put on the bridge.
pub(crate) struct Attach {
    /// The pod's namespace; its end of the pair appears there as `eth0`, still down.
    pub namespace: Arc<File>,
    /// Name of the bridge's end.
    pub link: String,
    /// The pod's address.
    pub address: Ipv4Addr,
    /// Told when the pair is there.
    pub done: oneshot::Sender<Result<(), NetworkError>>,
}

/// Makes the bridge in this thread's namespace and holds it until nobody can ask for more pods.
pub(crate) fn hold(nets: RunNets, mut requests: mpsc::Receiver<Attach>, up: oneshot::Sender<Result<Shape, NetworkError>>) {
    let shape = Shape { nets, ipv6: has_ipv6() };
    let _ = on_this_thread(async {
        let (handle, bridge) = match make(shape).await {
            Ok(bridge) => {
                let _ = up.send(Ok(shape));
                bridge
            }
            Err(error) => {
                let _ = up.send(Err(error));
                return Ok(());
            }
        };
        while let Some(request) = requests.recv().await {
            let outcome = add_pair(&handle, bridge, shape, &request).await;
            let _ = request.done.send(outcome);
        }
        Ok(())
    });
}

async fn make(Shape { nets, ipv6 }: Shape) -> Result<(Handle, u32), NetworkError> {
    let handle = netlink()?;
    let gateway = nets.pods().host(REFUSING[0]);
    // Of its own, else it would change with the ports, and every change forgets the neighbours.
    refused(handle.link().add(LinkBridge::new(BRIDGE).address(hardware(gateway)).build()).execute().await, "add the bridge")?;
    let bridge = index(&handle, BRIDGE).await?;
    for host in REFUSING {
        add_address(&handle, bridge, nets.pods().host(host).into(), nets.pods().prefix(), "the bridge").await?;
    }
    // Only so that a forbidden address is answered for: there is nothing to forward to.
    set_parameter(&format!("ipv4/conf/{BRIDGE}/forwarding"), "1")?;
    // It stands for many machines, each of which would answer about once a second; what is forbidden is still answered for by one.
    set_parameter("ipv4/icmp_ratelimit", "0")?;
    if ipv6 {
        // Without a link-local address it sends no redirects: pods would follow them to neighbours that cannot hear their question.
        set_parameter(&format!("ipv6/conf/{BRIDGE}/addr_gen_mode"), "1")?;
        set_parameter("ipv6/conf/all/forwarding", "1")?;
        add_address(&handle, bridge, nets.address6(gateway).into(), 64, "the bridge").await?;
    }
    set_up(&handle, "lo").await?;
    set_up(&handle, BRIDGE).await?;
    add_ranges(&handle, nets).await?;
    Ok((handle, bridge))
}

/// Ranges that no pod is in, each as its name says.
async fn add_ranges(handle: &Handle, nets: RunNets) -> Result<(), NetworkError> {
    let lo = index(handle, "lo").await?;
    let route = |range: Range, kind| {
        let net = nets.range(range);
        RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(net.base(), net.prefix()).kind(kind)
    };
    // Every address of it is this machine's, and nothing listens.
    let refusing = route(Range::Refusing, RouteType::Local).table_id(LOCAL_TABLE).scope(RouteScope::Host).output_interface(lo);
    let silent = route(Range::Silent, RouteType::BlackHole);
    let denied = route(Range::Denied, RouteType::Prohibit);
    for (range, route) in [(Range::Refusing, refusing), (Range::Silent, silent), (Range::Denied, denied)] {
        add_route(handle, route.build(), nets.range(range)).await?;
    }
    Ok(())
}

/// Adds the pair, and lets the bridge answer for the pod's address itself: on the networks of real clusters a pod does not hear
/// its neighbours' address resolution, and a sweep over absent addresses would otherwise be a surge of broadcasts in every pod.
async fn add_pair(handle: &Handle, bridge: u32, Shape { nets, ipv6 }: Shape, request: &Attach) -> Result<(), NetworkError> {
    let hardware = hardware(request.address);
    let peer = LinkMessageBuilder::<LinkUnspec>::new().name("eth0").address(hardware.clone());
    let peer = InfoVeth::Peer(peer.setns_by_fd(request.namespace.as_raw_fd()).build());
    let pair = LinkVeth::new(&request.link, "eth0").set_info_data(InfoData::Veth(peer)).controller(bridge).up().build();
    refused(handle.link().add(pair).execute().await, "add a veth pair")?;
    let mut addresses = vec![request.address.into()];
    if ipv6 {
        addresses.push(nets.address6(request.address).into());
    }
    for address in addresses {
        let neighbour = handle.neighbours().add(bridge, address).link_layer_address(&hardware);
        refused(neighbour.execute().await, "name a pod to the bridge")?;
    }
    let port = index(handle, &request.link).await?;
    // Learnt entries age after five minutes, and a pod that only listens would then not be found.
    let forward = handle.neighbours().add_bridge(port, &hardware).state(NeighbourState::Noarp).flags(NeighbourFlags::Controller);
    refused(forward.replace().execute().await, "tell the bridge where a pod is")?;
    let port = LinkBridgePort::new(port).proxy_arp(true).build();
    refused(handle.link().set_port(port).execute().await, "set the flags of a bridge port")
}

/// In the pod's namespace: gives `eth0` its addresses and the way to the run's ranges, and to nothing else.
///
/// No question is ever asked over IPv6: a bridge that answers for addresses floods none (docs/decisions/070), so pods reach each other
/// through it, and both sides know the other's hardware address from the start.
pub(crate) async fn configure_pod(handle: &Handle, Shape { nets, ipv6 }: Shape, address: Ipv4Addr) -> Result<(), NetworkError> {
    let eth0 = index(handle, "eth0").await?;
    let gateway = nets.pods().host(REFUSING[0]);
    add_address(handle, eth0, address.into(), nets.pods().prefix(), "a pod").await?;
    if ipv6 {
        add_address(handle, eth0, nets.address6(address).into(), 128, "a pod").await?;
    }
    set_up(handle, "lo").await?;
    set_up(handle, "eth0").await?;
    let reach: crate::nets::Net = crate::nets::REACH.parse().map_err(|_| NetworkError::NotARange(nets.pods()))?;
    let route = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(reach.base(), reach.prefix()).gateway(gateway);
    add_route(handle, route.build(), reach).await?;
    if ipv6 {
        let gateway6 = nets.address6(gateway);
        let neighbour = handle.neighbours().add(eth0, gateway6.into()).link_layer_address(&hardware(gateway));
        refused(neighbour.execute().await, "name the bridge to a pod")?;
        let to_gateway = RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(gateway6, 128).output_interface(eth0);
        add_route(handle, to_gateway.build(), gateway6).await?;
        let base = nets.address6(nets.pods().base());
        let route = RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(base, 64).gateway(gateway6).output_interface(eth0);
        add_route(handle, route.build(), base).await?;
    }
    Ok(())
}
