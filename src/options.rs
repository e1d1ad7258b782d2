//! The settings of this program itself: one row each, from which the command line and the reference are made.

/// A setting: a variable, and the option of `run` that goes before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionRow {
    /// The variable.
    pub variable: &'static str,
    /// The option, without dashes.
    pub flag: &'static str,
    /// What its value is; empty for a switch, which takes `=true` and `=false`.
    pub value: &'static str,
    /// What holds where nobody sets it.
    pub default: &'static str,
    /// What it means, in one line.
    pub help: &'static str,
}

macro_rules! options {
    ($($constant:ident $flag:literal $value:literal, $help:literal, $default:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: &str = concat!("BOOTSTRAP_", stringify!($constant));
        )*
        /// Every setting, in the order of the reference.
        pub const OPTIONS: &[OptionRow] = &[
            $(OptionRow { variable: $constant, flag: $flag, value: $value, default: $default, help: $help },)*
        ];
    };
}

options! {
    NAME "name" "NAME", "The member's name", "--name, ETCD_NAME, POD_NAME, HOSTNAME";
    SERVICE "service" "NAME", "The headless service", "SERVICE_NAME";
    NAMESPACE "namespace" "NAME", "The pod's namespace",
        "K8S_NAMESPACE, POD_NAMESPACE, the service account's, resolv.conf's";
    CLUSTER_DOMAIN "cluster-domain" "DOMAIN", "The cluster's DNS domain", "resolv.conf's, else cluster.local";
    INITIAL_CLUSTER_SIZE "initial-cluster-size" "N",
        "How many members found the cluster (the first N ordinals); it need never change afterwards",
        "counted from --initial-cluster, else required";
    ORDINAL_START "ordinal-start" "N", "The StatefulSet's first ordinal", "0";
    DISCOVERY "discovery" "srv|a|static",
        "Where the peers' names come from: SRV records, ordinals, or --initial-cluster alone",
        "srv; static where --initial-cluster is given and no service is known";
    STATE "state" "auto|existing|new",
        "existing: never found a cluster; new: do not wait for silent pods", "auto";
    FORCE_NEW_CLUSTER "force-new-cluster" "POD", "The one pod that may use --force-new-cluster, once", "none";
    JOIN_AS "join-as" "learner|voter", "How a new member is added", "learner; voter for `render`";
    ON_LOST_DATA "on-lost-data" "replace|fail",
        "What to do with an empty disk where the cluster knows this member", "replace";
    ON_REMOVED "on-removed" "rejoin|fail",
        "What to do with data where the cluster has removed this member", "rejoin";
    TIMEOUT "timeout" "DURATION", "How long to wait in all (30s, 5m, or seconds); 0 is for ever",
        "0; 30s for `check`, `promote` and `leave`, 2s for `plan` and `status`";
    STATUS_ADDRESS "status-address" "[IP]:PORT", "Where `sidecar` answers", ":2382";
    ETCD "etcd" "PROGRAM", "The program to become; for `render` and `sidecar` one to ask for etcd's version",
        "/usr/local/bin/etcd; none for `render` and `sidecar`";
    USER "user" "NAME", "etcd's user, where authentication is on", "ETCDCTL_USER";
    PASSWORD_FILE "password-file" "FILE", "The file with the user's password", "ETCDCTL_PASSWORD";
    DNS_SERVER "dns-server" "IP[:PORT]", "A resolver to ask", "resolv.conf's";
    DRY_RUN "dry-run" "", "Print the plan and end", "false";
    HOLD "hold" "", "Stay up and answer, but never prepare, add a member or start etcd", "false";
    LOG "log" "FILTER", "What is logged: a level (error, warn, info, debug, trace) or TARGET=LEVEL, by commas", "info";
    LOG_FORMAT "log-format" "text|json", "How it is logged", "json unless on a terminal";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_has_a_row_for_each_setting() {
        let readme = include_str!("../README.md");
        for OptionRow { variable, flag, .. } in OPTIONS {
            let row = format!("| `{variable}` | `--{flag}` | ");
            assert!(readme.lines().any(|line| line.starts_with(&row)), "the README has no row {row}");
        }
    }
}
