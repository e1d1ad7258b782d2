//! A member's client port; where its URL says https, with the certificate that is mounted.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Channel, Client, ConnectOptions};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::Endpoint;

/// A Secret of cert-manager's.
const FILES: &str = "/certificates";

/// A client of this member only.
pub(crate) async fn connect(endpoint: &str, timeout: Duration) -> Result<Client, Box<dyn Error>> {
    let Some(authority) = endpoint.strip_prefix("https://") else {
        let options = ConnectOptions::new().with_connect_timeout(timeout);
        return Ok(Client::connect([endpoint], Some(options)).await?);
    };
    let (authority, config) = (authority.to_owned(), Arc::new(config()?));
    let connector = tower::service_fn(move |_| open(authority.clone(), config.clone()));
    let channel = Endpoint::from_shared(endpoint.to_owned())?.connect_timeout(timeout);
    Ok(Client::from_channel(Channel::Tonic(channel.connect_with_connector_lazy(connector)), None).await?)
}

/// Read anew for each connection: the files change when the certificate is renewed.
fn config() -> Result<ClientConfig, Box<dyn Error>> {
    let file = |name: &str| Path::new(FILES).join(name);
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(file("ca.crt"))? {
        roots.add(root?)?;
    }
    let chain = CertificateDer::pem_file_iter(file("tls.crt"))?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(file("tls.key"))?;
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

async fn open(authority: String, config: Arc<ClientConfig>) -> std::io::Result<TokioIo<TlsStream<TcpStream>>> {
    let host = authority.rsplit_once(':').map_or(authority.as_str(), |(host, _)| host).to_owned();
    let name = ServerName::try_from(host).map_err(std::io::Error::other)?;
    let tcp = TcpStream::connect(&authority).await?;
    Ok(TokioIo::new(TlsConnector::from(config).connect(name, tcp).await?))
}
