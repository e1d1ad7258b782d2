//! The etcd of this pod, asked at its client port.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::etcd::{Access, CallFailure, Connection, Endpoint, MemberStatus};
use crate::names::{MemberId, Url};
use crate::settings::Settings;

/// How long it may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How soon a port where nobody listens yet is tried again.
const PAUSE: Duration = Duration::from_millis(25);

/// Asks it, over a connection that is kept.
pub struct OwnEtcd {
    endpoint: Endpoint,
    access: Access,
    connection: Option<Connection>,
    last: Option<MemberStatus>,
}

impl OwnEtcd {
    /// Where the settings say that it serves its clients: by its advertised name, at the address it listens on.
    pub fn new(settings: &Settings, access: Access) -> Self {
        let endpoint = endpoint(&settings.intent.client_urls[0], &settings.listen_client_urls);
        Self { endpoint, access, connection: None, last: None }
    }

    /// Asks now.
    ///
    /// # Errors
    /// Why it does not answer.
    pub async fn ask(&mut self) -> Result<(), CallFailure> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(&self.endpoint, &self.access, deadline).await?,
        };
        let status = connection.status(deadline).await;
        self.last = status.as_ref().ok().cloned();
        // What failed is dialled anew.
        self.connection = status.is_ok().then_some(connection);
        status.map(drop)
    }

    /// Waits until it answers: its client port takes connections before it has published itself, and answers after that.
    /// Not where this process may not enter, nor longer than `patience`.
    pub async fn starts_to_serve(&mut self, patience: Duration) {
        let until = Instant::now() + patience;
        while let Err(failure) = self.ask().await {
            if failure.is_rejection() || Instant::now() >= until {
                tracing::debug!(%failure, "the own etcd is not waited for");
                return;
            }
            sleep(PAUSE.mul_f64(rand::random_range(0.75..1.25))).await;
        }
    }

    /// It has ended.
    pub fn forget(&mut self) {
        (self.connection, self.last) = (None, None);
    }

    /// What it said of itself when it answered last; nothing where it did not.
    pub fn last(&self) -> Option<&MemberStatus> {
        self.last.as_ref()
    }

    /// The member that answered last.
    pub fn member_id(&self) -> Option<MemberId> {
        Some(self.last()?.member_id)
    }

    /// It answered last time, and had no vote.
    pub fn is_learner(&self) -> bool {
        self.last().is_some_and(|status| status.is_learner)
    }
}

fn endpoint(advertised: &Url, listen: &[Url]) -> Endpoint {
    let listens = listen.iter().find(|url| url.scheme == advertised.scheme);
    let port = listens.map_or(advertised.port, |url| url.port);
    let addresses = match listens.and_then(|url| url.host.parse::<IpAddr>().ok()) {
        Some(address) if !address.is_unspecified() => vec![address],
        _ => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
    };
    Endpoint { url: Url { port, ..advertised.clone() }, addresses }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_etcd_is_dialled_where_it_listens_by_the_name_that_it_advertises() {
        let advertised: Url = "https://etcd-0.etcd.ns.svc:2379".parse().unwrap();
        let of = |listen: &[&str]| {
            let listen: Vec<Url> = listen.iter().map(|text| text.parse().unwrap()).collect();
            let endpoint = endpoint(&advertised, &listen);
            (endpoint.url.to_string(), endpoint.addresses.len())
        };
        assert_eq!(
            of(&["http://127.0.0.1:1", "https://0.0.0.0:2399"]),
            ("https://etcd-0.etcd.ns.svc:2399".to_owned(), 2)
        );
        assert_eq!(of(&["https://10.0.0.1:2379"]), ("https://etcd-0.etcd.ns.svc:2379".to_owned(), 1));
    }
}
