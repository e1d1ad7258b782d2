//! What can be wrong with the DNS server, for all queries or for some.

use std::time::Duration;

use super::{Pod, RecordType, ResponseCode};

/// The server's behaviour instead of the plain answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Code(ResponseCode),
    /// NOERROR without answers.
    NoData,
    /// No answer at all: the client times out.
    Silent,
    /// UDP answers come empty with the TC bit.
    Truncated,
    Delayed(Duration),
}

/// A fault and whom it concerns: everything, unless narrowed down.
#[derive(Clone, Debug)]
pub struct Fault {
    pub(super) effect: Effect,
    client: Option<String>,
    name: Option<String>,
    kind: Option<RecordType>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultId(u32);

impl Fault {
    fn new(effect: Effect) -> Self {
        Self { effect, client: None, name: None, kind: None }
    }

    pub fn servfail() -> Self {
        Self::new(Effect::Code(ResponseCode::ServFail))
    }

    pub fn refused() -> Self {
        Self::new(Effect::Code(ResponseCode::Refused))
    }

    pub fn nxdomain() -> Self {
        Self::new(Effect::Code(ResponseCode::NXDomain))
    }

    pub fn nodata() -> Self {
        Self::new(Effect::NoData)
    }

    pub fn silent() -> Self {
        Self::new(Effect::Silent)
    }

    pub fn truncated() -> Self {
        Self::new(Effect::Truncated)
    }

    pub fn delayed(by: Duration) -> Self {
        Self::new(Effect::Delayed(by))
    }

    /// Only for queries of this pod.
    #[must_use]
    pub fn client(mut self, pod: &Pod) -> Self {
        self.client = Some(pod.name());
        self
    }

    /// Only for names that begin so ("etcd-0.", "_etcd-server.").
    #[must_use]
    pub fn name(mut self, beginning: &str) -> Self {
        self.name = Some(beginning.to_ascii_lowercase());
        self
    }

    /// Only for this record type.
    #[must_use]
    pub fn kind(mut self, kind: RecordType) -> Self {
        self.kind = Some(kind);
        self
    }

    fn concerns(&self, client: &str, name: &str, kind: RecordType) -> bool {
        self.client.as_ref().is_none_or(|wanted| wanted == client)
            && self.name.as_ref().is_none_or(|start| name.starts_with(start))
            && self.kind.is_none_or(|wanted| wanted == kind)
    }
}

#[derive(Default)]
pub(super) struct Faults {
    active: Vec<(FaultId, Fault)>,
    last: u32,
}

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) -> FaultId {
        self.last += 1;
        let id = FaultId(self.last);
        self.active.push((id, fault));
        id
    }

    pub(super) fn remove(&mut self, id: FaultId) {
        self.active.retain(|&(known, _)| known != id);
    }

    pub(super) fn effects(&self, client: &str, name: &str, kind: RecordType) -> Vec<Effect> {
        self.active
            .iter()
            .filter(|(_, fault)| fault.concerns(client, name, kind))
            .map(|(_, fault)| fault.effect)
            .collect()
    }
}
