//! Drives `kubectl`; every scenario has a namespace of its own.

pub mod kubectl;
pub mod overlay;
pub mod pods;
pub mod space;
pub mod validator;
#[path = "../../pods/harness/wait.rs"]
pub mod wait;
pub mod writer;
pub mod zones;

pub use kubectl::{docker, kubectl, kubectl_json, node_power};
pub use overlay::{Overlay, stock_image};
pub use pods::{Member, Pod};
pub use space::{Space, cluster, cluster_alone, is_long};
pub use validator::{python3, validator};
pub use wait::{eventually, stays};
pub use writer::Writer;
pub use zones::Zones;

use std::time::Duration;

/// Between two looks: a call of kubectl costs a tenth of a second of CPU.
const PAUSE: Duration = Duration::from_millis(300);

/// Long enough for a busy machine; what is waited for takes seconds.
pub const SOON: Duration = Duration::from_secs(120);
