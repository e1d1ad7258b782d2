//! etcd-client from the node's network namespace, for the helpers that ask one member.

use std::net::SocketAddr;
use std::time::Duration;

use etcd_client::{Client, ConnectOptions, Error};

use super::pod::Pod;
use super::spec::CLIENT_PORT;

const CONNECT_TIMEOUT: Duration = Duration::from_millis(1000);

/// A client of this member only; it connects with its first call.
pub async fn connect(pod: &Pod) -> Result<Client, String> {
    let address = pod.addresses().first().copied();
    let address = address.ok_or_else(|| format!("{} is not there", pod.name()))?;
    let scheme = pod.spec().scheme;
    let url = format!("{scheme}://{}", SocketAddr::new(address, CLIENT_PORT));
    let options = ConnectOptions::new().with_connect_timeout(CONNECT_TIMEOUT);
    Client::connect([url], Some(options)).await.map_err(|e| format!("{}: {e}", pod.name()))
}

/// Runs calls to one member under a deadline for all of them together.
pub fn with_client<T: Send>(
    pod: &Pod,
    deadline: Duration,
    calls: impl AsyncFnOnce(&mut Client) -> Result<T, Error> + Send,
) -> Result<T, String> {
    let name = pod.name();
    pod.node().netns.run(|| {
        runtime().block_on(async {
            let work = async {
                let mut client = connect(pod).await?;
                calls(&mut client).await.map_err(|e| format!("{name}: {e}"))
            };
            match tokio::time::timeout(deadline, work).await {
                Ok(result) => result,
                Err(_) => Err(format!("{name}: no answer within {deadline:?}")),
            }
        })
    })
}

/// For one thread of the harness.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("failed to build a runtime")
}
