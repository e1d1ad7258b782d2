//! The two servers of a pod that waits; each is bound as soon as its port is free.

use crate::exit::{Exit, Fatal};
use crate::http_server::{BindError, Server};

/// What is bound, and what is not yet.
#[derive(Default)]
pub(super) struct Servers {
    roll_call: Option<Server>,
    probes: Option<Server>,
    in_the_way: Option<BindError>,
}

impl Servers {
    /// Binds what is not bound yet. A port that an ending etcd still holds is tried again at the next turn.
    pub(super) fn listen(
        &mut self,
        roll_call: impl FnOnce() -> Result<Server, BindError>,
        probes: impl FnOnce() -> Result<Server, BindError>,
    ) -> Result<(), Fatal> {
        self.in_the_way = None;
        if self.roll_call.is_none() {
            self.roll_call = self.unless_transient(roll_call())?;
        }
        if self.probes.is_none() {
            self.probes = self.unless_transient(probes())?;
        }
        Ok(())
    }

    pub(super) fn has_peer_port(&self) -> bool {
        self.roll_call.is_some()
    }

    /// Why one of them was not bound.
    pub(super) fn in_the_way(&self) -> Option<&BindError> {
        self.in_the_way.as_ref()
    }

    pub(super) async fn close(self) {
        for server in [self.roll_call, self.probes].into_iter().flatten() {
            server.close().await;
        }
    }

    fn unless_transient(&mut self, bound: Result<Server, BindError>) -> Result<Option<Server>, Fatal> {
        match bound {
            Ok(server) => Ok(Some(server)),
            Err(error) if error.reason.is_transient() => {
                tracing::debug!(%error, "the port is not free yet");
                self.in_the_way = Some(error);
                Ok(None)
            }
            Err(error) => Err(Fatal::new(Exit::Config, error.to_string()).hint(error.hint)),
        }
    }
}
