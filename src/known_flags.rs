//! The flags of etcd 3.4 to 3.7: which there are, what each takes, and which of them every version has.
//!
//! Found by asking 3.4.23, 3.5.16, 3.5.35, 3.6.16 and 3.7.3 themselves, flag by flag: what they say to `--FLAG=zzz`,
//! `=1s`, `=5` and a bare `--FLAG` tells what it takes. `tests/etcd_flags.rs` asks again.

use self::Kind::{Bool, Duration, Ignored, List, Number, Text};

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A boolean in Go's spellings; a bare flag is true, and never takes the next word.
    Bool,
    /// Anything or nothing: a flag of etcd 2 that is accepted and ignored.
    Ignored,
    /// A text.
    Text,
    /// Texts, separated by commas; a sequence in a configuration file.
    List,
    /// An integer.
    Number,
    /// A duration, `1h30m` as a flag and nanoseconds in a configuration file.
    Duration,
}

/// A flag of etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownFlag {
    /// Its name, without dashes.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// Every version has it: given to one that has not, a flag is fatal, where its variable is but warned of.
    pub everywhere: bool,
}

impl KnownFlag {
    /// The variable that etcd reads it from.
    pub fn variable(&self) -> String {
        format!("ETCD_{}", self.name.to_ascii_uppercase().replace('-', "_"))
    }
}

/// The flag of this name.
pub fn known_flag(name: &str) -> Option<&'static KnownFlag> {
    let index = KNOWN_FLAGS.binary_search_by(|flag| flag.name.cmp(name)).ok()?;
    Some(&KNOWN_FLAGS[index])
}

/// The flag that etcd reads from this variable.
pub fn flag_of_variable(variable: &str) -> Option<&'static KnownFlag> {
    let rest = variable.strip_prefix("ETCD_")?;
    known_flag(&rest.to_ascii_lowercase().replace('_', "-")).filter(|flag| flag.variable() == variable)
}

