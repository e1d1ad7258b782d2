//! Names and addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{Facts, Finding, Severity, TIMED_OUT, Topic};
use crate::names::PodName;
use crate::observation::{DnsFailure, OwnName, PeerView, Resolution, ServiceRecords, Silence};

const SERVER: &str = "look at the pod's dnsPolicy and at NetworkPolicies on port 53, or set BOOTSTRAP_DNS_SERVER";

pub(super) fn findings(facts: &Facts<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = own_name(facts).into_iter().chain(service(facts)).collect();
    findings.extend(shared_addresses(facts));
    findings.extend(facts.others().filter_map(|(pod, view)| stale(pod, view)));
    if findings.is_empty() {
        findings.push(Finding::ok(Topic::Dns, format!("{} is this pod's", facts.intent.peer_urls[0].host)));
    }
    findings
}

fn finding(facts: &Facts<'_>, what: String, fix: String) -> Finding {
    Finding { severity: facts.severity(TIMED_OUT), topic: Topic::Dns, what, fix }
}

/// What a pod's own record needs, with the fields that make it.
fn published(facts: &Facts<'_>) -> String {
    let service = facts.intent.service.as_deref().unwrap_or("the headless service");
    format!(
        "`{service}` must be the StatefulSet's serviceName and a headless Service with publishNotReadyAddresses: true"
    )
}

fn own_name(facts: &Facts<'_>) -> Option<Finding> {
    let host = &facts.intent.peer_urls[0].host;
    match &facts.seen.dns.own {
        OwnName::Ours => None,
        OwnName::NotAsked => Some(finding(facts, format!("nobody said where {host} is"), SERVER.to_owned())),
        OwnName::Elsewhere(addresses) => {
            let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
            let what = format!("this pod's own name {host} points at {}, which is not this pod", addresses.join(", "));
            Some(finding(facts, what, "wait for DNS; else look for a second pod of this name".to_owned()))
        }
        OwnName::No(failure) => {
            let fix = if failure.is_absent() { published(facts) } else { SERVER.to_owned() };
            Some(finding(facts, format!("this pod's own name {host} does not resolve: {failure}"), fix))
        }
    }
}

fn service(facts: &Facts<'_>) -> Option<Finding> {
    let intent = facts.intent;
    let name = format!("the service {}", intent.service.as_deref().unwrap_or_default());
    match &facts.seen.dns.service {
        ServiceRecords::Static => None,
        ServiceRecords::NotAsked => {
            Some(finding(facts, format!("nobody said which pods {name} has"), SERVER.to_owned()))
        }
        ServiceRecords::Failed(DnsFailure::NxDomain | DnsFailure::NoData) => {
            Some(finding(facts, format!("{name} has no records"), published(facts)))
        }
        ServiceRecords::Failed(failure) => Some(finding(facts, format!("{name}: {failure}"), SERVER.to_owned())),
        ServiceRecords::Pods(named) => {
            let missing: Vec<String> =
                intent.plan.pods().iter().filter(|pod| !named.contains(pod)).map(PodName::to_string).collect();
            if missing.is_empty() {
                return None;
            }
            let what = format!("{name} has no record of the initial members {}", missing.join(", "));
            let lost = named.contains(&intent.pod) || !missing.contains(&intent.pod.to_string());
            let fix = if lost { format!("start those pods; {}", published(facts)) } else { published(facts) };
            Some(finding(facts, what, fix))
        }
    }
}

/// Pods behind one address are no pods of a headless service.
fn shared_addresses(facts: &Facts<'_>) -> Vec<Finding> {
    let mut hosts: BTreeMap<IpAddr, BTreeSet<&str>> = BTreeMap::new();
    for (pod, answer) in &facts.seen.peers {
        let host = answer.url.host.as_str();
        let Some(Resolution::Addresses(addresses)) = facts.seen.dns.hosts.get(host) else { continue };
        for address in addresses.iter().filter(|_| host.parse::<IpAddr>().is_err()) {
            hosts.entry(*address).or_default().insert(pod.as_str());
        }
    }
    let shared = hosts.into_iter().filter(|(_, pods)| pods.len() > 1);
    shared
        .map(|(address, pods)| {
            let pods: Vec<&str> = pods.into_iter().collect();
            let what = format!("{} all resolve to {address}", pods.join(", "));
            Finding {
                severity: Severity::Warning,
                topic: Topic::Dns,
                what,
                fix: "wait for DNS; else make the Service headless (clusterIP: None)".to_owned(),
            }
        })
        .collect()
}

fn stale(pod: &PodName, view: &PeerView) -> Option<Finding> {
    let PeerView::Silent(silence @ Silence::SomebodyElse { .. }) = view else { return None };
    let fix = "wait for DNS to forget the address; else look for who has it now";
    Some(Finding::warning(Topic::Dns, format!("{pod}: {silence}"), fix))
}
