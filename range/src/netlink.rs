//! Requests to the kernel about the links, addresses and routes of the namespace that the calling thread is in.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

use futures::TryStreamExt;
use rtnetlink::{
    Handle, LinkUnspec, new_connection,
    packet_route::{
        address::{AddressAttribute, AddressFlags},
        route::RouteMessage,
    },
};

use crate::nets::Net;

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
    /// A kernel parameter of the namespace.
    #[error("cannot set {0}: {1}")]
    Parameter(String, std::io::Error),
    /// A link that was just made is not there.
    #[error("link {0} is missing from its namespace")]
    NoLink(String),
    /// More pods than addresses.
    #[error("no address left in {0}")]
    Exhausted(Net),
    /// The network is not one that a run has.
    #[error("{0} is not a /24 inside {block}", block = crate::nets::BLOCK)]
    NotARange(Net),
    /// The thread that holds the bridge ended.
    #[error("the thread that holds the bridge is gone")]
    Gone,
}

/// Runs requests of this thread's namespace to their end.
pub(crate) fn on_this_thread<T>(work: impl Future<Output = Result<T, NetworkError>>) -> Result<T, NetworkError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|source| system("start a runtime", source))?.block_on(work)
}

/// A connection to the kernel in this thread's namespace.
pub(crate) fn netlink() -> Result<Handle, NetworkError> {
    let (connection, handle, _) = new_connection().map_err(|source| system("open a netlink socket", source))?;
    tokio::spawn(connection);
    Ok(handle)
}

/// Whether this thread's namespace has IPv6: not where the kernel has none, or gives namespaces none.
pub(crate) fn has_ipv6() -> bool {
    fs::read_to_string("/proc/sys/net/ipv6/conf/default/disable_ipv6").is_ok_and(|disabled| disabled.trim() == "0")
}

/// Sets a parameter below `/proc/sys/net`, which shows the namespace of the thread that looks.
pub(crate) fn set_parameter(path: &str, value: &str) -> Result<(), NetworkError> {
    fs::write(Path::new("/proc/sys/net").join(path), value).map_err(|error| NetworkError::Parameter(path.to_owned(), error))
}

/// A locally administered hardware address, one per pod.
pub(crate) fn hardware(address: Ipv4Addr) -> Vec<u8> {
    [0x02, 0x00].into_iter().chain(address.octets()).collect()
}

/// Gives a link an address, usable at once: nobody else can have it, and nobody is asked.
pub(crate) async fn add_address(handle: &Handle, link: u32, address: IpAddr, prefix: u8, whose: &str) -> Result<(), NetworkError> {
    let mut request = handle.address().add(link, address, prefix);
    if address.is_ipv6() {
        request.message_mut().attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    refused(request.execute().await, &format!("give {whose} its address"))
}

pub(crate) async fn add_route(handle: &Handle, route: RouteMessage, to: impl std::fmt::Display) -> Result<(), NetworkError> {
    refused(handle.route().add(route).execute().await, &format!("add the route to {to}"))
}

pub(crate) async fn set_up(handle: &Handle, name: &str) -> Result<(), NetworkError> {
    let link = LinkUnspec::new_with_index(index(handle, name).await?).up().build();
    refused(handle.link().set(link).execute().await, &format!("set {name} up"))
}

pub(crate) async fn index(handle: &Handle, name: &str) -> Result<u32, NetworkError> {
    let mut links = handle.link().get().match_name(name.to_owned()).execute();
    let link = refused(links.try_next().await, &format!("look {name} up"))?;
    link.map(|link| link.header.index).ok_or_else(|| NetworkError::NoLink(name.to_owned()))
}

pub(crate) fn refused<T>(outcome: Result<T, rtnetlink::Error>, action: &str) -> Result<T, NetworkError> {
    outcome.map_err(|source| NetworkError::Netlink { action: action.to_owned(), source })
}

pub(crate) fn system(action: &'static str, source: std::io::Error) -> NetworkError {
    NetworkError::System { action, source }
}
