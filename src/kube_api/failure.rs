//! Why the Kubernetes API has not told what it was asked.

use crate::connect::DialError;
use crate::names::PodName;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiFailure {
    /// There is no Kubernetes around this process.
    #[error("KUBERNETES_SERVICE_HOST is not set")]
    NotInKubernetes,
    /// The pod is none of a StatefulSet.
    #[error("the pod's name {0} has no ordinal")]
    NoStatefulSet(PodName),
    /// The service account cannot be read.
    #[error("no service account can be used: {0}")]
    NoAccount(String),
    /// It could not be spoken to.
    #[error("the Kubernetes API at {address} cannot be reached: {reason}")]
    Unreachable {
        /// Host and port.
        address: String,
        /// What the system says.
        reason: String,
    },
    /// No answer in time.
    #[error("the Kubernetes API at {0} did not answer in time")]
    TimedOut(String),
    /// TLS failed.
    #[error("TLS with the Kubernetes API at {address}: {reason}")]
    Tls {
        /// Address and port.
        address: String,
        /// What the library or the API says.
        reason: String,
    },
    /// The token is not taken.
    #[error("the Kubernetes API does not take the service account's token (401)")]
    Unauthorized,
    /// The service account may not.
    #[error("the Kubernetes API forbids it (403): {message}")]
    Forbidden {
        /// What the API says.
        message: String,
        /// What is missing.
        permission: Permission,
        /// Of which StatefulSet.
        set: String,
    },
    /// There is no such StatefulSet.
    #[error("there is no StatefulSet {set} in the namespace {namespace} (404)")]
    NotFound {
        /// Its name: the pod's without the ordinal.
        set: String,
        /// The pod's namespace.
        namespace: String,
    },
    /// Any other refusal.
    #[error("the Kubernetes API answers {status}: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What the API says.
        message: String,
    },
    /// The answer makes no sense.
    #[error("the Kubernetes API's answer to {0}")]
    Unreadable(String),
}

impl ApiFailure {
    /// It may be over in a moment.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut(_) => true,
            Self::Refused { status, .. } => *status == 429 || *status >= 500,
            _ => false,
        }
    }

    /// What an operator can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::NotInKubernetes => "Kubernetes sets it in every container".to_owned(),
            Self::NoStatefulSet(_) => "set POD_NAME from fieldRef metadata.name".to_owned(),
            Self::NoAccount(_) => {
                "let the pod's spec have serviceAccountName, and no automountServiceAccountToken: false".to_owned()
            }
            Self::Unreachable { .. } | Self::TimedOut(_) => {
                "look for a NetworkPolicy that forbids egress to the Kubernetes API".to_owned()
            }
            Self::Tls { .. } => {
                "the API server's certificate has to be signed by ca.crt in the service account's volume".to_owned()
            }
            Self::Unauthorized => "the token is void, or of another cluster: restart the pod".to_owned(),
            Self::Forbidden { permission, set, .. } => {
                format!("bind the service account to a Role with the rule {}", permission.rule(set))
            }
            Self::NotFound { .. } => {
                "it is being deleted, or it does not carry the pod's name without the ordinal".to_owned()
            }
            Self::Refused { .. } | Self::Unreadable(_) => "look at the API server".to_owned(),
        }
    }
}

impl From<DialError> for ApiFailure {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Tls { address, reason } => Self::Tls { address, reason },
            DialError::TimedOut { address } => Self::TimedOut(address),
            DialError::Refused { address } => Self::Unreachable { address, reason: "connection refused".to_owned() },
            DialError::Unreachable { address, reason } => Self::Unreachable { address, reason },
        }
    }
}

/// What a question needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    pub(super) verb: &'static str,
    pub(super) group: &'static str,
    pub(super) resource: &'static str,
}

impl Permission {
    /// As it stands in a Role; a list cannot be limited to names.
    fn rule(&self, set: &str) -> String {
        let names = if self.verb == "list" { String::new() } else { format!("resourceNames: [{set}], ") };
        format!("{{apiGroups: [\"{}\"], resources: [{}], {names}verbs: [{}]}}", self.group, self.resource, self.verb)
    }
}
