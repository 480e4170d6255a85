//! Whether a run is possible on this machine.

use std::net::Ipv4Addr;

use crate::{cgroups::Cgroups, guard::Net, network::Network};

/// Makes a cgroup and a pod's network, and removes them.
///
/// # Errors
/// What stands in the way.
pub async fn probe() -> anyhow::Result<()> {
    let cgroups = Cgroups::find(&format!("vedette-probe-{}", std::process::id()))?;
    let created = cgroups.create("kubepods");
    let removed = cgroups.remove("").await;
    created?;
    removed?;
    Network::create(Net::slash24(Ipv4Addr::new(10, 213, 0, 0))).await?.pod().await?;
    Ok(())
}