/// Every flag, by name.
pub const KNOWN_FLAGS: &[KnownFlag] = &[
    all("advertise-client-urls", Text),
    all("auth-token", Text),
    all("auth-token-ttl", Number),
    all("auto-compaction-mode", Text),
    all("auto-compaction-retention", Text),
    all("auto-tls", Bool),
    all("backend-batch-interval", Duration),
    all("backend-batch-limit", Number),
    some("backend-bbolt-freelist-type", Text),
    all("bcrypt-cost", Number),
    some("bootstrap-defrag-threshold-megabytes", Number),
    all("cert-file", Text),
    all("cipher-suites", List),
    all("client-cert-allowed-hostname", List),
    all("client-cert-auth", Bool),
    some("client-cert-file", Text),
    all("client-crl-file", Text),
    some("client-key-file", Text),
    all("cluster-active-size", Ignored),
    all("cluster-remove-delay", Ignored),
    all("cluster-sync-interval", Ignored),
    some("compact-hash-check-time", Duration),
    some("compaction-batch-limit", Number),
    some("compaction-sleep-interval", Duration),
    all("config", Ignored),
    all("config-file", Text),
    some("corrupt-check-time", Duration),
    all("cors", Text),
    all("data-dir", Text),
    some("debug", Bool),
    some("discovery", Text),
    some("discovery-cacert", Text),
    some("discovery-cert", Text),
    some("discovery-dial-timeout", Duration),
    some("discovery-endpoints", List),
    all("discovery-fallback", Text),
    some("discovery-insecure-skip-tls-verify", Bool),
    some("discovery-insecure-transport", Bool),
    some("discovery-keepalive-time", Duration),
    some("discovery-keepalive-timeout", Duration),
    some("discovery-key", Text),
    some("discovery-password", Text),
    some("discovery-proxy", Text),
    some("discovery-request-timeout", Duration),
    all("discovery-srv", Text),
    all("discovery-srv-name", Text),
    some("discovery-token", Text),
    some("discovery-user", Text),
    some("distributed-tracing-address", Text),
    some("distributed-tracing-instance-id", Text),
    some("distributed-tracing-sampling-rate", Number),
    some("distributed-tracing-service-name", Text),
    some("downgrade-check-time", Duration),
    all("election-timeout", Number),
    some("enable-distributed-tracing", Bool),
    all("enable-grpc-gateway", Bool),
    some("enable-log-rotation", Bool),
    all("enable-pprof", Bool),
    some("enable-v2", Bool),
    some("experimental-backend-bbolt-freelist-type", Text),
    some("experimental-bootstrap-defrag-threshold-megabytes", Number),
    some("experimental-compact-hash-check-enabled", Bool),
    some("experimental-compact-hash-check-time", Duration),
    some("experimental-compaction-batch-limit", Number),
    some("experimental-compaction-sleep-interval", Duration),
    some("experimental-corrupt-check-time", Duration),
    some("experimental-distributed-tracing-address", Text),
    some("experimental-distributed-tracing-instance-id", Text),
    some("experimental-distributed-tracing-sampling-rate", Number),
    some("experimental-distributed-tracing-service-name", Text),
    some("experimental-downgrade-check-time", Duration),
    some("experimental-enable-distributed-tracing", Bool),
    some("experimental-enable-lease-checkpoint", Bool),
    some("experimental-enable-lease-checkpoint-persist", Bool),
    some("experimental-enable-v2v3", Text),
    some("experimental-initial-corrupt-check", Bool),
    some("experimental-memory-mlock", Bool),
    some("experimental-peer-skip-client-san-verification", Bool),
    some("experimental-snapshot-catchup-entries", Number),
    some("experimental-stop-grpc-service-on-defrag", Bool),
    some("experimental-txn-mode-write-with-shared-buffer", Bool),
    some("experimental-warning-apply-duration", Duration),
    some("experimental-warning-unary-request-duration", Duration),
    some("experimental-watch-progress-notify-interval", Duration),
    some("feature-gates", Text),
    all("force", Ignored),
    all("force-new-cluster", Bool),
    all("grpc-keepalive-interval", Duration),
    all("grpc-keepalive-min-time", Duration),
    all("grpc-keepalive-timeout", Duration),
    all("heartbeat-interval", Number),
    all("host-whitelist", Text),
    all("initial-advertise-peer-urls", Text),
    all("initial-cluster", Text),
    all("initial-cluster-state", Text),
    all("initial-cluster-token", Text),
    all("initial-election-tick-advance", Bool),
    all("key-file", Text),
    some("listen-client-http-urls", Text),
    all("listen-client-urls", Text),
    all("listen-metrics-urls", Text),
    all("listen-peer-urls", Text),
    some("log-format", Text),
    all("log-level", Text),
    all("log-outputs", List),
    some("log-package-levels", Text),
    some("log-rotation-config-json", Text),
    all("logger", Text),
    all("max-concurrent-streams", Number),
    some("max-learners", Number),
    all("max-request-bytes", Number),
    all("max-result-buffer", Ignored),
    all("max-retry-attempts", Ignored),
    all("max-snapshots", Number),
    all("max-txn-ops", Number),
    all("max-wals", Number),
    some("memory-mlock", Bool),
    all("metrics", Text),
    all("name", Text),
    all("peer-auto-tls", Bool),
    all("peer-cert-allowed-cn", List),
    all("peer-cert-allowed-hostname", List),
    all("peer-cert-file", Text),
    all("peer-client-cert-auth", Bool),
    some("peer-client-cert-file", Text),
    some("peer-client-key-file", Text),
    all("peer-crl-file", Text),
    all("peer-election-timeout", Ignored),
    all("peer-heartbeat-interval", Ignored),
    all("peer-key-file", Text),
    some("peer-skip-client-san-verification", Bool),
    all("peer-trusted-ca-file", Text),
    all("pre-vote", Bool),
    some("proxy", Text),
    some("proxy-dial-timeout", Number),
    some("proxy-failure-wait", Number),
    some("proxy-read-timeout", Number),
    some("proxy-refresh-interval", Number),
    some("proxy-write-timeout", Number),
    all("quota-backend-bytes", Number),
    some("raft-read-timeout", Duration),
    some("raft-write-timeout", Duration),
    all("retry-interval", Ignored),
    some("self-signed-cert-validity", Number),
    all("snapshot", Ignored),
    some("snapshot-catchup-entries", Number),
    all("snapshot-count", Number),
    some("socket-reuse-address", Bool),
    some("socket-reuse-port", Bool),
    all("strict-reconfig-check", Bool),
    all("test.coverprofile", Ignored),
    all("test.outputdir", Ignored),
    some("tls-max-version", Text),
    some("tls-min-version", Text),
    all("trusted-ca-file", Text),
    all("unsafe-no-fsync", Bool),
    all("v", Ignored),
    some("v2-deprecation", Text),
    all("version", Bool),
    all("vv", Ignored),
    all("wal-dir", Text),
    some("warning-apply-duration", Duration),
    some("warning-unary-request-duration", Duration),
    some("watch-progress-notify-interval", Duration),
];

const fn all(name: &'static str, kind: Kind) -> KnownFlag {
    KnownFlag { name, kind, everywhere: true }
}

const fn some(name: &'static str, kind: Kind) -> KnownFlag {
    KnownFlag { name, kind, everywhere: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_so_that_it_can_be_searched() {
        assert!(KNOWN_FLAGS.is_sorted_by(|a, b| a.name < b.name));
    }

    #[test]
    fn a_variable_names_its_flag_and_a_service_link_none() {
        assert_eq!(flag_of_variable("ETCD_DATA_DIR").map(|flag| flag.name), Some("data-dir"));
        assert_eq!(flag_of_variable("ETCD_PORT"), None);
        assert_eq!(flag_of_variable("ETCD_data_dir"), None);
        assert_eq!(flag_of_variable("ETCDCTL_USER"), None);
    }
}
