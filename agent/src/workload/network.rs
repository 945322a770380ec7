//! The way into a workload's network.

use std::{io, sync::Arc};

use tokio::net::TcpStream;

use super::helper::Helper;
use crate::inside;

/// A workload's network: connects to ports on its loopback.
pub struct Network(Way);

enum Way {
    /// A process of the host.
    Host,
    /// A container, through the helper in it.
    Container(Arc<Helper>),
    /// Every port is this one of the host.
    #[cfg(test)]
    Stand(u16),
}

impl Network {
    /// The host's own.
    pub(super) fn host() -> Self {
        Self(Way::Host)
    }

    /// A container's.
    pub(super) fn container(helper: Arc<Helper>) -> Self {
        Self(Way::Container(helper))
    }

    /// A network where every port is `port` of this machine.
    #[cfg(test)]
    pub(super) fn stand(port: u16) -> Self {
        Self(Way::Stand(port))
    }

    /// Connects to `port` on the workload's 127.0.0.1, then on its ::1. The helper in a container is started anew when
    /// it is gone, or when the container has been restarted since. Dropping the future leaves nothing half done.
    ///
    /// # Errors
    /// The connect's own; `NotConnected` when there is no way into the container.
    pub async fn dial(&self, port: u16) -> io::Result<TcpStream> {
        match &self.0 {
            Way::Host => inside::dial_loopback(port).await,
            Way::Container(helper) => helper.dial(port).await,
            #[cfg(test)]
            Way::Stand(stand) => inside::dial_loopback(*stand).await,
        }
    }
}
