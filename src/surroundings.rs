//! What the settings are read from besides the command line: the environment, and a few files of the pod.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::cli::Invocation;
use crate::exit::{Exit, Fatal};
use crate::local::{self, LocalAddresses};
use crate::settings::{self, Settings, SettingsError, Surroundings};

/// Where resolv.conf is.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Resolves the settings of this process.
///
/// # Errors
/// A setting that is missing, wrong or contradictory; nothing was touched yet.
pub fn settings(given: &Invocation, env: &BTreeMap<String, String>) -> Result<Settings, SettingsError> {
    let addresses = LocalAddresses::now();
    let read_file = |path: &Path| fs::read_to_string(path);
    let surroundings = Surroundings {
        hostname: local::hostname().unwrap_or_default(),
        working_dir: std::env::current_dir().unwrap_or_default(),
        resolv_conf: fs::read_to_string(RESOLV_CONF).ok(),
        service_account: SERVICE_ACCOUNT.into(),
        service_account_namespace: fs::read_to_string(Path::new(SERVICE_ACCOUNT).join("namespace")).ok(),
        read_file: &read_file,
        has_ipv4: addresses.has_ipv4(),
        has_ipv6: addresses.has_ipv6(),
    };
    settings::resolve(given, env, &surroundings)
}

impl From<SettingsError> for Fatal {
    fn from(error: SettingsError) -> Self {
        Self::new(Exit::of_code(error.exit_code), error.message).hint(error.hint)
    }
}
