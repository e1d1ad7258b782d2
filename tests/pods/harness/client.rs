//! etcd-client from the node's network namespace, for the helpers that ask one member.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Channel, Client, ConnectOptions, Error};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::Endpoint;

use super::pod::Pod;
use super::spec::CLIENT_PORT;

const CONNECT_TIMEOUT: Duration = Duration::from_millis(1000);

/// A client of this member only; it connects with its first call.
pub async fn connect(pod: &Pod) -> Result<Client, String> {
    let failed = |e: &dyn std::fmt::Display| format!("{}: {e}", pod.name());
    let address = pod.addresses().first().copied().ok_or_else(|| failed(&"is not there"))?;
    let spec = pod.spec();
    let host = spec.domain_name();
    let endpoint = Endpoint::from_shared(format!("{}://{host}:{CLIENT_PORT}", spec.scheme)).map_err(|e| failed(&e))?;
    let socket = SocketAddr::new(address, CLIENT_PORT);
    let tls = spec.client_tls;
    let connector = tower::service_fn(move |_| open(socket, host.clone(), tls.clone()));
    let channel = endpoint.connect_timeout(CONNECT_TIMEOUT).connect_with_connector_lazy(connector);
    let mut options = ConnectOptions::new();
    if let Some((user, password)) = &spec.user {
        options = options.with_user(user, password).with_auto_token_refresh(true);
    }
    Client::from_channel(Channel::Tonic(channel), Some(options)).await.map_err(|e| failed(&e))
}

trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

async fn open(
    socket: SocketAddr,
    host: String,
    tls: Option<Arc<ClientConfig>>,
) -> std::io::Result<TokioIo<Box<dyn Connection>>> {
    let tcp = TcpStream::connect(socket).await?;
    let Some(config) = tls else { return Ok(TokioIo::new(Box::new(tcp))) };
    let name = ServerName::try_from(host).map_err(std::io::Error::other)?;
    Ok(TokioIo::new(Box::new(TlsConnector::from(config).connect(name, tcp).await?)))
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
