//! Flags, variables, and the program to become.

use super::{Facts, Finding, Topic};

/// Flags of etcd that give up safety: name, value, what that gives up.
const RISKY: [(&str, &str, &str); 2] = [
    ("unsafe-no-fsync", "true", "acknowledged writes are lost with the node"),
    ("strict-reconfig-check", "false", "etcd takes changes of the membership that cost the quorum"),
];

pub(super) fn findings(facts: &Facts<'_>) -> Vec<Finding> {
    let topic = Topic::Settings;
    let intent = facts.intent;
    let warning = |text: &String| Finding::warning(topic, text, "");
    let mut findings: Vec<Finding> = facts.settings_warnings.iter().map(warning).collect();
    findings.extend(facts.program.as_ref().map(|problem| Finding::of_problem(topic, problem)));
    let risky = RISKY.iter().filter(|(name, value, _)| facts.etcd.get(name) == Some(*value));
    findings.extend(risky.map(|(name, value, what)| {
        Finding::warning(topic, format!("--{name}={value}: {what}"), format!("take --{name} out of the template"))
    }));
    let founders = intent.plan.founders.len();
    if founders > 0 && founders.is_multiple_of(2) {
        let (less, more) = (founders - 1, founders + 1);
        findings.push(Finding::warning(
            topic,
            format!("{founders} initial members survive no more failures than {less}"),
            format!("use {more}"),
        ));
    }
    if intent.force_new_cluster {
        findings.push(Finding::warning(
            topic,
            "BOOTSTRAP_FORCE_NEW_CLUSTER names this pod: all other members are forgotten",
            "take it out of the template once the pod has started",
        ));
    }
    if findings.is_empty() {
        let all =
            format!("{founders} initial members, token {}, cluster {}", intent.plan.token, intent.plan.cluster_id);
        findings.push(Finding::ok(topic, format!("pod {} of {all}", intent.pod)));
    }
    findings
}
